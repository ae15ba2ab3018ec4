"""What an operator's page has a robot do, as the server tells it over the robot's line."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from vla.strict_json import strict_json

Mode = Literal["policy", "human", "held"]
"""Who moves the robot: its policy, a person at the page, or nobody."""
EpisodeOrder = Literal["none", "start", "success", "failure", "discard"]
"""What is to become of the robot's episode: begin one; end it as done, as failed, or as one not to be kept."""

ORDERS_EVERY_S = 0.05
"""Orders are repeated this often, so that a robot notices when they cease."""
ORDERS_LAST_S = 0.4
"""A robot that has had no orders for so long holds."""
AXIS_LIMIT = 1.0
_MOST_AXES = 128


class OrdersError(ValueError):
    """Orders that are none; the text says what was expected and what came."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """``axes`` ``(a,)`` in −1 … 1 is how far each dimension of the action is pushed while a person steers.
    ``attended``: somebody's page was visible and alive just now. ``instruction`` replaces the robot's own, None does
    not. An episode's order is carried out once, when ``episode_number`` has grown.
    """

    mode: Mode = "held"
    axes: tuple[float, ...] = ()
    attended: bool = False
    instruction: str | None = None
    episode: EpisodeOrder = "none"
    episode_number: int = 0

    def to_json(self) -> str:
        """A text frame; :meth:`from_json` is its inverse."""
        return strict_json(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, action_dim: int) -> "Orders":
        """Orders for a robot whose actions have ``action_dim`` numbers; :class:`OrdersError` for anything else."""
        try:
            orders = cls(**json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise OrdersError(f"expected orders as JSON, got {text[:80]!r}: {error}") from error
        if orders.mode not in get_args(Mode) or orders.episode not in get_args(EpisodeOrder):
            raise OrdersError(f"unknown mode {orders.mode!r} or episode {orders.episode!r}")
        if not isinstance(orders.attended, bool) or not isinstance(orders.instruction, str | None):
            raise OrdersError(f"attended is a bool and instruction text or null, got {text[:80]!r}")
        if type(orders.episode_number) is not int:
            raise OrdersError(f"episode_number must be a whole number, got {orders.episode_number!r}")
        axes = checked_axes(orders.axes, action_dim) if orders.axes else (0.0,) * action_dim
        return cls(**{**asdict(orders), "axes": axes})


def checked_axes(axes: Any, action_dim: int) -> tuple[float, ...]:
    """``axes`` if they are finite numbers of −1 … 1, one for each dimension; :class:`OrdersError` if not."""
    if not isinstance(axes, list | tuple) or len(axes) != action_dim or len(axes) > _MOST_AXES:
        raise OrdersError(f"expected {action_dim} axes, got {axes!r:.80}")
    for value in axes:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise OrdersError(f"axes must be finite numbers, got {value!r:.80}")
        if abs(value) > AXIS_LIMIT:
            raise OrdersError(f"axes must lie in -1 … 1, got {value!r:.80}")
    return tuple(float(value) for value in axes)
