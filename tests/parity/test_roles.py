"""Features of roles on the default model against naive float64 NumPy and live transformers.

Nothing of the package's mathematics is used: every formula is written again, neuron by neuron, head
by head, token by token.
"""

import collections

import numpy as np
import pytest

from jaxanatomy import weights
from jaxanatomy.data.text import Text
from jaxanatomy.forensics.layer_features import fingerprints, layer_features
from jaxanatomy.forensics.roles import coupling
from jaxanatomy.interventions.variants import baseline
from jaxanatomy.measures.readings import probe
from jaxanatomy.study import tokenise
from jaxanatomy.sweep import Sweep

pytestmark = pytest.mark.real
RELATIVE = 1e-3
HEADS, WIDTH = 9, 64
TEXT = Text("probe", ("The cat saw the cat and the dog.", "Rain fell, and rain fell again."))


@pytest.fixture(scope="module")
def checkpoint():
    return weights.load(weights.DEFAULT_MODEL)


def stored(block):
    """The matrices as PyTorch has them, (out, in), and the scales, in float64."""
    attention, mlp = block["attention"], block["mlp"]
    found = {name: module["kernel"].T for name, module in (*attention.items(), *mlp.items())}
    found |= {name: block[name]["scale"] for name in ("attention_norm", "mlp_norm")}
    return {name: array.astype(np.float64) for name, array in found.items()}


def naive_spectrum(W):
    s = np.linalg.svd(W, compute_uv=False)
    p = s / s.sum()
    rank = np.exp(-sum(x * np.log(x) for x in p if x > 0))
    values, best, alphas = np.sort(s**2), (np.inf, 0.0, 0), {}
    for i in range(len(values) - 1):
        tail = values[i:]
        alpha = alphas[len(tail)] = 1 + len(tail) / np.log(tail / tail[0]).sum()
        law = 1 - (tail / tail[0]) ** (1 - alpha)
        best = min(best, (np.abs(law - np.arange(len(tail)) / len(tail)).max(), alpha, len(tail)))
    near = [alpha for n, alpha in alphas.items() if best[2] / 2 <= n <= 2 * best[2]]
    return {
        "effective_rank": rank,
        "spectral_norm": s[0],
        "frobenius_norm": np.sqrt((W * W).sum()),
        "largest_weight": np.abs(W).max(),
        "alpha": best[1],
        "alpha_error": (best[1] - 1) / np.sqrt(best[2]),
        "alpha_span": max(near) - min(near),
        "alpha_tail": best[2],
        "alpha_distance": best[0],
    }


def naive_clusters(gate, up, down):
    """Neurons by six numbers, k-means from equal groups along the first principal axis."""
    points = []
    for g, u, d in zip(gate, up, down.T, strict=True):
        norms = [np.sqrt(x @ x) for x in (g, u, d)]
        pairs = ((g, u, 0, 1), (g, d, 0, 2), (u, d, 1, 2))
        points.append([*np.log(norms), *(x @ y / (norms[i] * norms[j]) for x, y, i, j in pairs)])
    x = np.array(points)
    x = (x - x.mean(0)) / x.std(0)
    _, _, axes = np.linalg.svd(x, full_matrices=False)
    groups = np.array_split(np.argsort(x @ axes[0]), 8)
    label = np.empty(len(x), int)
    for number, members in enumerate(groups):
        label[members] = number
    for _ in range(100):
        centres = [x[label == c].mean(0) for c in sorted(set(label))]
        distances = np.array([((x - centre) ** 2).sum(1) for centre in centres])
        new = distances.argmin(0)
        if (new == label).all():
            break
        label = new
    shares = [count / len(x) for count in collections.Counter(label.tolist()).values()]
    return {
        "ffn_clusters": sum(share >= 0.01 for share in shares),
        "ffn_cluster_entropy": -sum(share * np.log(share) for share in shares),
    }


def naive_prints(W):
    """Each head's profile over the residual stream: reading, then writing."""
    prints = []
    for head in range(HEADS):
        rows = slice(WIDTH * head, WIDTH * (head + 1))
        parts = []
        for profile in (
            np.sqrt((W["q_proj"][rows] ** 2).sum(0)),
            np.sqrt((W["o_proj"][:, rows] ** 2).sum(1)),
        ):
            centred = profile - profile.mean()
            parts.append(centred / np.sqrt(2 * centred @ centred))
        prints.append(np.concatenate(parts))
    return prints


def naive_layer(W):
    size = np.array(
        [
            np.sqrt(gate @ gate) * np.sqrt(up @ up)
            for gate, up in zip(W["gate_proj"], W["up_proj"], strict=True)
        ]
    )
    median = np.median(size)
    deviation = 1.4826 * np.median(abs(size - median))
    found = {
        "co_magnitude_cv": size.std() / size.mean(),
        "saturated": sum(size > size.mean() + 3 * size.std()),
        "saturated_share": sum(size > size.mean() + 3 * size.std()) / len(size),
        "saturated_robust": sum(size > median + 3 * deviation),
        "peak_over_mean": size.max() / size.mean(),
        "peak_robust": (size.max() - median) / deviation,
    }
    found |= naive_clusters(W["gate_proj"], W["up_proj"], W["down_proj"])
    attention = ("q_proj", "k_proj", "v_proj", "o_proj")
    matrices = (*attention, "gate_proj", "up_proj", "down_proj")
    energy = {name: (W[name] ** 2).sum() for name in matrices}
    for metric, of in (
        ("attention_share_energy", lambda name: energy[name]),
        ("attention_share_norm", lambda name: np.sqrt(energy[name])),
        ("attention_share_parameters", lambda name: W[name].size),
    ):
        found[metric] = sum(map(of, attention)) / sum(map(of, matrices))
    found["attention_imbalance"] = abs(found["attention_share_energy"] - 0.5)
    gate, up, down = (np.sqrt(energy[name]) for name in matrices[4:])
    found["down_over_gate_up"] = down / ((gate + up) / 2)
    sizes = []
    for head in range(HEADS):
        rows = slice(WIDTH * head, WIDTH * (head + 1))
        sizes.append(np.sqrt((W["q_proj"][rows] ** 2).sum() + (W["o_proj"][:, rows] ** 2).sum()))
    found["head_spread"] = np.std(sizes) / np.mean(sizes)
    prints = naive_prints(W)
    alike = [prints[a] @ prints[b] for a in range(HEADS) for b in range(HEADS) if a != b]
    found["head_diversity"] = 1 - np.mean(alike)
    return found


