"""Tables in Markdown."""

from collections.abc import Mapping, Sequence


def markdown(lines: Sequence[Mapping[str, object]]) -> str:
    """A table of ``lines``, whose columns are all their keys; empty without lines."""
    if not lines:
        return ""
    columns = list(dict.fromkeys(column for line in lines for column in line))
    rows = [[_cell(line.get(column, "")) for column in columns] for line in lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, ["---"] * len(columns), *rows])


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
