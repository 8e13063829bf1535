"""Names of interventions, and interventions of the user's own."""

import jax
import numpy as np
import pytest

from jaxanatomy import tree
from jaxanatomy.errors import InputError
from jaxanatomy.interventions.cells import ablations
from jaxanatomy.interventions.intervention import custom
from jaxanatomy.interventions.registry import choose_intervention, describe_interventions
from jaxanatomy.interventions.scopes import all_scopes


def blend(own, previous, following):
    return jax.tree.map(lambda a, b, c: a / 2 + b / 4 + c / 4, own, previous, following)


def test_listing_says_where_each_exists():
    lines = dict(describe_interventions())
    assert lines["copy_previous"] == "copy of the layer before (every layer but the first)"
    assert lines["copy_next"].endswith("(every layer but the last)")
    assert lines["neighbour_mean"].endswith("(every layer, boundary at the ends)")
    assert lines["zero"].endswith("(every layer)")
    assert "scale_ALPHA" in lines
    assert all(help and "\n" not in help for help in lines.values())


def test_scopes_of_a_model_have_help(naive):
    scopes = all_scopes(naive.config)
    assert list(scopes) == ["layer", "attention", "mlp", *tree.MATRICES,
                            "head_0", "head_1", "head_2", "head_3"]  # fmt: skip
    assert all(scopes.values())


@pytest.mark.parametrize(("name", "alpha"), [("scale_0.9", 0.9), ("scale_1", 1.0), ("scale_0", 0)])
def test_scale_takes_its_factor_from_the_name(naive, name, alpha):
    variant = ablations(naive.config, [name], layers=[1])[1]
    assert variant.name == f"{name}/layer/1"
    assert variant.steps[1].edit.arguments == (("alpha", alpha),)


def test_scaled_output_scales_what_the_layer_writes(naive):
    """Of one sublayer, that is: the MLP of a whole layer also reads a changed input."""
    block, x_TD = naive.blocks[1], naive.x_TD
    steps = ablations(naive.config, ["scale_output_0.25"], ["attention"], layers=[1])[1].steps
    quiet = [naive.with_zeros(b, tree.MATRICES) for b in naive.blocks]
    quiet[1] = naive.with_zeros(block, tree.MLP)
    written = naive.run(steps, quiet, x_TD) - x_TD
    np.testing.assert_allclose(written, (naive.block(quiet[1], x_TD) - x_TD) / 4, atol=1e-12)


def test_a_function_of_ones_own_becomes_an_intervention(naive):
    own = custom("blend", blend, help="half itself, a quarter of each neighbour")
    variants = ablations(naive.config, ["zero", own], layers=[0, 2])
    assert [v.name for v in variants] == [
        "baseline", "zero/layer/0", "zero/layer/2", "blend/layer/2",
    ]  # fmt: skip
    edit = variants[3].steps[2].edit
    assert (edit.function, edit.sources, edit.scope) == (blend, (1, 3), tree.MATRICES)
    changed = list(naive.blocks)
    mixed = {
        name: sum(w * tree.get(naive.blocks[i], name) for i, w in ((1, 0.25), (2, 0.5), (3, 0.25)))
        for name in tree.MATRICES
    }
    changed[2] = tree.replace(naive.blocks[2], mixed)
    expected = naive.run(ablations(naive.config)[0].steps, changed, naive.x_TD)
    found = naive.run(variants[3].steps, naive.blocks, naive.x_TD)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_own_intervention_may_read_other_layers_and_go_to_the_ends(naive):
    skip_copy = custom("skip_copy", lambda own, *others: others[0], sources=(-2,))
    ends = custom("ends", lambda own, *others: others[0], at_ends=True)
    assert [v.labels["layer"] for v in ablations(naive.config, [skip_copy])[1:]] == [2, 3, 4]
    assert [v.labels["boundary"] for v in ablations(naive.config, [ends])[1:]] == [
        True, False, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: custom("a/b", blend), "may hold letters"),
        (lambda: custom("a", "blend"), "needs a function of blocks; got str"),
        (lambda: custom("a", blend, sources=(0, 1)), "offsets"),
        (lambda: choose_intervention(custom("zero", blend)), "belongs to a built-in"),
        (lambda: choose_intervention("scal_0.9"), "did you mean 'scale_ALPHA'"),
    ],
)
def test_what_cannot_be_an_intervention_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