@pytest.mark.parametrize("layer", [0, 11, 23, 28])
def test_features_of_weights_are_the_naive_ones(checkpoint, layer):
    block = checkpoint.params["layers"][layer]
    W, found = stored(block), layer_features(block, WIDTH)
    expected = {("", metric): value for metric, value in naive_layer(W).items()}
    for name, array in W.items():
        if array.ndim == 2:
            expected |= {(name, metric): each for metric, each in naive_spectrum(array).items()}
            continue
        size = abs(array)
        expected[name, "gamma_mean"] = size.mean()
        expected[name, "gamma_concentration"] = array.std() / size.mean()
        expected[name, "damped_share"] = np.mean(size < np.median(size) / 2)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=RELATIVE), key


def test_coupling_is_the_naive_one(checkpoint):
    layers = [checkpoint.params["layers"][layer] for layer in (3, 9, 20)]
    prints = [naive_prints(stored(block)) for block in layers]
    found_LL = coupling([fingerprints(block, WIDTH) for block in layers])
    for a in range(3):
        for b in set(range(3)) - {a}:
            best = [max(own @ other for other in prints[b]) for own in prints[a]]
            assert found_LL[a, b] == pytest.approx(np.mean(best), rel=RELATIVE)


def test_the_figures_of_the_issue(checkpoint):
    """The least effective rank of o_proj is L23's, 363; the CV of L28 is 1.336."""
    ranks = []
    for block in checkpoint.params["layers"]:
        s = np.linalg.svd(stored(block)["o_proj"], compute_uv=False)
        ranks.append(np.exp(-(s / s.sum() * np.log(s / s.sum())).sum()))
    found = [
        layer_features(checkpoint.params["layers"][layer], WIDTH)["o_proj", "effective_rank"]
        for layer in (22, 23, 24)
    ]
    assert np.argmin(ranks) == 23
    assert found == pytest.approx(ranks[22:25], rel=RELATIVE)
    assert found[1] == pytest.approx(363, abs=0.5)
    last = layer_features(checkpoint.params["layers"][28], WIDTH)
    assert last["", "co_magnitude_cv"] == pytest.approx(1.336, abs=5e-4)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:transformers")
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_features_of_a_probe_are_those_of_live_transformers(checkpoint, tmp_path):
    torch = pytest.importorskip("torch", reason="needs the [parity] extra")
    import transformers

    weights.export_hf(checkpoint, tmp_path / "model")
    llama = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    sums, tokens = collections.defaultdict(lambda: np.zeros(30)), collections.Counter()
    for document in TEXT.documents:
        ids = checkpoint.tokenizer.encode(document)
        parts = collections.defaultdict(list)
        handles = [
            module.register_forward_hook(
                lambda m, a, out, key=key, parts=parts: parts[key].append(
                    (out[0] if isinstance(out, tuple) else out)[0].double().numpy()
                )
            )
            for layer in llama.model.layers
            for key, module in (("a", layer.self_attn), ("m", layer.mlp), ("h", layer))
        ]
        with torch.no_grad():
            out = llama(torch.tensor([ids]), output_attentions=True)
        for handle in handles:
            handle.remove()
        embedded = llama.model.embed_tokens(torch.tensor([ids]))[0].detach().double().numpy()
        before = [embedded, *parts["h"][:-1]]
        for t in range(1, len(ids)):
            copies = [s for s in range(1, t + 1) if ids[s - 1] == ids[t]]
            tokens["all"] += 1
            tokens["copies"] += bool(copies)
            for layer in range(30):
                weight_T = out.attentions[layer][0].double().mean(0)[t].numpy()
                h, a, m = before[layer][t], parts["a"][layer][t], parts["m"][layer][t]
                after, norm = parts["h"][layer][t], np.linalg.norm
                for name, value in {
                    "sink_mass": weight_T[0],
                    "copy_density": weight_T[copies].sum(),
                    "write_attention": norm(a),
                    "write_mlp": norm(m),
                    "write_total": norm(a + m),
                    "write_relative": norm(a + m) / norm(h),
                    "activation_alignment": h @ after / (norm(h) * norm(after)),
                }.items():
                    sums[name][layer] += value
    assert tokens["copies"] >= 3
    plain = [baseline(30)]
    sweep = Sweep(checkpoint.config, plain, tokenise(checkpoint, TEXT), probe.READINGS)
    sweep.place(checkpoint.params)
    rows = probe.probe_rows(sweep.run(0), plain, text="probe")
    assert len(rows) == 7 * 30
    for row in rows:
        count = tokens["copies" if row["metric"] == "copy_density" else "all"]
        expected = sums[row["metric"]][row["layer"]] / count
        assert row["value"] == pytest.approx(expected, rel=RELATIVE), (row["metric"], row["layer"])
