"""The papers: what they are called, and the figures that they print (`tables.json`)."""

import dataclasses

from jaxanatomy.papers.tables import NEAR, find, is_near, paper_table, table1, table1_of

__all__ = ["NEAR", "PAPERS", "Paper", "find", "is_near", "paper_table", "table1", "table1_of"]


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper.

    Attributes:
      key: How claims cite it.
      title: Its title.
      authors: As printed.
      year: Of publication; None where the text has none.
    """

    key: str
    title: str
    authors: str
    year: int | None


PAPERS = (
    Paper(
        "AH",
        "Anatomical Heterogeneity in Transformer Language Models",
        "Tomasz Wietrzykowski",
        2026,
    ),
    Paper(
        "DG",
        "Do Depth-Grown Models Overcome the Curse of Depth? An In-Depth Analysis",
        "anonymous, under double-blind review",
        None,
    ),
    Paper(
        "LR", "Emergent Layer Roles and Functional Specialization", "not named in the text", None
    ),
    Paper(
        "LD",
        "Transformers, parallel computation, and logarithmic depth (arXiv 2402.09268)",
        "Clayton Sanford, Daniel Hsu and Matus Telgarsky",
        2024,
    ),
    Paper(
        "ZO",
        "Scaling depth capacity via zero/one-layer model expansion (arXiv 2511.04981)",
        "Zhiqi Bu",
        2025,
    ),
    Paper(
        "CS",
        "Do Language Models Use Their Depth Efficiently? (arXiv 2505.13898)",
        "Róbert Csordás, Christopher D. Manning and Christopher Potts",
        2025,
    ),
    Paper(
        "GL",
        "From Growing to Looping: A Unified View of Iterative Computation in LLMs "
        "(arXiv 2602.16490)",
        "Ferdinand Kapl, Emmanouil Angelis, Kaitlin Maile, Johannes von Oswald and Stefan Bauer",
        2026,
    ),
)
