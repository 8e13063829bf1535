"""The table of docs/roles.md against the routing in code."""

import re
from pathlib import Path

from jaxanatomy.forensics.roles import ROUTING

SIGNS = {"+": 1, "\N{MINUS SIGN}": -1}


def test_the_table_in_the_docs_is_the_routing_in_code():
    found, role = {}, ""
    page = (Path(__file__).parents[2] / "docs" / "roles.md").read_text()
    for name, feature, sign in re.findall(r"^\| (\w*) ?\| `(\S+)` \| (\S) \|", page, re.M):
        role = name or role
        found.setdefault(role, {})[feature] = SIGNS[sign]
    assert found == ROUTING
