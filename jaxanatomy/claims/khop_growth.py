"""Growth where depth matters: what the papers claim of it."""

CLAIMS = ()
