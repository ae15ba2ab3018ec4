"""Which number of an action commands the gripper, and which of its ends closes it, by what the fingers then do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from envs.specs import Dimension
from policies.data.sources.robot_file import Scaling

AT_ENDS = 0.9
"""Share of the frames in which a gripper's command lies near one of its two ends."""
NEAR = 0.05
"""Of the range between them."""
LATEST_FRAMES = 10
"""So much later the fingers have done what was commanded."""
FOLLOWS = 0.5
WORDS = ("grip", "finger", "claw", "jaw")


@dataclass(frozen=True, kw_only=True)
class Grip:
    """The gripper's command: its place in the action, its ends, whether the upper one ``closes``, and the reason."""

    action: int
    low: float
    high: float
    closes: bool
    reason: str

    def scaling(self) -> Scaling:
        """From stored numbers to 0 open … 1 closed."""
        span = self.high - self.low
        return (
            Scaling(scale=1 / span, offset=-self.low / span)
            if self.closes
            else Scaling(scale=-1 / span, offset=self.high / span)
        )

    def dimension(self) -> Dimension:
        return Dimension(name="gripper", unit="0 open … 1 closed", low=0.0, high=1.0, frame="gripper")


def find_grip(
    states: Sequence[Float[np.ndarray, "t s"]],
    actions: Sequence[Float[np.ndarray, "t a"]],
    names: Mapping[str, Sequence[str]],
) -> Grip | None:
    """The gripper's command by the episodes; None where none is likely, or no state says what it does.

    It is called so, or is the last number of an action whose values gather at two ends. A state whose size follows it
    is taken for how far the fingers are apart.
    """
    action = np.concatenate(actions)
    named = [i for i, name in enumerate(names["action"]) if any(word in name.lower() for word in WORDS)]
    places = named[:1] or [action.shape[1] - 1]
    low, high = float(action[:, places[0]].min()), float(action[:, places[0]].max())
    if low == high or not _gathers(action[:, places[0]], low, high):
        return None
    commands = [episode[:, places[0]] for episode in actions]
    found = [(followed(commands, [np.abs(s[:, i]) for s in states]), i) for i in range(states[0].shape[1])]
    likely = [i for i, name in enumerate(names["state"]) if any(word in name.lower() for word in WORDS)]
    strongest, place = max(((f, i) for f, i in found if i in likely or not likely), key=lambda pair: abs(pair[0]))
    if abs(strongest) < FOLLOWS:
        return None
    goes = "falls" if strongest < 0 else "grows"
    reason = f"|{names['state'][place]}| {goes} when it rises (correlation {strongest:.2f}), and fingers apart are open"
    return Grip(action=places[0], low=low, high=high, closes=strongest < 0, reason=reason)


def _gathers(values: Float[np.ndarray, " t"], low: float, high: float) -> bool:
    near = NEAR * (high - low)
    return bool(((values < low + near) | (values > high - near)).mean() > AT_ENDS)


def followed(commands: Sequence[Float[np.ndarray, " t"]], openings: Sequence[Float[np.ndarray, " t"]]) -> float:
    """The strongest correlation of a command with an opening up to ``LATEST_FRAMES`` later, signed; 0 for none."""
    strongest = 0.0
    for late in range(LATEST_FRAMES + 1):
        pairs = [(c[: len(c) - late], o[late:]) for c, o in zip(commands, openings, strict=True) if len(c) > late + 1]
        if not pairs:
            break
        command, opening = (np.concatenate(part) for part in zip(*pairs, strict=True))
        if np.ptp(command) and np.ptp(opening) > 1e-9:
            found = float(np.corrcoef(command, opening)[0, 1])
            strongest = found if abs(found) > abs(strongest) else strongest
    return strongest
