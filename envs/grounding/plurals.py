"""Several things of one kind, and numbers as words."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_IRREGULAR = {"die": "dice"}


def plural(noun: str) -> str:
    """The noun for several."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    return f"{noun}es" if noun.endswith(("x", "s", "ch", "sh")) else f"{noun}s"
