"""What the page of the tuned lens says of tokens and of its numbers."""

import pytest

from jaxanatomy.report import tuned_lens as page


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (" the", "the"),
        (" ", "_"),
        ("\n\n", "\\n\\n"),
        ("", ""),
        ("é", "é"),
        ("日本", "??"),
        ("\ufffd", "?"),
        ("internationally", "internati…"),
    ],
)
def test_tokens_are_short_and_every_font_has_them(token, expected):
    assert page.shown(token) == expected
