"""What the ledger says of a row: a table of success, the methods' differences, and a page of all rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from claim_rows import SHUFFLED, USUAL, Row
from ledger import Cell, pooled

from policies.intervals import paired_difference

PAGE_HEAD = """# Claims

One table per claim, each method trained on the same demonstrations with every training seed and evaluated on the same
episodes. **This page is printed from `benchmarks/ledger/` by `vla bench claims --print --page docs/claims.md`**; a cell
that is missing there is measured by the command beside its heading. Episodes are of the stream *evaluate*, seeds from
0 on, in phrasings that no demonstration has; intervals are Wilson's, 95 %, over all episodes of a line, and *by seed*
are the training seeds one by one. Under *shuffled* every episode is told what the next one is to do; *obedient* is what
a policy that always does what it is told would reach there.
"""


def success_lines(row: Row, found: Sequence[Cell], *, mark_older: bool = False) -> list[dict[str, object]]:
    """A line per method, budget and condition, over all training seeds; with a star where code has changed since."""
    lines = []
    for method in row.methods:
        for budget in row.budgets:
            group = [c for c in found if (c.key.method, c.key.demonstrations, c.key.steps) == (method, *budget)]
            star = "*" if mark_older and any(cell.older for cell in group) else ""
            conditions = dict.fromkeys(outcome.condition for cell in group for outcome in cell.outcomes)
            lines += [_line(f"{method}{star}", budget, condition, group) for condition in conditions]
    return lines


def differences(row: Row, found: Sequence[Cell]) -> list[str]:
    """The first method against each other one in the usual worlds, paired by seeds, budget and task."""
    first, *others = row.methods
    sentences = []
    for other in others:
        pairs = [
            (cell, partner)
            for cell in found
            for partner in found
            if cell.key.method == first and partner.key == replace(cell.key, method=other)
        ]
        if not pairs:
            continue
        gap = paired_difference(
            [won for cell, _ in pairs for won in cell.won(USUAL)],
            [won for _, partner in pairs for won in partner.won(USUAL)],
        )
        noise = "inside the noise" if gap.lo <= 0 <= gap.hi else "outside the noise"
        sentences.append(
            f"{first} − {other}: {100 * gap.value:+.1f} points (95 % interval {100 * gap.lo:+.1f} … "
            f"{100 * gap.hi:+.1f}, p = {gap.p_value:.2g}), {noise} of the episodes; training seeds vary besides."
        )
    return sentences


def page(rows: Sequence[Row], cells_of: Mapping[str, Sequence[Cell]]) -> str:
    """All rows that have been measured, as Markdown."""
    parts = [PAGE_HEAD]
    for row in rows:
        found = cells_of[row.name]
        if found:
            parts += [f"## {row.claim}: `vla bench claims {row.name}`", *_of_row(row, found)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def write_page(path: Path, rows: Sequence[Row], cells_of: Mapping[str, Sequence[Cell]]) -> None:
    path.write_text(page(rows, cells_of), encoding="utf-8")


def _of_row(row: Row, found: Sequence[Cell]) -> list[str]:
    minutes = sorted(cell.figures["train_s"] / 60 for cell in found if "train_s" in cell.figures)
    days = sorted({cell.date[:10] for cell in found})
    measured = (
        f"Measured on {', '.join(days)} at revision "
        f"{', '.join(sorted({str(cell.machine.get('revision', 'unknown')) for cell in found}))} on "
        f"{', '.join(sorted({str(cell.machine['processor']) for cell in found}))}; "
        f"training took {minutes[0]:.0f} to {minutes[-1]:.0f} minutes a cell, beside other work."
    )
    said = [row.reading] if row.reading else []
    return [_markdown(success_lines(row, found)), *differences(row, found), *said, measured]


def _line(method: str, budget: tuple[int, int], condition: str, group: Sequence[Cell]) -> dict[str, object]:
    outcomes = [outcome for cell in group for outcome in cell.outcomes if outcome.condition == condition]
    rate, episodes = pooled(group, condition)
    names = dict.fromkeys(outcome.group for outcome in outcomes)
    line: dict[str, object] = {
        "method": method,
        "demonstrations": budget[0],
        "steps": budget[1],
        "condition": condition,
        **{name: _percent(pooled(group, condition, name)[0].value) for name in names},
        "all": _percent(rate.value),
        "95 % interval": f"{100 * rate.lo:.1f} … {100 * rate.hi:.1f} %",
        "by seed": ", ".join(f"{100 * pooled([cell], condition)[0].value:.1f}" for cell in group),
        "episodes": episodes,
    }
    if condition == SHUFFLED:
        levels = [outcome.obedient for outcome in outcomes if outcome.obedient is not None]
        line["obedient"] = _percent(sum(levels) / len(levels)) if levels else ""
    return line


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _markdown(lines: Sequence[Mapping[str, object]]) -> str:
    columns = list(dict.fromkeys(column for line in lines for column in line))
    rows = [[_cell(line.get(column, "")) for column in columns] for line in lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, ["---"] * len(columns), *rows])


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
