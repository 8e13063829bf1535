"""The order of calls in literal lists, and the way back against `jax.vjp`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from naive import CONFIG, random_params, text

from jaxanatomy.sweep import programs
from jaxanatomy.sweep.compilation import text_inputs
from jaxanatomy.train.recovery.programs import reversible_block
from jaxanatomy.train.recovery.tape import TapeCall, in_widths, tape_calls


def test_streams_join_above_their_layers():
    calls = tape_calls([[0, 0, 2]], num_layers=4, widths=(2, 1))
    assert calls == [
        TapeCall(1, ((0, 1),)),
        TapeCall(2, ((0, 1),)),
        TapeCall(3, ((0, 1),)),
        TapeCall(3, ((2,),)),
    ]


def test_lanes_go_together_and_the_shorter_one_pads():
    calls = tape_calls([[0, 1, None], [1, None, None]], num_layers=3, widths=(2, 1))
    assert calls == [
        TapeCall(1, ((0,), (-1,))),
        TapeCall(2, ((0, 1), (0, -1))),
    ]


@pytest.mark.parametrize("widths", [(1,), (2, 1), (9, 6, 4, 2, 1)])
def test_every_stream_goes_once_through_every_layer_above_its_own(widths):
    trained = [0, 1, 3, 5, 8, 10, 11, 14, 17, 23, 24, 27, 29]
    calls = tape_calls([trained], num_layers=30, widths=widths)
    done = [(call.layer, slot) for call in calls for slot in call.slots[0] if slot >= 0]
    expected = {(layer, slot) for slot, own in enumerate(trained) for layer in range(own + 1, 30)}
    assert len(done) == len(expected) == sum(29 - own for own in trained) == 205
    assert set(done) == expected
    assert [call.layer for call in calls] == sorted(call.layer for call in calls)


def test_stopped_replicas_have_no_calls():
    assert tape_calls([[None, 2]], num_layers=4, widths=(2, 1)) == [TapeCall(3, ((1,),))]
    assert tape_calls([[None, None]], num_layers=4, widths=(2, 1)) == []


def test_padding_is_weighed_against_another_call():
    assert [len(part[0]) for part in in_widths([range(13)], (9, 6, 4, 2, 1))] == [9, 4]
    assert in_widths([[5, 6, 7]], (4, 1)) == [((5, 6, 7, -1),)]


def test_a_way_back_keeps_no_weights_and_is_the_gradient():
    params, batch = random_params(CONFIG), text(rows=1)
    block = reversible_block(CONFIG, CONFIG.layers[0], jnp.float32)
    x_XRTD, arrays = programs.prepare(CONFIG, 1, params, *text_inputs(batch))
    x_CRTD = jnp.concatenate([x_XRTD, 2 * x_XRTD])
    dy_CRTD = jnp.cos(jnp.arange(x_CRTD.size, dtype=jnp.float32)).reshape(x_CRTD.shape)
    fixed = (params["layers"][0], arrays)

    y_CRTD, kept = jax.jit(block.forward)(fixed, x_CRTD)
    dx_CRTD = jax.jit(block.back)(fixed, kept, dy_CRTD)

    def apply(x_CRTD):
        return programs.apply_block(CONFIG, CONFIG.layers[0], jnp.float32, *split(x_CRTD))

    def split(x_CRTD):
        return fixed[0], x_CRTD, fixed[1]

    expected_y, pull = jax.vjp(jax.jit(apply), x_CRTD)
    np.testing.assert_allclose(y_CRTD, expected_y, rtol=0, atol=1e-5)
    np.testing.assert_allclose(dx_CRTD, pull(dy_CRTD)[0], rtol=0, atol=1e-5)
    weights = {leaf.shape for leaf in jax.tree.leaves(fixed)}
    assert not weights & {leaf.shape for leaf in kept}
