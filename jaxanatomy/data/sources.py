"""Documents from TensorFlow Datasets and from the Hugging Face hub.

Both libraries are imported only when a source asks for them, and neither
TensorFlow nor PyTorch is needed.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

import huggingface_hub

from jaxanatomy.data import files
from jaxanatomy.errors import InputError

TFDS_FORM = "tfds:NAME[/CONFIG][:SPLIT][#FIELD]"
HF_FORM = "hf:OWNER/DATASET[@REVISION][:FILE][#FIELD]"
_TFDS = re.compile(r"tfds:(?P<name>[^:#]+)(:(?P<split>[^#]+))?(#(?P<field>.+))?")
_HF = re.compile(
    r"hf:(?P<repo>[^/@:#]+/[^/@:#]+)(@(?P<revision>[^:#]+))?(:(?P<file>[^#]+))?(#(?P<field>.+))?"
)


@dataclasses.dataclass(frozen=True)
class HubSource:
    """A source in `HF_FORM`, taken apart; what it leaves out is None."""

    repo: str
    revision: str | None
    file: str | None
    field: str | None

    @classmethod
    def parse(cls, source: str) -> "HubSource":
        """Takes a source apart.

        Raises:
          InputError: The source is malformed.
        """
        return cls(**_parse(_HF, source, HF_FORM).groupdict())

    def __str__(self) -> str:
        parts = (("@", self.revision), (":", self.file), ("#", self.field))
        return f"hf:{self.repo}" + "".join(mark + part for mark, part in parts if part)


def parse_tfds(source: str) -> tuple[str, str | None, str | None]:
    """NAME[/CONFIG], SPLIT and FIELD of a source in `TFDS_FORM`.

    Raises:
      InputError: The source is malformed.
    """
    match = _parse(_TFDS, source, TFDS_FORM)
    return match["name"], match["split"], match["field"]


def load_tfds(source: str, builder: Callable[[str], Any] | None = None) -> tuple[str | None, ...]:
    """The documents of a split of a TensorFlow data set, prepared first if need be.

    Args:
      source: `TFDS_FORM`. SPLIT may be a slice, "train[:100]"; all its documents are
        held in memory, so slice what is large.
      builder: From NAME[/CONFIG] to an object with `download_and_prepare()` and
        `as_data_source(split=...)`; by default `array_record_builder`.

    Raises:
      InputError: The source is malformed, cannot be prepared, or lacks the field.
    """
    name, split, field = parse_tfds(source)
    split, field = split or "test", field or files.DEFAULT_FIELD
    try:
        dataset = (builder or array_record_builder)(name)
        dataset.download_and_prepare()
        records = dataset.as_data_source(split=split)
    except Exception as error:  # Whatever the library or the network throws is for the user.
        raise InputError(
            f"cannot load split {split!r} of {source!r}: {files.first_line(error)}; check the "
            "name, the split and the connection"
        ) from None
    return files.read_each(
        lambda index: files.text_field(records[index], field, f"record {index} of {source!r}"),
        ((index,) for index in range(len(records))),
    )


def array_record_builder(name: str) -> Any:
    """The builder of a data set from NAME[/CONFIG]; its files are read without TensorFlow."""
    import tensorflow_datasets as tfds

    return tfds.builder(name, file_format="array_record")


def load_hf(
    source: str,
    list_files: Callable[..., Sequence[str]] | None = None,
    download: Callable[..., str] | None = None,
) -> tuple[str | None, ...]:
    """The documents of one file of a data set on the Hugging Face hub.

    Args:
      source: `HF_FORM`. FILE may be left out where the data set holds just one
        .txt, .jsonl or .parquet; FIELD is what a path has after '#'. Name a
        REVISION to get the same text for ever.
      list_files: By default `huggingface_hub.list_repo_files`.
      download: By default `huggingface_hub.hf_hub_download`.

    Raises:
      InputError: The source is malformed, cannot be fetched, or is not readable.
    """
    hub = HubSource.parse(source)
    list_files = list_files or huggingface_hub.list_repo_files
    download = download or huggingface_hub.hf_hub_download
    where = {"repo_type": "dataset", "revision": hub.revision}
    try:
        file = hub.file or only_file(source, list_files(hub.repo, **where))
        path = download(hub.repo, file, **where)
    except InputError:
        raise
    except Exception as error:  # Whatever the library or the network throws is for the user.
        raise InputError(
            f"cannot fetch {source!r}: {files.first_line(error)}; check the name, the revision, "
            "the file and the connection"
        ) from None
    return files.read_documents(path, hub.field or "")


def only_file(source: str, names: Sequence[str]) -> str:
    """The one of the files of a repository that can be read as a text.

    Raises:
      InputError: There is none, or there are several.
    """
    readable = sorted(name for name in names if PurePosixPath(name).suffix in files.READERS)
    if len(readable) == 1:
        return readable[0]
    shown = ", ".join(readable[:8]) + (", ..." if len(readable) > 8 else "")
    raise InputError(
        f"{source!r} must hold one file ending in {', '.join(files.READERS)}; it holds "
        f"{len(readable)}" + (f" ({shown}); name one after ':'" if readable else "")
    )


def _parse(pattern: re.Pattern[str], source: str, form: str) -> re.Match[str]:
    match = pattern.fullmatch(source)
    if match is None:
        raise InputError(f"a source of this kind is written {form}; got {source!r}")
    return match
