"""One self-contained HTML page about a run: no script, no font, no picture from anywhere else.

A page is a title and a list of sections; whatever they hold is escaped.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from configs.report.charts import Curve, SuccessBar, curve_chart, success_chart
from configs.report.video import EncodedVideo, Video, animated_webp, data_uri, still_webp
from vla.durable import write_text_atomically
from vla.strict_json import strict_json

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class SuccessSection:
    """Success rates as bars with whiskers, and the same numbers as a table."""

    title: str = "Success"
    note: str = ""
    bars: tuple[SuccessBar, ...]

    def body(self) -> str:
        rows = [
            (bar.task, bar.condition, f"{bar.value:.1%}", f"{bar.lo:.1%} … {bar.hi:.1%}", str(bar.episodes))
            for bar in self.bars
        ]
        header = ("task", "measured", "success", "95 % interval (Wilson)", "episodes")
        return success_chart(self.bars) + _table(header, rows, numeric_from=2)


@dataclass(frozen=True, kw_only=True)
class CurvesSection:
    """Learning curves: one chart per entry, one line per curve in it."""

    title: str = "Learning curves"
    note: str = ""
    charts: Mapping[str, Sequence[Curve]]

    def body(self) -> str:
        drawn = "".join(curve_chart(name, curves) for name, curves in self.charts.items())
        return f'<div class="charts">{drawn}</div>'


@dataclass(frozen=True, kw_only=True)
class VideosSection:
    """Rollouts side by side, each labelled with its outcome, instruction and seed."""

    title: str = "Rollouts"
    note: str = ""
    videos: tuple[Video | EncodedVideo, ...]

    def body(self) -> str:
        return '<div class="videos">' + "".join(_figure(video) for video in self.videos) + "</div>"


@dataclass(frozen=True, kw_only=True)
class FactsSection:
    """Names and values: machine, versions, seeds, sizes."""

    title: str
    note: str = ""
    facts: Mapping[str, Any]

    def body(self) -> str:
        return _table(None, [(name, str(value)) for name, value in self.facts.items()], numeric_from=2)


class Link(NamedTuple):
    """A word that leads to a file, whose path is relative to the page's."""

    text: str
    href: str


Cell = str | Link | tuple[Link, ...]


@dataclass(frozen=True, kw_only=True)
class TableSection:
    """Rows under a header; the columns from ``numeric_from`` on hold numbers."""

    title: str
    note: str = ""
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric_from: int = 1

    def body(self) -> str:
        return _table(self.header, self.rows, self.numeric_from)


@dataclass(frozen=True, kw_only=True)
class PicturesSection:
    """Pictures side by side, uint8 ``(h, w, 3)``, each with what is written below it."""

    title: str
    note: str = ""
    pictures: Sequence[tuple[np.ndarray, str]]

    def body(self) -> str:
        shown = [
            f'<figure><img src="{data_uri(still_webp(picture))}" alt="{escape(text)}">'
            f'<figcaption><div class="quiet">{escape(text)}</div></figcaption></figure>'
            for picture, text in self.pictures
        ]
        return f'<div class="videos">{"".join(shown)}</div>'


@dataclass(frozen=True, kw_only=True)
class SettingsSection:
    """A resolved config, folded away; ``config`` is JSON-ready."""

    title: str = "Settings"
    note: str = ""
    config: Any

    def body(self) -> str:
        text = escape(strict_json(self.config, indent=2, ensure_ascii=False))
        return f"<details><summary>the resolved config</summary><pre>{text}</pre></details>"


Section = (
    SuccessSection | CurvesSection | VideosSection | FactsSection | TableSection | PicturesSection | SettingsSection
)


def write_report(path: Path, title: str, sections: Sequence[Section], lead: str = "") -> None:
    """Write the page to ``path``, making its folder; a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, render_report(title, sections, lead))


def render_report(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """The page's HTML."""
    style = resources.files("configs.report").joinpath("style.css").read_text(encoding="utf-8")
    body = "".join(_section(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n"
        f'<body><main><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{body}</main></body></html>\n'
    )


def read_curves(run_dir: Path) -> dict[str, list[Curve]]:
    """One chart per metric of the run's ``metrics.jsonl`` (objects with ``step`` and numbers); none if it is absent.

    The bounds of an interval, ``…_lo`` and ``…_hi``, are in the chart of what they bound. A last line that a killed
    run left unfinished is passed over; any other broken line is a ``ValueError``.
    """
    path = run_dir / METRICS_FILE
    if not path.is_file():
        return {}
    series: dict[str, tuple[list[float], list[float]]] = {}
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
        for name, value in entry.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                steps, values = series.setdefault(name, ([], []))
                steps.append(entry["step"])
                values.append(value)
    charts: dict[str, list[Curve]] = {}
    for name, (x, y) in series.items():
        bounded = name.removesuffix("_lo").removesuffix("_hi")
        chart = bounded if bounded in series else name
        charts.setdefault(chart, []).append(Curve(name=name, steps=tuple(x), values=tuple(y)))
    return charts


def _section(section: Section) -> str:
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    return f"<section><h2>{escape(section.title)}</h2>{note}{section.body()}</section>\n"


def _table(header: Sequence[str] | None, rows: Sequence[Sequence[Cell]], numeric_from: int) -> str:
    def cell(tag: str, column: int, text: Cell) -> str:
        kind = "number" if column >= numeric_from else "wrap"
        return f'<{tag} class="{kind}">{_content(text)}</{tag}>'

    head = "".join(cell("th", column, text) for column, text in enumerate(header or ()))
    body = "".join("<tr>" + "".join(cell("td", i, text) for i, text in enumerate(row)) + "</tr>" for row in rows)
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def _content(cell: Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    if isinstance(cell, Link):
        return f'<a href="{escape(quote(cell.href))}">{escape(cell.text)}</a>'
    return " ".join(map(_content, cell))


def _figure(video: Video | EncodedVideo) -> str:
    outcome = "success" if video.success else "failure"
    source = data_uri(video.webp if isinstance(video, EncodedVideo) else animated_webp(video))
    return (
        f'<figure><img src="{source}" alt="{escape(f"{video.task}: {video.instruction}")}">'
        f'<figcaption><b class="{outcome}">{outcome}</b>{escape(video.instruction)}'
        f'<div class="quiet">{escape(video.task)} · seed {video.seed}</div></figcaption></figure>'
    )
