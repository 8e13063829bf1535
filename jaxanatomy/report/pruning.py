"""The page of pruning: which proxies may be trusted, what the plan costs, what it saves."""

from jaxanatomy.measures.proxies import PROXIES
from jaxanatomy.measures.proxy_audit import BETTER, ERROR, STRONG, TRUSTED
from jaxanatomy.measures.pruning import RANDOM, REMOVAL
from jaxanatomy.ranges import write_ranges
from jaxanatomy.records import RunRecord
from jaxanatomy.report import style
from jaxanatomy.report import views as v
from jaxanatomy.report.common import EFFECT, PPL, estimate, joined, median_range
from jaxanatomy.report.sections import Page, Section
from jaxanatomy.words import label, perplexity, shortened

RANDOM_WAY = "random"
MEASURED = ("greedy", "one_shot", "contiguous")
COLOURS = {
    "greedy": style.INK,
    "one_shot": "#0072B2",
    "contiguous": "#009E73",
    "block_influence": "#D55E00",
    "angular_distance": "#CC79A7",
    "angular_distance_run": "#CC79A7",
    "contribution_norm": "#E69F00",
    "lens_change": "#56B4E9",
    "effective_rank": "#8C5A3C",
    "heavy_tail": "#4B3F8F",
    "co_magnitude_cv": "#AE2320",
    "earliness": "#5F7D3A",
    RANDOM_WAY: "#9AA3AB",
}
NAMES = {way: label(way) for way in COLOURS}
NAMES |= {"co_magnitude_cv": "co-magnitude CV", "angular_distance_run": "angular distance, a run"}
LOOKS = {
    ("nll", True): "log perplexity",
    ("nll", False): "log perplexity, inner layers",
    ("kl", True): "KL",
    ("kl", False): "KL, inner layers",
}
MIB = 2**20


def correlations(record: RunRecord) -> list[v.Row]:
    """Every rank correlation: a panel for each damage, with and without the ends."""
    return [
        {
            "panel": LOOKS[look["damage"], look["ends"]],
            "proxy": NAMES[look["proxy"]],
            "size": look["size"],
            "spearman": look["spearman"],
            "is_trusted": look["verdict"] == TRUSTED,
        }
        for look in record.summary.get("audit", [])
        if look["spearman"] is not None
    ]


def verdicts(record: RunRecord) -> list[v.Row]:
    """A row for each proxy: single layers, and for which lengths of cuts it may be trusted."""
    found: dict[str, v.Row] = {}
    sizes: dict[tuple[str, str], set[int]] = {}
    for look in record.summary.get("audit", []):
        name = NAMES[look["proxy"]]
        sizes.setdefault((name, look["verdict"]), set()).add(look["size"])
        if look["size"] == 1:
            labels = {"proxy": name, "verdict": look["verdict"]}
            error = {"error": look["error"]} if "error" in look else {}
            row = found.setdefault(name, labels | error)
            field = f"{look['damage']}_{'all' if look['ends'] else 'inner'}"
            row[field] = estimate(look["spearman"], look["ci"])
            row[f"{field}_p"] = look["p"]
    for name, row in found.items():
        for verdict in (TRUSTED, BETTER):
            row[verdict] = write_ranges(sorted(sizes.get((name, verdict), ()))) or "–"
    return list(found.values())


def single_layers(record: RunRecord) -> list[v.Row]:
    """The damage of every single layer by its rank among proxies, a panel for each proxy."""
    found = []
    single = [row for row in record.rows if row.get("size") == 1]
    damage = {row["layers"][0]: row["kl"] for row in single if row["kind"] == REMOVAL}
    named = {0, len(damage) - 1, *sorted(damage, key=lambda layer: -(damage[layer] or 0.0))[:3]}
    for name in PROXIES:
        own = [row for row in single if row.get("proxy") == name and row["value"] is not None]
        for rank, row in enumerate(sorted(own, key=lambda row: row["value"]), start=1):
            layer = row["start"]
            labels = {"panel": NAMES[name], "look": "point", "rank": rank, "kl": damage[layer]}
            found.append(labels | ({"name": f"L{layer}"} if layer in named else {}))
    return found


