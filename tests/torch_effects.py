"""Effects of layers by hooks on a live model of transformers: the oracle of tests/parity.

What is erased, and how a change is measured, are written again here from the text of DG appendix
B: prompt by prompt, one forward pass for each source and boundary. Needs torch.
"""

import contextlib
import functools

import pytest

torch = pytest.importorskip("torch", reason="needs the [parity] extra")


def first(output):
    return output[0] if isinstance(output, tuple) else output


def with_first(output, new):
    return (new, *output[1:]) if isinstance(output, tuple) else new


def watched(llama, ids):
    """Runs a prompt: what each layer reads and adds, [T, D] each, and the distribution [T, V]."""
    inputs, added = [], []

    def after(module, arguments, output):
        inputs.append(arguments[0][0].clone())
        added.append((first(output) - arguments[0])[0].clone())

    with contextlib.ExitStack() as stack:
        for layer in llama.model.layers:
            stack.callback(layer.register_forward_hook(after).remove)
        with torch.no_grad():
            scores = llama(ids, use_cache=False).logits[0]
    return inputs, added, scores.double().softmax(-1)


def sublayers(llama, ids):
    """What attention and MLP of each layer write, [T, D] each."""
    attention, mlp = [], []
    with contextlib.ExitStack() as stack:
        for layer in llama.model.layers:
            for module, written in ((layer.self_attn, attention), (layer.mlp, mlp)):
                keep = functools.partial(_keep, written)
                stack.callback(module.register_forward_hook(keep).remove)
        with torch.no_grad():
            llama(ids, use_cache=False)
    return attention, mlp


def _keep(written, module, arguments, output):
    written.append(first(output)[0].clone())


def erased(llama, ids, source, part, where):
    """As `watched`, where a source writes nothing at the tokens of a slice."""
    layer = llama.model.layers[source]
    module = {"layer": layer, "attention": layer.self_attn, "mlp": layer.mlp}[part]

    def erase(module, arguments, output):
        new = first(output).clone()
        new[:, where] = arguments[0][:, where] if part == "layer" else 0
        return with_first(output, new)

    handle = module.register_forward_hook(erase)
    try:
        return watched(llama, ids)
    finally:
        handle.remove()


def local(llama, ids, source, part, where):
    """What each later layer adds on its clean input less what the source wrote at some tokens."""
    inputs, added, _ = watched(llama, ids)
    attention, mlp = sublayers(llama, ids)
    written = {"layer": added, "attention": attention, "mlp": mlp}[part][source]

    def before(target, module, arguments):
        new = inputs[target].clone()
        new[where] -= written[where]
        return (new[None], *arguments[1:])

    with contextlib.ExitStack() as stack:
        for target, layer in enumerate(llama.model.layers):
            if target > source:
                hook = functools.partial(before, target)
                stack.callback(layer.register_forward_pre_hook(hook).remove)
        return watched(llama, ids)


def relative(clean, other):
    """The relative change of a layer's contribution at each token, [T]."""
    moved = (clean - other).norm(dim=-1) / clean.norm(dim=-1).clamp(min=1e-6)
    return moved.double().numpy()
