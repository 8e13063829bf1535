"""The harness's own adapter of transformers."""

from bench.jax_evaluation import answers, read_requests
from lm_eval.models.huggingface import HFLM


def open_hf(folder, batch_size):
    """On the CPU in float32, with batches of one size."""
    model = HFLM(
        pretrained=str(folder / "model"), device="cpu", dtype="float32", batch_size=batch_size
    )
    requests = read_requests(folder)
    return {"step": lambda number: answers(model, requests)}