def costs(record: RunRecord) -> list[v.Row]:
    """Perplexity and KL by way and number of layers, beside random choices; in two panels."""
    rows = _by_way(record)
    return [
        {**row, "panel": panel, "dashed": row["way"] == "angular_distance_run"}
        for panel, shown in (
            ("chosen by measured damage", (*MEASURED, RANDOM_WAY)),
            ("chosen by a proxy", tuple(w for w in COLOURS if w not in ("one_shot", "contiguous"))),
        )
        for row in rows
        if row["way"] in shown
    ]


def cheapest(record: RunRecord) -> list[v.Row]:
    """Of each number of layers the choice of the lowest perplexity, beside random ones."""
    random = {row["size"]: row["ppl"] for row in _by_way(record) if row["way"] == RANDOM_WAY}
    found: dict[int, v.Row] = {}
    for row in plan(record):
        beside = {"random": random[row["size"]]} if row["size"] in random else {}
        found.setdefault(row["size"], row | beside)
    return list(found.values())


def _by_way(record: RunRecord) -> list[v.Row]:
    """Every way by number of layers; random choices as their median and range."""
    plan = record.summary.get("plan", [])
    rows = [
        {"way": way, "size": row["size"], "ppl": row["ppl"], "kl": row["kl"]}
        for way in COLOURS
        for row in plan
        if row["way"] == way
    ]
    for size in sorted({row["size"] for row in plan}):
        own = [row for row in plan if row["way"].startswith(RANDOM) and row["size"] == size]
        if own:
            spread = {f: median_range([row[f] for row in own]) for f in ("ppl", "kl")}
            rows.append({"way": RANDOM_WAY, "size": size, **spread})
    return rows


def plan(record: RunRecord) -> list[v.Row]:
    """Every choice with what it costs and saves, the cheapest of each number of layers first."""
    rows = [
        {
            **joined(row),
            "way": NAMES[row["way"]],
            "mib": row["bytes_saved"] / MIB,
            "beaten": f"{row.get('random_beaten', 0)} of {row.get('random_orders', 0)}",
        }
        for row in record.summary.get("plan", [])
        if not row["way"].startswith(RANDOM)
    ]
    return sorted(rows, key=lambda row: (row["size"], row["ppl"] is None, row["ppl"] or 0.0))


def seconds(record: RunRecord) -> list[v.Row]:
    """Seconds a token by number of layers left out, and what is saved."""
    return list(map(joined, record.summary.get("seconds", [])))


def lead(record: RunRecord) -> str:
    """What chose, and what judged."""
    found = []
    for done, role in (("chosen", "selection"), ("judged", "judgement")):
        text = shortened(str(record.config.get(f"{role}_text")))
        units = record.summary.get(role, {}).get("units")
        found.append(f"{done} on {text}" + (f" ({units} documents or blocks)" if units else ""))
    return f"Layers {' and '.join(found)}."


def plan_headline(record: RunRecord) -> str | None:
    """What the unchanged model scores on the text that chose nothing."""
    judged = record.summary.get("judgement")
    return judged and f"The unchanged model's perplexity is {perplexity(judged['ppl'])}."


def _correlation(head: str, field: str) -> v.Column:
    return v.Column(head, field, "+.2f", null="no order")


