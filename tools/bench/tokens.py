"""The sentences as token ids, in the file that all contenders read."""

import json

FILE = "tokens.json"


def write(folder, sentences):
    """Stores lists of token ids."""
    (folder / FILE).write_text(json.dumps(sentences))


def read(folder):
    """The lists of token ids."""
    return json.loads((folder / FILE).read_text())
