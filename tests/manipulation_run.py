"""Rows and summary of a made-up manipulation run, with effects of every size."""

import hashlib
import itertools
import math

BASELINE_PPL = 20.0
TOKENS = [25, 35]
ALPHAS = (0.0, 0.5, 0.9, 1.1)
PLAIN = ("zero", "clone", "clone_high", "clone_with_norms", "blend_2", "blend_4", "predicted")
RANKS = ("full", "half", 8)
PAIRED = ("zero", "clone", "blend_4")
# A model of six layers; its first and last are worth 40 times the others.
SETS = {"measured": [1, 3, 4], "paper": [0, 1, 3, 5], "paper_inner": [1, 3]}
LEAST = {f"least_{k}": [3, 1, 4][:k] for k in (1, 2, 3)}
PAIRS = {f"{a},{b}": [a, b] for a, b in itertools.combinations(SETS["paper"], 2)}
HARM = {"zero": 30.0, "clone": 60.0, "low_rank": 45.0, "own_svd": 8.0, "neighbour_mean": 5.0}


def weight_of(layers):
    return sum(40.0 if layer in (0, 5) else 1.0 for layer in layers)


def make_row(strategy, set_name, layers, degradation, dose=None, text="sentences"):
    """A sweep row; `degradation` None makes one that is not finite."""
    takes_rank = strategy in ("low_rank", "own_svd")
    name = f"{strategy}{'' if dose is None else f'_{dose}'}/set/{set_name}"
    ppl = None if degradation is None else BASELINE_PPL * (1 + degradation / 100)
    mean = None if ppl is None else math.log(ppl)
    row = {
        "hash": hashlib.sha256(f"{name} {text}".encode()).hexdigest()[:16],
        "variant": name,
        "strategy": strategy,
        "alpha": None if takes_rank else dose,
        "rank": dose if takes_rank else None,
        "set": set_name,
        "layers": list(layers),
        "nll": mean and sum(TOKENS) * mean,
        "tokens": sum(TOKENS),
        "unit_nll": [mean and tokens * mean for tokens in TOKENS],
        "unit_tokens": TOKENS,
        "ppl": ppl,
        "degradation_percent": degradation,
        "ci95": None if ppl is None else [degradation - 4.0, 1.4 * abs(degradation) + 4.0],
        "ppl_without_first": ppl,
        "degradation_percent_without_first": degradation and 0.9 * degradation,
        "text": text,
    }
    return row if ppl is not None else row | {"reason": "the mean NLL is too large for exp"}


def make_baseline(text="sentences"):
    row = make_row("none", None, [], 0.0, text=text)
    return row | {"variant": "baseline", "ci95": None}


def make_text(text="sentences", pairs=True):
    """Every strategy on every set that the experiment would measure."""
    rows = [make_baseline(text)]
    sets = {**SETS, **(LEAST if pairs else {})}
    for set_name, layers in sets.items():
        weight = weight_of(layers)
        for alpha, strategy in itertools.product(ALPHAS, ("scale", "scale_output")):
            size = 300 if strategy == "scale" else 150
            effect = size * weight * (1 - alpha) ** 2 - (2.0 if alpha == 1.1 else 0.0) * 5
            rows.append(make_row(strategy, set_name, layers, effect, alpha, text))
        for index, strategy in enumerate(PLAIN):
            effect = HARM.get(strategy, 10.0 * (index + 1)) * weight
            rows.append(make_row(strategy, set_name, layers, effect, text=text))
        for index, (rank, name) in enumerate(itertools.product(RANKS, ("low_rank", "own_svd"))):
            effect = HARM[name] * weight * (1 + index)
            rows.append(make_row(name, set_name, layers, effect, rank, text))
    for layer in range(1, 5):
        rows.append(make_row("neighbour_mean", str(layer), [layer], 5.0 * layer, text=text))
    if pairs:
        for strategy, (name, layers) in itertools.product(PAIRED, PAIRS.items()):
            effect = HARM.get(strategy, 20.0) * weight_of(layers) ** 2
            rows.append(make_row(strategy, name, layers, effect, text=text))
        rows += make_noise(text)
    return rows


