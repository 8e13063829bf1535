"""Which layers are chosen, from literal rows; what the plan says of them."""

import math

import numpy as np
import pytest
from naive import CONFIG

from jaxanatomy.errors import InputError
from jaxanatomy.measures import decoding_speed, pruning, pruning_summary
from jaxanatomy.measures.proxies import PROXIES
from jaxanatomy.measures.statistics.estimates import paired_difference, spearman

DAMAGE = {0: 9.0, 1: 0.3, 2: 0.1, 3: 0.2, 4: None}  # None: not finite, the worst


def loss(layers, nll, kind="removal"):
    layers = list(layers)
    return {"kind": kind, "layers": layers, "size": len(layers), "nll": nll, "tokens": 1}


def rows(greedy=()):
    found = [loss([], 0.0, "baseline"), *(loss([layer], nll) for layer, nll in DAMAGE.items())]
    found += [loss([start, start + 1], 4.0 - start) for start in range(4)]
    for name in PROXIES:
        sign = -1 if name == "block_influence" else 1
        for start, size in pruning.runs_of(5, [2]):
            value = sign * float(start + size)
            labels = {"kind": "proxy", "proxy": name, "start": start, "size": size}
            found.append(
                {**labels, "value": None if name == "lens_change" and start < 2 else value}
            )
    return found + list(greedy)


def test_each_way_chooses_by_its_own_cost():
    greedy = [loss((0, 2), 1.5, "greedy"), loss((2, 4), 7, "greedy")]
    found = pruning.choices(rows(greedy), [1, 2], 5, random_orders=1)
    assert found["one_shot", 1] == found["greedy", 1] == (2,)
    assert found["one_shot", 2] == (2, 3)  # the two cheapest, each alone
    assert found["greedy", 2] == (0, 2)  # the cheapest with 2 gone
    assert found["contiguous", 2] == (3, 4)
    assert found["contiguous", 1] == (2,)
    assert found["block_influence", 2] == (3, 4)
    assert found["angular_distance", 2] == (0, 1)
    assert found["angular_distance_run", 2] == (0, 1)
    assert found["lens_change", 2] == (2, 3)  # what is not known is left in
    assert len(found["random_s0", 2]) == 2
    assert {*found["random_s0", 1]} < {*found["random_s0", 2]}
    assert {way for way, _ in found} == {"random_s0", *pruning.WAYS} - {"random_sK"}


def test_greedy_rounds_follow_what_is_measured():
    assert pruning.greedy_order(rows())[:1] == [2]
    variants = pruning.greedy_round(CONFIG, rows(), 2)
    assert [variant.labels["layers"] for variant in variants] == [[0, 2], [1, 2], [2, 3], [2, 4]]
    # Runs of layers stand among the removals: 1 and 2 cost 3, 2 and 3 cost 2.
    second = [loss((0, 2), 1.5, "greedy"), loss((2, 4), 7, "greedy")]
    assert pruning.greedy_order(rows(second)) == [2, 0]
    assert pruning.greedy_order(rows([loss((0, 2), 2.5, "greedy")])) == [2, 3]
    third = pruning.greedy_round(CONFIG, rows(second), 3)
    assert [variant.labels["layers"] for variant in third] == [[0, 1, 2], [0, 2, 3], [0, 2, 4]]
    # A round that was lost in part is asked for again in full, whatever came after it.
    again = pruning.greedy_round(CONFIG, rows([*second, loss((0, 2, 3), 1, "greedy")]), 2)
    assert [each.name for each in again] == [each.name for each in variants]


def test_names_are_those_that_export_takes():
    variant = pruning.without(CONFIG, (4, 0, 1), "plan")
    assert variant.name == "cut/set/0,1,4"
    assert [step.layer for step in variant.steps] == [2, 3]


@pytest.mark.parametrize("given", ["", "0", "5", "1-9", "2,2", "one"])
def test_sizes_that_do_not_fit_are_refused(given):
    with pytest.raises(InputError, match=r"sizes|numbers"):
        pruning.parse_sizes(CONFIG, given)


def test_sizes_come_in_order():
    assert pruning.parse_sizes(CONFIG, "3,1-2") == [1, 2, 3]
    assert pruning.runs_of(3, [2]) == [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2)]


TOKENS = [9, 12, 7, 10, 11, 8]


def judged(way, size, shift, seed):
    tokens = np.array(TOKENS)
    sums = 30.0 + (shift + np.random.default_rng(seed).normal(0, 0.02, len(tokens))) * tokens
    return {
        "kind": "plan",
        "way": way,
        "size": size,
        "layers": list(range(size)),
        "variant": f"cut/set/{way}",
        "nll": sums.sum(),
        "ppl": math.exp(sums.sum() / tokens.sum()),
        "bytes_saved": 40 * size,
        **dict.fromkeys(("degradation_percent", "ci95", "kl", "kl_ci95")),
        "unit_nll": sums.tolist(),
        "unit_kl": (abs(shift) * tokens).tolist(),
        "unit_tokens": TOKENS,
    }


