"""How things stand to one another, with margins: what is neither clearly so nor clearly not is None.

Sides are the robot's own, as in every task of ours: left is world +y, in front of a thing is nearer to the robot (−x).
The front camera looks towards the robot, so that its picture shows the robot's left on the right.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Point = tuple[float, float, float]

LEAD_M = 0.04
"""By how much the first of several must lead the next one; as in the suite ``tabletop-spatial``."""
SIDE_M, NO_SIDE_M = 0.05, 0.01
SLANT = 1.2
"""A side is clear where things lie apart at least that much more along it than across."""
NEXT_M, NOT_NEXT_M = 0.04, 0.08
LARGER = 1.8
"""By how much more room the largest takes than the next."""


@dataclass(frozen=True, kw_only=True)
class Body:
    """A thing on a table: its middle and how far it reaches along the world's axes, metres."""

    kind: str
    point_m: Point
    half_m: Point


def left(a: Body, b: Body) -> bool | None:
    """Is a on the robot's left of b?"""
    return _aside(a.point_m[1] - b.point_m[1], a.point_m[0] - b.point_m[0])


def right(a: Body, b: Body) -> bool | None:
    return left(b, a)


def behind(a: Body, b: Body) -> bool | None:
    """Is a farther from the robot than b?"""
    return _aside(a.point_m[0] - b.point_m[0], a.point_m[1] - b.point_m[1])


def in_front(a: Body, b: Body) -> bool | None:
    return behind(b, a)


def next_to(a: Body, b: Body) -> bool | None:
    """Is there little room between their outlines? None for things over one another."""
    gap = _gap_m(a, b)
    if gap == 0:
        return None
    return True if gap < NEXT_M else (False if gap > NOT_NEXT_M else None)


def inside(a: Body, b: Body) -> bool | None:
    """Is a in b, a bin or an open drawer?"""
    if b.kind not in ("bin", "drawer"):
        return False
    apart = [abs(p - q) for p, q in zip(a.point_m[:2], b.point_m[:2], strict=True)]
    if _gap_m(a, b) > 0:
        return False
    low = a.point_m[2] - a.half_m[2] < b.point_m[2]
    return True if low and all(d < h for d, h in zip(apart, b.half_m, strict=False)) else None


def on_top(a: Body, b: Body) -> bool | None:
    """Does a stand on b?"""
    if b.kind in ("bin", "drawer"):
        return False
    if _gap_m(a, b) > 0:
        return False
    if b.kind in ("tee", "mark"):  # their outlines leave room in the corners
        return None
    rise = (a.point_m[2] - a.half_m[2]) - (b.point_m[2] + b.half_m[2])
    over = all(abs(p - q) < h for p, q, h in zip(a.point_m, b.point_m, b.half_m[:2], strict=False))
    return True if over and abs(rise) < 0.008 else (False if rise < -0.015 else None)


def between(a: Body, b: Body, c: Body) -> bool | None:
    """Is a between b and c, near their line?"""
    (x, y), (dx, dy) = _flat(a, b), _flat(c, b)
    length = math.hypot(dx, dy)
    if length < 0.12:
        return None
    along, off = (x * dx + y * dy) / length**2, abs(x * dy - y * dx) / length
    if 0.25 < along < 0.75 and off < 0.04:
        return True
    return False if not -0.05 < along < 1.05 or off > 0.09 else None


RELATIONS: Mapping[str, Callable[[Body, Body], bool | None]] = {
    "left": left,
    "right": right,
    "in front": in_front,
    "behind": behind,
    "next to": next_to,
    "inside": inside,
    "on top": on_top,
}
"""Of two things, by name."""

OPPOSITES: Mapping[str, str] = {
    "left": "right",
    "right": "left",
    "in front": "behind",
    "behind": "in front",
    "inside": "on top",
    "on top": "inside",
}
SIDES = ("left", "right", "in front", "behind")
CLEAR_SLANT = 2.0
"""What is said to be on one side, and no other, lies apart at least that much more along it than across."""


def side(a: Body, b: Body) -> str | None:
    """On which of the :data:`SIDES` of b a is; None where two of them could be said."""
    x, y = (abs(d) for d in _flat(a, b))
    if max(x, y) < CLEAR_SLANT * min(x, y):
        return None
    return next((name for name in SIDES if RELATIONS[name](a, b)), None)


RANKS: Mapping[str, Callable[[Body], float]] = {
    "leftmost": lambda body: -body.point_m[1],
    "rightmost": lambda body: body.point_m[1],
    "nearest": lambda body: body.point_m[0],
    "farthest": lambda body: -body.point_m[0],
}
"""By name what the first of several has the least of."""
AS_THE_CROW_FLIES = {"nearest": 1, "farthest": -1}
"""Ranks that speak of how far things are, and whether the first of them has the least or the most of it."""


def ranked(name: str, bodies: Sequence[Body], place: int = 0) -> int | None:
    """Which of ``bodies`` is in ``place`` by :data:`RANKS`; None if it does not lead clearly, or they are too few.

    Near and far are along x and as the crow flies, from the robot in the origin: both must say the same.
    """
    found = _in_place([RANKS[name](body) for body in bodies], place)
    if name not in AS_THE_CROW_FLIES:
        return found
    away_m = [AS_THE_CROW_FLIES[name] * math.hypot(*body.point_m[:2]) for body in bodies]
    return found if found == _in_place(away_m, place, 0.0) else None


def by_distance(bodies: Sequence[Body], anchor: Body, farthest: bool = False) -> int | None:
    """Which is clearly the closest to ``anchor``, or the farthest from it."""
    sign = -1 if farthest else 1
    return _in_place([sign * math.hypot(*_flat(body, anchor)) for body in bodies], 0)


def middle(bodies: Sequence[Body], axis: int) -> int | None:
    """Which of an odd number, three at least, is in the middle along x (0) or y (1)."""
    count = len(bodies)
    return _in_place([body.point_m[axis] for body in bodies], count // 2) if count > 2 and count % 2 else None


def by_size(bodies: Sequence[Body], smallest: bool) -> int | None:
    """Which of several takes clearly the most room, or the least."""
    rooms = [math.log(math.prod(body.half_m)) for body in bodies]
    return _in_place([room if smallest else -room for room in rooms], 0, math.log(LARGER))


def _in_place(values: Sequence[float], place: int, lead: float = LEAD_M) -> int | None:
    order = sorted(range(len(values)), key=values.__getitem__)
    if len(values) < 2 or place >= len(values):
        return None
    here = values[order[place]]
    near = [values[order[i]] for i in (place - 1, place + 1) if 0 <= i < len(values)]
    return order[place] if all(abs(here - other) >= lead for other in near) else None


def _aside(along_m: float, across_m: float) -> bool | None:
    if along_m < NO_SIDE_M:
        return False
    return True if along_m > max(SIDE_M, SLANT * abs(across_m)) else None


def _flat(a: Body, b: Body) -> tuple[float, float]:
    return a.point_m[0] - b.point_m[0], a.point_m[1] - b.point_m[1]


def _gap_m(a: Body, b: Body) -> float:
    """How much room is between their outlines on the table; 0 where one is over the other."""
    gaps = [max(0.0, abs(d) - p - q) for d, p, q in zip(_flat(a, b), a.half_m, b.half_m, strict=False)]
    return math.hypot(*gaps)