SIZE = v.Axis("size", "layers left out")
TRUST = v.Table(
    "proxies",
    verdicts,
    "Rank correlation of each proxy with the damage of leaving single layers out",
    cells=(
        v.Column("proxy", "proxy"),
        v.Column("verdict", "verdict"),
        v.Column("trusted for cuts of", TRUSTED),
        v.Column("better than chance for", BETTER),
        _correlation("with log perplexity, inner layers", "nll_inner"),
        v.Column("p", "nll_inner_p", ".3f", null="too few layers"),
        _correlation("with KL, inner layers", "kl_inner"),
        v.Column("p", "kl_inner_p", ".3f", null="too few layers"),
        _correlation("with KL, all layers", "kl_all"),
        v.Column("its own error / its spread over layers", "error", ".2f", null="undefined"),
    ),
    note=(
        f"Intervals over documents, together {1 - ERROR:.0%} for all proxies. p: how often the "
        "best of all proxies agrees as well when they are turned around the depth of the model. "
        f"Trusted: p at most {ERROR:g} and the whole interval above {STRONG:g}, for both readings "
        "of the damage, with and without the ends; each length by itself. A proxy that does no "
        "better than earliness says no more than how deep a layer lies. Its own error: the "
        "standard error of what is fitted, of heavy tail (alpha − 1) / √n; near 1 the order of "
        "layers is noise."
    ),
    printed=True,
)
MAP = v.Heatmap(
    "proxy_correlations",
    correlations,
    columns=2,
    x=v.Axis("size", "layers of a cut"),
    y=v.Axis("proxy", scale="names"),
    cell=v.Axis("spearman", "rank correlation", "diverging"),
    dot="is_trusted",
    caption="Cuts of n layers that follow one another. A dot: trusted for that length.",
)
SCATTER = v.Curves(
    "proxy_scatter",
    single_layers,
    columns=4,
    x=v.Axis("rank", "rank of the proxy"),
    y=v.Axis("kl", "KL, nats a token", "log"),
    dashes=v.Dashes("look", {"point": ""}),
    write="name",
    size=(2.9, 2.5),
    caption="A point for each layer, left out alone; named: the first, the last, the three worst.",
)
PLAN = v.Curves(
    "plan",
    costs,
    columns=2,
    x=SIZE,
    y=(
        v.Axis("ppl", "perplexity", "log", holds=0.75),
        v.Axis("kl", "KL to the unchanged model, nats a token", "log"),
    ),
    series=v.Palette("way", COLOURS, NAMES),
    dashes=v.Dashes("dashed", {True: "--"}),
    band="y",
    size=(4.8, 3.4),
    caption="On the text that chose nothing. Random: the median of some orders; band: their range.",
)
CHOICE = (
    v.Column("layers", "size", "d"),
    v.Column("chosen by", "way"),
    v.Column("variant", "variant"),
    PPL,
    EFFECT,
    v.Column("KL, nats (95 %)", "kl", ".3f"),
    v.Column("MiB saved (float32)", "mib", ".1f"),
)
BEST = v.Table(
    "cheapest",
    cheapest,
    "Of each number of layers the choice of the lowest perplexity",
    cells=(*CHOICE, v.Column("random: median [range]", "random", perplexity)),
    note=(
        "Chosen on one text, judged on another; which way is the cheapest is seen on the latter, "
        "so the cheapest may look cheaper than it is. "
        "To export: python -m experiments.export --config=configs/export.py --workdir=DIR "
        "--config.variants=VARIANT."
    ),
    printed=True,
)
CHOICES = v.Table(
    "choices",
    plan,
    "All choices",
    cells=(*CHOICE, v.Column("random choices that cost more", "beaten")),
    note=(
        "Each interval by itself. Random choices that cost more: told apart by intervals over "
        "documents that pay for all ways and orders."
    ),
    folded=True,
)
SECONDS = v.Table(
    "seconds",
    seconds,
    "Measured time for a token",
    cells=(
        v.Column("layers left out", "size", "d"),
        v.Column("writing, s [range]", "decode_seconds", ".5f", null="too short"),
        v.Column("saved, %", "decode_seconds_saved_percent", "+.1f", null="too short"),
        v.Column("reading, s [range]", "prompt_seconds", ".5f", null="too short"),
        v.Column("saved, %", "prompt_seconds_saved_percent", "+.1f", null="too short"),
    ),
    note=(
        "Medians over rounds in which the models take turns; ranges are the fastest and the "
        "slowest round, not intervals. One text at a time, on the device of this run."
    ),
    printed=True,
)

PAGE = Page(
    "Pruning",
    lead,
    Section("Which proxies may be trusted", TRUST, MAP, SCATTER),
    Section("A plan", plan_headline, PLAN, BEST, CHOICES),
    Section("What it saves", SECONDS),
)
