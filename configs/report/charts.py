"""Charts as inline SVG. Colours and fonts come from the page's style sheet, so they follow light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LABEL_PX = 230
PLOT_PX = 420
BAR_PX = 14
MAX_POINTS = 300


@dataclass(frozen=True, kw_only=True)
class SuccessBar:
    """A success rate in [0, 1] with its 95 % interval ``[lo, hi]`` over ``episodes``.

    ``condition`` says what was measured (such as ``policy`` or ``expert``); bars of one condition share a colour.
    """

    task: str
    condition: str
    value: float
    lo: float
    hi: float
    episodes: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One named series over optimiser or environment steps; points that are not finite are left out."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


def success_chart(bars: Sequence[SuccessBar]) -> str:
    """Horizontal bars with interval whiskers, grouped by task, on an axis from 0 to 100 %."""
    tasks = list(dict.fromkeys(bar.task for bar in bars))
    conditions = list(dict.fromkeys(bar.condition for bar in bars))
    parts: list[str] = []
    y = 8.0
    for task in tasks:
        group = [bar for bar in bars if bar.task == task]
        middle = y + len(group) * (BAR_PX + 4) / 2
        parts.append(_text(0, middle, task, "label strong"))
        for bar in group:
            parts.append(_success_bar(bar, conditions.index(bar.condition), y))
            y += BAR_PX + 4
        y += 12
    grid = [_grid_line(LABEL_PX + PLOT_PX * share, 4, y - 8) for share in (0, 0.25, 0.5, 0.75, 1)]
    ticks = [
        _text(LABEL_PX + PLOT_PX * share, y + 6, f"{share:.0%}", "tick", anchor="middle")
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    return _svg(LABEL_PX + PLOT_PX + 76, y + 16, [*grid, *parts, *ticks], "Success rate per task with 95 % intervals")


def _success_bar(bar: SuccessBar, colour: int, y: float) -> str:
    start, middle = LABEL_PX, y + BAR_PX / 2
    lo, hi = start + PLOT_PX * bar.lo, start + PLOT_PX * bar.hi
    tooltip = f"{bar.task}, {bar.condition}: {bar.value:.1%} [{bar.lo:.1%}, {bar.hi:.1%}], {bar.episodes} episodes"
    return (
        f"<g><title>{escape(tooltip)}</title>{_text(start - 8, middle, bar.condition, 'label', anchor='end')}"
        f'<rect class="fill{colour % 5}" x="{start}" y="{y:.1f}" width="{PLOT_PX * bar.value:.1f}" height="{BAR_PX}"/>'
        f'<path class="whisker" d="M{lo:.1f} {middle:.1f}H{hi:.1f}M{lo:.1f} {y + 3:.1f}v{BAR_PX - 6}'
        f'M{hi:.1f} {y + 3:.1f}v{BAR_PX - 6}"/>'
        f"{_text(start + PLOT_PX + 10, middle, f'{bar.value:.0%}', 'value')}</g>"
    )


def curve_chart(title: str, curves: Sequence[Curve], width_px: int = 460, height_px: int = 250) -> str:
    """Lines over steps with a legend where there is more than one; long series are averaged down."""
    series = [(curve.name, _reduced(curve)) for curve in curves]
    points = [point for _, line in series for point in line]
    if not points:
        return f'<p class="empty">{escape(title)}: no finite values were recorded.</p>'
    x_ticks = nice_ticks(min(x for x, _ in points), max(x for x, _ in points), 5)
    y_ticks = nice_ticks(min(y for _, y in points), max(y for _, y in points), 5)
    left, right, top, bottom = 62, width_px - 26, 30, height_px - 34

    def px(x: float) -> float:
        return left + (right - left) * (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])

    def py(y: float) -> float:
        return bottom - (bottom - top) * (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])

    parts = [_text(left, 13, title, "label strong")]
    for tick in y_ticks:
        parts.append(f'<path class="grid" d="M{left} {py(tick):.1f}H{right}"/>')
        parts.append(_text(left - 8, py(tick), f"{tick:.4g}", "tick", anchor="end"))
    parts += [_text(px(tick), bottom + 15, f"{tick:,.6g}", "tick", anchor="middle") for tick in x_ticks]
    for index, (name, line) in enumerate(series):
        path = "L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in line)
        if path:
            parts.append(f'<path class="line{index % 5}" d="M{path}"><title>{escape(name)}</title></path>')
    if len(series) > 1:
        parts += [
            _text(right, top + 8 + 15 * index, name, f"legend{index % 5}", anchor="end")
            for index, (name, _) in enumerate(series)
        ]
    return _svg(width_px, height_px, parts, title)


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers that enclose ``[low, high]``; at least two."""
    if high <= low:
        pad = abs(low) * 0.1 or 0.5
        low, high = low - pad, high + pad
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _reduced(curve: Curve) -> list[tuple[float, float]]:
    """Finite points, averaged in equal groups down to at most ``MAX_POINTS``."""
    points = [(x, y) for x, y in zip(curve.steps, curve.values, strict=True) if math.isfinite(x) and math.isfinite(y)]
    size = math.ceil(len(points) / MAX_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _grid_line(x: float, top: float, bottom: float) -> str:
    return f'<path class="grid" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" dominant-baseline="central"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
