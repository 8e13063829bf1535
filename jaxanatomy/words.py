"""Numbers for reading."""


def plain(value: float | None, digits: int = 2) -> str:
    """A number with a minus sign; a dash for what is undefined."""
    if value is None:
        return "–"
    return f"{value + 0.0:.{digits}f}".replace("-", "−")


def label(name: str) -> str:
    """A name of rows as it is written for people: "neighbour mean", "head 5", "q_proj"."""
    index = name.removeprefix("head_")
    if index.isdigit():
        return f"head {index}" if index != name else name
    if name.endswith("_proj"):
        return name
    return {"mlp": "MLP"}.get(name, name.replace("_", " "))
