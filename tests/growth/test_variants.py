"""Growth as variants: the sweep gives what the grown parameters give."""

import numpy as np
import pytest
from naive import CONFIG, naive_nll, random_params, text

from jaxanatomy.errors import InputError
from jaxanatomy.growth.apply import grow, grown_config
from jaxanatomy.growth.maps import GrowthMap, growth_map
from jaxanatomy.growth.variants import growth_steps, growth_variants, null_maps
from jaxanatomy.interventions.variants import baseline, closed
from jaxanatomy.measures.readings.nll import nll
from jaxanatomy.sweep import Sweep


def test_a_sweep_of_maps_equals_grown_parameters():
    params, batch = random_params(CONFIG), text()
    variants, absent = growth_variants(CONFIG, "lidas", 1, 7, draws=2)
    assert absent == {}
    sweep = Sweep(CONFIG, variants, [batch], {"nll": nll})
    sweep.place(params)
    readings = sweep.run(0)
    unchanged = readings["nll"]["baseline"]
    for name in ("midas", "lidas", "stack_top", "stack_last", "insert_zero"):
        growth = growth_map(name, 5, 1, 7)
        config, (grown, _) = grown_config(CONFIG, growth), grow(growth, params)
        expected = naive_nll(config, grown, baseline(7).steps, batch)
        found = readings["nll"][f"grow/{name}"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert np.array_equal(found, unchanged) == (name == "insert_zero")


def test_names_and_labels():
    variants, absent = growth_variants(CONFIG, "lidas", 2, 7, draws=2)
    assert [variant.name for variant in variants] == [
        "baseline",
        "grow/lidas",
        "grow/stack_top",
        "grow/stack_last",
        "grow/insert_zero",
        "random_layers/0",
        "random_layers/1",
        "random_order/0",
        "random_order/1",
        "random_place/0",
        "random_place/1",
    ]
    assert list(absent) == ["midas"]
    assert "divides its layers" in absent["midas"]
    assert variants[1].labels == {"operator": "lidas", "draw": None, "layers": [2, 3]}
    assert [step.layer for step in variants[1].steps] == [0, 1, 2, 3, 2, 3, 4]
    factors = [step.factors for step in variants[4].steps]
    assert factors[3:6] == [(), closed("attention", "mlp"), closed("attention", "mlp")]
    with pytest.raises(InputError, match="divides its layers"):
        growth_variants(CONFIG, "midas", 2, 7, draws=2)


def test_nulls_keep_the_places_and_the_number_of_new_layers():
    variants, _ = growth_variants(CONFIG, "lidas", 2, 9, draws=20, seed=3)
    growth = growth_map("lidas", 5, 2, 9)
    by_name = {variant.name: variant for variant in variants}
    places = set(range(9)) - set(growth.inserted)
    for name in ("random_layers", "random_order"):
        drawn = [by_name[f"{name}/{draw}"] for draw in range(20)]
        for variant in drawn:
            layers = [step.layer for step in variant.steps]
            assert [layers[at] for at in sorted(places)] == [0, 1, 2, 3, 4]
            assert [layers[at] for at in growth.inserted] == variant.labels["layers"]
            assert not any(step.factors for step in variant.steps)
        assert len({variant.steps for variant in drawn}) > 3
    own = [growth.sources[at] for at in growth.inserted]
    for draw in range(20):
        assert sorted(by_name[f"random_order/{draw}"].labels["layers"]) == sorted(own)
        assert by_name[f"random_order/{draw}"].labels["layers"] != own
    anywhere = {x for draw in range(20) for x in by_name[f"random_layers/{draw}"].labels["layers"]}
    assert anywhere == {0, 1, 2, 3, 4}


def test_blocks_anywhere_are_copied_after_themselves():
    runs = {
        sources: layers
        for draw in range(40)
        for sources, layers in [null_maps(growth_map("lidas", 5, 2), 2, 40)["random_place"][draw]]
    }
    assert runs == {(*range(start + 2), *range(start, 5)): (start, start + 1) for start in range(4)}
    (twice, layers), *_ = null_maps(growth_map("stack_top", 3, 1, 5), 1, 1)["random_place"]
    assert len(twice) == 5 == len(layers) + 3
    assert twice == tuple(sorted(twice))
    assert set(twice) == {0, 1, 2}
    assert null_maps(growth_map("stack_top", 2, 5), 5, 1)["random_place"] == []


def test_draws_depend_on_the_seed_alone_and_one_copy_has_no_other_order():
    growth = growth_map("lidas", 5, 2)
    assert null_maps(growth, 2, 3, seed=1) == null_maps(growth, 2, 3, seed=1)
    assert null_maps(growth, 2, 3, seed=1) != null_maps(growth, 2, 3, seed=2)
    fewer = null_maps(growth, 2, 2, seed=1)
    assert all(drawn[:2] == fewer[name] for name, drawn in null_maps(growth, 2, 3, seed=1).items())
    assert null_maps(growth_map("lidas", 5, 1), 1, 3)["random_order"] == []
    assert null_maps(growth_map("stack_last", 5, 1, 8), 1, 3)["random_order"] == []


def test_silent_layers_are_closed():
    steps = growth_steps(GrowthMap((0, 1, 0), zero=True))
    assert [(step.layer, bool(step.factors)) for step in steps] == [
        (0, False),
        (1, False),
        (0, True),
    ]
