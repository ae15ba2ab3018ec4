"""What the ledger says of a row: a table of success with the methods' differences, and a page of all rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from claim_ranges import ranges
from claim_rows import SHUFFLED, USUAL, Row, tasks_before
from claim_sequences import sequence_lines
from ledger import LEDGER, Cell, cells, pooled

from configs.report.markdown import markdown
from policies.intervals import paired_difference

PAGE_HEAD = """# Claims

One table per claim: each method trained with every training seed, on the same demonstrations unless it is said
otherwise, and evaluated on the same episodes. **This page is printed from `benchmarks/ledger/` by `vla bench claims
--print --page docs/claims.md`**; a cell that is missing there is measured by the command beside its heading. Episodes
are of the stream *evaluate*, seeds from 0 on, in phrasings that no demonstration has; intervals are Wilson's, 95 %,
over all episodes of a line, and *by seed* are the training seeds one by one. *Against* a method is the difference to it
in points, at the same budget and under the same condition, with its 95 % interval over paired episodes; training seeds
vary besides. Under *shuffled* every episode is told what the next one is to do; *obedient* is what a policy that always
does what it is told would reach there.
"""
BEGIN, END = "<!-- claims: ", "<!-- end of claims -->"
"""What stands around a table that is printed into another page."""
FORMER = "Measured before, of methods or at budgets that the row no longer has:"


def cells_for(row: Row, ledger: Path = LEDGER) -> list[Cell]:
    """What has been measured of a row: its own cells, and of other rows' those that it shares."""
    shared = [
        cell
        for method, other in row.shared.items()
        for cell in cells(other, ledger)
        if cell.key.method == method and cell.key.budget in row.budgets
    ]
    return [*shared, *cells(row.name, ledger)]


def success_lines(row: Row, found: Sequence[Cell], *, mark_older: bool = False) -> list[dict[str, object]]:
    """A line per method, budget and condition, over all training seeds; with a star where code has changed since. Of a
    sequence's tasks what is left at the end.
    """
    methods = dict.fromkeys([*row.methods, *(cell.key.method for cell in found)])
    budgets = dict.fromkeys([*row.budgets, *(cell.key.budget for cell in found)])
    lines: list[dict[str, object]] = []
    for budget in budgets:
        first: list[Cell] = []
        for method in methods:
            group = [cell for cell in found if (cell.key.method, cell.key.budget) == (method, budget)]
            star = "*" if mark_older and any(cell.older for cell in group) else ""
            conditions = dict.fromkeys(outcome.condition for cell in group for outcome in cell.outcomes)
            for condition in (each for each in conditions if not tasks_before(each)):
                line = _line(f"{method}{star}", budget, condition, group)
                lines.append(line | _against(first, group, condition))
            first = first or group
    return lines


def _against(first: Sequence[Cell], group: Sequence[Cell], condition: str) -> dict[str, object]:
    """The difference to the first method's cells, paired by training seed, task and episode; nothing without pairs."""
    pairs = [
        (cell, other)
        for cell in group
        for other in first
        if cell.key.seed == other.key.seed and cell.won(condition) and other.won(condition)
    ]
    if not pairs:
        return {}
    gap = paired_difference(*([won for pair in pairs for won in pair[i].won(condition)] for i in (0, 1)))
    points = f"{100 * gap.value:+.1f} ({100 * gap.lo:+.1f} … {100 * gap.hi:+.1f}), p = {gap.p_value:.2g}"
    return {f"against {first[0].key.method}": points}


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


def write_into(path: Path, rows: Sequence[Row], cells_of: Mapping[str, Sequence[Cell]]) -> None:
    """Bring the tables up to date that ``path`` holds between marks, each of which names a row.

    ``ValueError`` for a mark of no row, and for one without an end.
    """
    path.write_text(brought_up_to_date(path.read_text(encoding="utf-8"), rows, cells_of), encoding="utf-8")


def brought_up_to_date(text: str, rows: Sequence[Row], cells_of: Mapping[str, Sequence[Cell]]) -> str:
    """``text`` with the tables of :func:`write_into` as the ledger has them."""
    named = {row.name: row for row in rows}
    head, *parts = text.split(BEGIN)
    written = [head]
    for part in parts:
        name, _, rest = part.partition(" -->")
        _, end, after = rest.partition(END)
        if name not in named or not end:
            raise ValueError(f"expected {BEGIN}NAME --> … {END} with NAME out of {', '.join(named)}, got {part[:60]!r}")
        table = markdown(success_lines(named[name], _of_now(named[name], cells_of[name])))
        written.append(f"{BEGIN}{name} -->\n{table}\n{END}{after}")
    return "".join(written)


def _of_now(row: Row, found: Sequence[Cell]) -> list[Cell]:
    """The cells of methods and budgets that the row has today."""
    return [cell for cell in found if cell.key.method in row.methods and cell.key.budget in row.budgets]


def _of_row(row: Row, found: Sequence[Cell]) -> list[str]:
    here = _of_now(row, found)
    former = [cell for cell in found if cell not in here]
    parts: list[str] = []
    if here:
        tables = success_lines(row, here), sequence_lines(row, here), ranges(row)
        parts = [row.about, *map(markdown, tables), _bases(here), _measured(here)]
    if former:
        parts += [FORMER, markdown(success_lines(replace(row, methods={}, budgets=[]), former)), _measured(former)]
    return [part for part in (*parts, row.reading) if part]


def _measured(found: Sequence[Cell]) -> str:
    minutes = sorted(cell.figures["train_s"] / 60 for cell in found if "train_s" in cell.figures)
    days = sorted({cell.date[:10] for cell in found})
    return (
        f"Measured on {', '.join(days)} at revision "
        f"{', '.join(sorted({str(cell.machine.get('revision', 'unknown')) for cell in found}))} on "
        f"{', '.join(sorted({str(cell.machine['processor']) for cell in found}))}; "
        f"training took {minutes[0]:.0f} to {minutes[-1]:.0f} minutes a cell, beside other work."
    )


def _bases(found: Sequence[Cell]) -> str:
    """What their networks had learned before, each base once."""
    bases = {cell.base["sha256"]: cell.base for cell in found if cell.base is not None}
    return f"Bases: {'; '.join(map(_base, bases.values()))}." if bases else ""


def _base(base: Mapping[str, Any]) -> str:
    pretrained = f", {base['steps']:,} steps in {base['wall_s'] / 60:.0f} minutes" if "steps" in base else ""
    return f"{base['name']} (`{base['sha256'][:12]}`{pretrained})"


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
    if condition == USUAL and (spoken := [cell.figures for cell in group if cell.figures.get("decisions")]):
        said, true, chance = (sum(each[name] for each in spoken) for name in ("decisions", "true", "true_by_chance"))
        line["words true of the chunk"] = (
            f"{_percent(true / said)} of {said:,.0f} (by chance {_percent(chance / said)})"
        )
    if condition == SHUFFLED:
        levels = [outcome.obedient for outcome in outcomes if outcome.obedient is not None]
        line["obedient"] = _percent(sum(levels) / len(levels)) if levels else ""
    return line


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
