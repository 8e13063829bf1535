"""Numbers and names for reading: the one place where either becomes words."""


def plain(value: float | None, digits: int = 2) -> str:
    """A number with a minus sign; a dash for what is undefined."""
    if value is None:
        return "–"
    # Adding 0.0 takes the sign from what is 0; rounding may leave one.
    text = f"{value + 0.0:,.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.lstrip("-")


def perplexity(value: float | None) -> str:
    """A perplexity, with an exponent where it is large."""
    if value is None:
        return "not finite"
    return f"{value:,.2f}" if value < 1e7 else f"{value:.2e}"


def percent(value: float | None) -> str:
    """A change in percent: +3.7 %, +34,167 %, +1.2e8 %."""
    if value is None:
        return "not finite"
    size = abs(value)
    value = value if size >= 0.05 else 0.0  # rounding leaves no minus sign
    form = "+,.1f" if size < 1e3 else "+,.0f" if size < 1e7 else "+.1e"
    return f"{value:{form}} %".replace("-", "−").replace("e+0", "e")


def petaflops(value: float) -> str:
    """A cost in PFLOP, with an exponent where it is large."""
    return f"{value:,.3f}" if value < 1e9 else f"{value:.6e}"


def signed(value: float | None) -> str:
    """A change in percent, of a column whose heading has the unit."""
    return percent(value).removesuffix(" %")


def shortened(name: str, length: int = 32) -> str:
    """The name of a text, of a long path its end."""
    return name if len(name) <= length else f"...{name[3 - length :]}"


def label(name: str) -> str:
    """A name of rows as it is written for people: "neighbour mean", "head 5", "q_proj"."""
    index = name.removeprefix("head_")
    if index.isdigit():
        return f"head {index}" if index != name else name
    if name.endswith("_proj"):
        return name
    return {"mlp": "MLP"}.get(name, name.replace("_", " "))