def make_noise(text="sentences"):
    """Nested random sets under noise of 1 and 5 %: the effect grows as layers ** 1.5."""
    rows = []
    for alpha, seed in itertools.product((0.01, 0.05), (0, 1)):
        size = 2000 * alpha**2 * (1 + 0.1 * seed)
        order = [(5 * layer + seed) % 6 for layer in range(6)]
        sets = {f"random_{k}_s{seed}": (order[:k], size * k**1.5) for k in (1, 2, 4, 6)}
        sets |= {str(layer): ([layer], size * (1 + layer)) for layer in range(6)}
        for name, (layers, effect) in sets.items():
            row = make_row("perturb", name, sorted(layers), effect, alpha, text)
            variant = row["variant"].replace("/", f"#{seed}/" if seed else "/", 1)
            own = hashlib.sha256(f"{variant} {text}".encode()).hexdigest()[:16]
            rows.append(row | {"hash": own, "variant": variant, "seed": seed, "count": len(layers)})
    return rows


def make_attention():
    """Rows of kind "attention": the shift is the alpha itself, a tenth more at each layer."""
    rows = []
    for component, layer, alpha, seed, spread in itertools.product(
        ("q_proj", "k_proj"), range(6), (0.01, 0.1, None), (0, 1), ("local", "propagated")
    ):
        shift = (alpha or 0.6) * (1 + 0.1 * layer) * (1 + 0.2 * (seed - 0.5))
        shift *= 1.1 if spread == "propagated" else 1.0
        row = {"hash": f"{component}{layer}{alpha}{seed}{spread}", "kind": "attention"}
        row |= {"component": component, "layer": layer, "alpha": alpha, "seed": seed}
        rows.append(row | {"total_variation": shift, "argmax_changed": shift / 3, "spread": spread})
    return rows


def make_rows():
    """Two texts, the second with the main sets only, and rows of both kinds."""
    temperature = {
        "hash": "t",
        "kind": "temperature",
        "variant": "zero/set/paper",
        "strategy": "zero",
    }
    temperature |= {"set": "paper", "layers": [0, 1, 3, 5], "alpha": None, "text": "sentences"}
    return [*make_text(), *make_text("paragraphs", pairs=False), temperature, *make_attention()]


def make_summary():
    """The parts of summary.json that the report reads."""
    shift = {
        "total_variation": 0.012,
        "argmax_changed": 0.004,
        "propagated_total_variation": 0.013,
        "propagated_argmax_changed": 0.005,
    }
    full = {name: 50 * value for name, value in shift.items()}
    calibration = {
        "variant": "scale_1.1/measured",
        "text": "paragraphs",
        "fit_text": "sentences",
        "degradation_percent": -7.0,
        "ci95": [-11.0, -2.0],
        "degradation_percent_calibrated": -0.5,
        "ci95_calibrated": [-2.0, 1.0],
        "explained_by_calibration": True,
        "baseline_temperature": 1.11,
        "temperature": 1.02,
    }
    stays = calibration | {"variant": "zero/set/least_1", "explained_by_calibration": False}
    return {
        "texts": {"sentences": {}, "paragraphs": {}},
        "sets": {**SETS, **LEAST},
        "calibration": [calibration, stays],
        "compounding": {
            "0.01": {
                "seeds": 8,
                "ratio_all_to_sum": 2.4,
                "ratio_ci95": [2.0, 2.9],
                "exponent": 1.5,
                "exponent_ci95": [1.4, 1.6],
                "degradation_all_percent": 3.0,
                "by_count": {"1": 0.2, "6": 3.0},
            }
        },
        "attention": {
            name: {"0.01": shift, "0.1": shift, "matched_noise": full}
            for name in ("q_proj", "k_proj")
        },
    }
