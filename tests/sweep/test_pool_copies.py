"""A call writes its streams into the pool where it lies: no compiled program copies the pool."""

import re

import naive
import pytest

from jaxanatomy.config import ModelConfig
from jaxanatomy.interventions.variants import Step, Variant, baseline
from jaxanatomy.measures.readings import ready
from jaxanatomy.sweep import Sweep, SweepOptions

CONFIG = ModelConfig.uniform(3, 4, 2, 24, vocab_size=50, hidden_size=16, head_dim=4)


@pytest.mark.parametrize("points", [False, True])
def test_no_program_copies_the_pool(points):
    variants = [baseline(3)] + [Variant(f"without/{n}", (Step(n),)) for n in range(3)]
    read = ready.contributions() if points else {"losses": ready.losses()}
    sweep = Sweep(CONFIG, variants, [naive.text(rows=2)], read, SweepOptions())
    sweep.compile()
    slots = sweep.pool_bytes // (naive.text(rows=2).token_RT.size * CONFIG.hidden_size * 4)
    texts = {key: program.as_text() for key, program in sweep._programs.items()}
    applied = {key[2]: text for key, text in texts.items() if key[0] == "apply"}
    assert 1 in applied
    for text in applied.values():
        assert re.search(rf"f32\[{slots},2,\d+,16\]\S* (fusion|scatter|dynamic-update)", text)
        assert not re.search(rf"f32\[{slots},2,\d+,16\]\S* copy\(", text)
