"""What a robot does, in words whose truth can be told from its actions, or from its state before and after.

A sentence such as "moving forward and down, gripper closing" says where the tool goes, as the robot sees it (forward is
the world's +x, left +y, up +z, the frame of the instructions' words), and what the gripper does. It answers the
question "what are you doing?" for one chunk of actions. Turns of the tool are not spoken of, nor what it goes towards:
neither actions nor states tell that.

*Where*: a direction is named if the mean velocity lies within 67.5° of it (the rule of the eight points of the
compass), and none below ``STILL_M_S``. *Gripper*: "open" or "closed" if the command is so at both ends of the chunk,
else "opening" or "closing". Near every border either word is right: a speed within half to one and a half times
``STILL_M_S``, an angle within 60° … 75.5°, a command between ``OPEN`` and ``CLOSED``, a change in the first or last
step.
"""

from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.specs import EmbodimentSpec
from policies.data.keyframes import GRIPPER_FRAME, tool_dims

QUESTION = "what are you doing?"
DIRECTIONS = {"x": ("forward", "backward"), "y": ("left", "right"), "z": ("up", "down")}
"""Names of going along each axis of the world, and against it."""
GRIPPER = ("open", "closed", "opening", "closing")
STILL_M_S = 0.02
"""Below this speed a tool stands: a millimetre per action at 20 actions a second."""
NAMED, UNNAMED, NAMEABLE = 0.383, 0.5, 0.25
"""Cosines of the angle to a direction: above the first it is named; it may be left out up to the second, and named from
the third on."""
OPEN, CLOSED = 0.35, 0.65
"""Commands up to the first are open, from the second on closed, and may be called either between."""
CHANGE, WIDE, NOT_WIDE = 0.05, 0.8, 0.95
"""Of a gripper's gap, as a share of its widest: a change that shows, "open" from the second on, "closed" up to the
third: what it holds may be nearly as wide."""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a sentence says: along each axis of the embodiment +1, −1, or 0 for not, and what the gripper does, if the
    robot has one.
    """

    directions: tuple[int, ...]
    gripper: str | None


@dataclass(frozen=True, kw_only=True)
class Motion:
    """What n robots do, as far as sentences speak of it: mean velocity along the axes that actions move the tool along,
    and which of the words ``GRIPPER`` are right, None where that cannot be told.
    """

    velocity_m_s: Float[Tensor, "n k"]
    gripper: Bool[Tensor, "n 4"] | None

    def bears_out(self, claims: Claims) -> Bool[Tensor, " n"]:
        """Whether what is claimed is true of each; of the gripper too where that can be told."""
        true = self._goes(claims.directions)
        if self.gripper is None or claims.gripper is None:
            return true
        return true & self.gripper[:, GRIPPER.index(claims.gripper)]

    def _goes(self, directions: tuple[int, ...]) -> Bool[Tensor, " n"]:
        speed = self.velocity_m_s.norm(dim=-1)
        cosine = self.velocity_m_s / speed.clamp(min=1e-9)[:, None]
        claimed = torch.tensor(directions, device=speed.device)
        if not claimed.any():
            return speed <= 1.5 * STILL_M_S
        named = torch.where(claimed == 0, cosine.abs() <= UNNAMED, cosine * claimed >= NAMEABLE)
        return named.all(dim=-1) & (speed >= 0.5 * STILL_M_S)


class Narrator:
    """Speaks of the actions of one kind of robot, and hears what is said.

    ``ValueError`` for an embodiment whose actions are no changes of the tool's position in metres, in the world's frame
    and along axes that have names here (control mode delta_pose has such), and for one of several grippers.
    """

    def __init__(self, embodiment: EmbodimentSpec) -> None:
        self._rate_hz = embodiment.control_rate_hz
        moves = {
            dim.name[-1]: i
            for i, dim in enumerate(embodiment.action)
            if dim.relative and (dim.unit, dim.frame) == ("m", "world") and dim.name[-1] in DIRECTIONS
        }
        grippers = [i for i, dim in enumerate(embodiment.action) if dim.frame == GRIPPER_FRAME]
        if not moves or len(grippers) > 1:
            described = ", ".join(
                f"{dim.name} ({'change in ' * dim.relative}{dim.unit}, {dim.frame})" for dim in embodiment.action
            )
            raise ValueError(
                "expected an embodiment whose actions change the tool's position in metres in the world, as those of "
                f"control mode delta_pose do, with one gripper at most; {embodiment.name} has {described}"
            )
        self.axes = tuple(moves)
        self._moves, self._gripper = list(moves.values()), grippers[0] if grippers else None
        tool = {embodiment.state[i].name[-1]: i for i in reversed(tool_dims(embodiment))}
        self._tool = [tool.get(axis, -1) for axis in self.axes]
        gaps = [(i, d.high) for i, d in enumerate(embodiment.state) if (d.unit, d.frame) == ("m", GRIPPER_FRAME)]
        self._gap = gaps[0] if grippers and len(gaps) == 1 else None
        words = GRIPPER if grippers else (None,)
        claims = [
            Claims(directions=directions, gripper=word)
            for directions in product((0, 1, -1), repeat=len(self.axes))
            for word in words
        ]
        self._claims = {self.spoken(each): each for each in claims}
        self.sentences = tuple(self._claims)
        """All that may be said."""

    @property
    def witnesses(self) -> bool:
        """Whether the state shows where the tool is, so that :meth:`done` can be told."""
        return min(self._tool) >= 0

    def spoken(self, claims: Claims) -> str:
        """The sentence that says it; :meth:`heard` is the inverse."""
        named = [
            DIRECTIONS[axis][sign < 0] for axis, sign in zip(self.axes, claims.directions, strict=True) if sign != 0
        ]
        listed = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
        where = f"moving {listed}" if named else "standing"
        return where if claims.gripper is None else f"{where}, gripper {claims.gripper}"

    def heard(self, sentence: str) -> Claims | None:
        """What a sentence claims, whatever its case and spacing; None if it is none of :attr:`sentences`."""
        words = " ".join(sentence.lower().replace(",", " , ").split()).replace(" ,", ",")
        return self._claims.get(words)

    def said_of(self, actions: Float[Tensor, "n h a"], valid: Bool[Tensor, "n h"] | None = None) -> Int[Tensor, " n"]:
        """Which of :attr:`sentences` is said of each chunk, in the embodiment's units, of which ``valid`` actions
        count: the first ones, at least one.
        """
        velocity, commands = self._summary(actions, valid)
        speed = velocity.norm(dim=-1, keepdim=True)
        named = (velocity.abs() >= NAMED * speed) & (speed >= STILL_M_S)
        digit = torch.where(named, torch.where(velocity > 0, 1, 2), 0)
        index = torch.zeros(len(actions), dtype=torch.long, device=actions.device)
        for column in digit.unbind(dim=-1):
            index = 3 * index + column
        if commands is None:
            return index
        begins, ends = (commands[:, at] > (OPEN + CLOSED) / 2 for at in (0, -1))
        return len(GRIPPER) * index + torch.where(begins == ends, ends.long(), 2 + ends.long())

    def planned(self, actions: Float[Tensor, "n h a"], valid: Bool[Tensor, "n h"] | None = None) -> Motion:
        """What such chunks do, if the robot obeys; the arguments are those of :meth:`said_of`."""
        velocity, commands = self._summary(actions, valid)
        if commands is None:
            return Motion(velocity_m_s=velocity, gripper=None)
        edge = 2 if actions.shape[1] > 3 else 1
        begins_open, begins_closed = _may_be(commands[:, :edge])
        ends_open, ends_closed = _may_be(commands[:, -edge:])
        words = [
            begins_open & ends_open,
            begins_closed & ends_closed,
            begins_closed & ends_open,
            begins_open & ends_closed,
        ]
        return Motion(velocity_m_s=velocity, gripper=torch.stack(words, dim=-1))

    def done(self, before: Float[Tensor, "n s"], after: Float[Tensor, "n s"], steps: Int[Tensor, " n"]) -> Motion:
        """What robots did that went from one state to another in so many control steps.

        Fingers lag behind commands and stop at what they grasp. So "opening" and "closing" are right where the gap has
        changed that way, "open" where it ends wide, "closed" where it does not. ``ValueError`` where the state does not
        show where the tool is.
        """
        if not self.witnesses:
            raise ValueError(f"expected a state with the tool's position in metres in the world along {self.axes}")
        velocity = (after - before)[:, self._tool] * self._rate_hz / steps.clamp(min=1)[:, None]
        if self._gap is None:
            return Motion(velocity_m_s=velocity, gripper=None)
        index, widest = self._gap
        was, is_now = before[:, index] / widest, after[:, index] / widest
        words = [is_now >= WIDE, is_now <= NOT_WIDE, is_now - was >= CHANGE, was - is_now >= CHANGE]
        return Motion(velocity_m_s=velocity, gripper=torch.stack(words, dim=-1))

    def _summary(
        self, actions: Float[Tensor, "n h a"], valid: Bool[Tensor, "n h"] | None
    ) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n h"] | None]:
        """Mean velocity, and the gripper's commands, the last valid one repeated to the end."""
        n, h = actions.shape[:2]
        lasts = torch.full((n,), h, device=actions.device) if valid is None else valid.sum(dim=1).clamp(min=1)
        counts = torch.arange(h, device=actions.device) < lasts[:, None]
        moved = (actions[..., self._moves] * counts[..., None]).sum(dim=1)
        velocity = moved * self._rate_hz / lasts[:, None]
        if self._gripper is None:
            return velocity, None
        index = torch.minimum(torch.arange(h, device=actions.device).expand(n, h), lasts[:, None] - 1)
        return velocity, actions[..., self._gripper].gather(1, index)


def _may_be(commands: Float[Tensor, "n e"]) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Whether one of the commands may be called open, and closed."""
    return (commands < CLOSED).any(dim=1), (commands > OPEN).any(dim=1)