def test_the_plan_stands_beside_random_choices():
    shifts = (1.0, 1.1, 1.5, 1.16)
    drawn = [judged(f"random_s{seed}", 2, shift, seed) for seed, shift in enumerate(shifts)]
    one = judged("greedy", 2, 0.1, 9)
    other = judged("one_shot", 2, 1.1, 10)
    found = pruning_summary.plan([judged("none", 0, 0.0, 8), one, other, *drawn])
    by_way = {row["way"]: row for row in found}
    assert "none" not in by_way
    assert "random_beaten" not in by_way["random_s0"]
    assert (by_way["greedy"]["random_beaten"], by_way["greedy"]["random_orders"]) == (4, 4)
    level = 1 - 0.05 / (2 * 4)  # two ways, four orders
    beaten = [paired_difference(each, other, level).low > 0 for each in drawn]
    assert by_way["one_shot"]["random_beaten"] == sum(beaten)
    assert 0 < sum(beaten) < 4
    assert sum(paired_difference(each, other).low > 0 for each in drawn) > sum(beaten)


def test_the_audit_looks_at_each_length_twice_without_the_ends():
    rng = np.random.default_rng(0)
    depth, tokens = 14, np.array(TOKENS)
    worth = rng.uniform(0.1, 2.0, depth)
    worth[0], worth[-1] = 9.0, 8.0

    def measured(kind, layers, cost, **labels):
        noise = rng.normal(0, 0.01, len(tokens))
        sums = {name: ((cost + noise) * tokens).tolist() for name in ("unit_nll", "unit_kl")}
        row = {"kind": kind, "layers": layers, "size": len(layers), "unit_tokens": TOKENS}
        return row | sums | labels

    found = [measured("baseline", [], 0.0)]
    for start, size in pruning.runs_of(depth, [2]):
        cost = worth[start : start + size].sum()
        found.append(measured("removal", list(range(start, start + size)), cost))
        for name in PROXIES:
            value = {"block_influence": cost, "earliness": -start}.get(name, rng.uniform())
            labels = {"kind": "proxy", "proxy": name, "start": start, "size": size, "value": value}
            if name == "block_influence":
                labels |= {"unit_value": (value * tokens).tolist(), "unit_tokens": TOKENS}
            found.append(labels)
    audit = pruning_summary.audit(found)
    by_look = {(row["proxy"], row["size"], row["damage"], row["ends"]): row for row in audit}
    assert len(by_look) == len(audit) == len(PROXIES) * 2 * 4
    for look in [row for row in audit if row["proxy"] == "block_influence"]:
        assert look["verdict"] == "trusted"
        assert look["spearman"] > 0.98
    inner = by_look["earliness", 2, "kl", False]
    cuts = [row for row in found if row["kind"] == "removal" and row["size"] == 2]
    kept = [row for row in cuts if row["layers"][0] > 0 and row["layers"][1] < depth - 1]
    assert len(kept) == 11
    starts, costs = zip(*((-row["layers"][0], sum(row["unit_kl"])) for row in kept), strict=True)
    assert inner["spearman"] == pytest.approx(spearman(np.array(starts), np.array(costs)))
    assert inner["verdict"] == "not trusted"


def test_seconds_are_for_a_token_and_saved_in_the_same_round(monkeypatch):
    # Prompt and writing of three models in three rounds, the first of which compiles.
    times = iter([9, 9, 9, 9, 9, 9, 0.4, 4.0, 0.3, 3.0, 0.1, 1.0, 0.4, 8.0, 0.2, 2.0, 0.1, 6.0])
    monkeypatch.setattr(decoding_speed, "_measure", lambda *_: (next(times), next(times)))
    variants = [pruning.unchanged(CONFIG)]
    variants += [pruning.without(CONFIG, layers, "plan") for layers in ((1,), (1, 3))]
    found = decoding_speed.seconds_rows(CONFIG, {}, variants, range(90), 2, None)
    assert [row["size"] for row in found] == [0, 1, 2]
    assert found[0]["decode_seconds"] == 6
    assert found[1]["decode_seconds_range"] == [2, 3]
    assert found[1]["prompt_seconds"] == pytest.approx(0.25)
    assert found[0]["decode_seconds_saved_percent"] == 0
    assert found[1]["decode_seconds_saved_percent_range"] == [25, 75]
    assert found[2]["decode_seconds_saved_percent"] == pytest.approx((75 + 25) / 2)
    assert {row["rounds"] for row in found} == {2}
    # Writing is a difference of two times: where one is below 0, no more is known.
    times = iter([9, 9, 9, 9, 9, 9, 0.4, 4.0, 0.3, -3.0, 0.1, 1.0, 0.4, 8.0, 0.2, 2.0, 0.1, 6.0])
    short = decoding_speed.seconds_rows(CONFIG, {}, variants, range(90), 2, None)[1]
    assert (short["decode_seconds"], short["decode_seconds_saved_percent"]) == (None, None)
    assert short["prompt_seconds"] == pytest.approx(0.25)
    assert (found[0]["prompt_tokens"], found[0]["written_tokens"]) == (32, 31)
