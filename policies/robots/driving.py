"""A robot at its control rate: senses, lets somebody choose, commands, records, tells.

Not a certified safety function: it holds a robot by commanding it to stay, and cannot when its own computer fails.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envs.specs import STATE_KEY, TASK_KEY, image_key
from policies.data.episode import ACTORS
from policies.robots.choosing import Choice, Chooser, RunStoppedError
from policies.robots.commands import Commander, Sent
from policies.robots.driver import Robot, RobotError, StagedRobot
from policies.robots.interrupts import interrupts_put_off
from policies.robots.recorder import RunRecorder
from policies.serving.keys import ObservationError
from policies.serving.line import RobotLine
from policies.serving.metrics import percentiles
from policies.serving.orders import EpisodeOrder
from policies.serving.pace import Pace
from vla.strict_json import finite

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EpisodeOutcome:
    """One episode on a robot. ``ended_by`` is ``task`` (it was done, or the scene ran out), ``time``, ``operator``,
    ``interrupt`` or ``fault``, and ``why`` says what fault; with ``robot_lost`` it was the robot's. ``success`` is what
    the scene knew or the operator said, None where nobody did. ``steps`` were taken in ``wall_s``, so many ``by`` each
    actor, ``late_steps`` beyond their period.

    ``bent`` and ``slowed`` commands were beyond the robot's bounds or its greatest step; ``refused`` answers could not
    be sent at all. ``recorded`` is its number in the store. JSON-ready.
    """

    seed: int
    instruction: str
    ended_by: str
    success: bool | None
    steps: int
    wall_s: float
    by: dict[str, int]
    late_steps: int
    bent: int
    slowed: int
    refused: int
    round_trip_ms: dict[str, float | None]
    recorded: int | None = None
    why: str | None = None
    robot_lost: bool = False


class RobotLostError(RunStoppedError):
    """Nothing has been heard of the robot for too long."""


class RobotRun:
    """One robot, driven episode after episode; the caller connects and closes all of them."""

    def __init__(
        self,
        robot: Robot,
        chooser: Chooser,
        commander: Commander,
        *,
        line: RobotLine | None = None,
        recorder: RunRecorder | None = None,
    ) -> None:
        self._robot = robot
        self._chooser = chooser
        self._commander = commander
        self._line = line
        self._recorder = recorder
        self._rate_hz = robot.embodiment.control_rate_hz
        self._obeyed = 0
        self._episodes = 0
        self._success = False
        self.unkept: OSError | None = None
        """Why the last episode could not be written down, while it waits for :meth:`keep_again`."""

    def wait_for_start(self, instruction: str) -> None:
        """Hold until the operator starts an episode, which has an ``instruction`` or is given one by him.

        :class:`RunStoppedError` when the line to him is lost, :class:`RobotLostError` when the robot is.
        """
        assert self._line is not None
        pace = Pace(1.0 / self._rate_hz)
        pace.start()
        told = isinstance(self._robot, StagedRobot) or bool(instruction)
        while True:
            choice, observation = self._look_between()
            if self._order() == "start" and observation is not None:
                if told or self._line.orders.instruction:
                    return
                choice = self._chooser.held("write an instruction, then start")
            if observation is not None:
                self._tell(observation, choice, None, 0)
            pace.wait()

    def _look_between(self) -> tuple[Choice, dict[str, Any] | None]:
        assert self._line is not None
        try:
            observation = self._robot.observe()
        except RobotError as error:
            try:
                return self._chooser.failed(f"the robot: {error}"), None
            except RunStoppedError as stopped:
                raise RobotLostError(str(stopped)) from error
        if self._line.silent:
            return self._chooser.failed("the operator's page is out of reach"), observation
        return self._chooser.held("between episodes"), observation

    def episode(self, seed: int, instruction: str, most_steps: int) -> EpisodeOutcome:
        """Drive until the task is done, the operator ends it, ``most_steps`` are taken, or something fails.

        The robot is held at the end, whatever ended it. ``KeyboardInterrupt`` ends the episode in good order too.
        """
        tally = _Tally()
        self._chooser.drop()
        refused, asked = self._chooser.refused, len(self._chooser.timings)
        self._episodes += 1
        pace = Pace(1.0 / self._rate_hz)
        began_s = time.monotonic()
        try:
            instruction = self._begin(seed, instruction)
            pace.start()
            self._drive(pace, tally, instruction, most_steps)
        except RunStoppedError as stopped:
            tally.end("fault", why=str(stopped))
        except RobotError as error:
            tally.robot_lost = True
            tally.end("fault", why=f"the robot: {error}")
        except KeyboardInterrupt:
            tally.interrupt()
        finally:
            self._finish(tally)
        wall_s = time.monotonic() - began_s
        return EpisodeOutcome(
            seed=seed,
            instruction=tally.instruction or instruction,
            ended_by=tally.ended_by,
            success=tally.success,
            steps=tally.steps,
            wall_s=round(wall_s, 3),
            by=dict(tally.by),
            late_steps=pace.late,
            bent=tally.bent,
            slowed=tally.slowed,
            refused=self._chooser.refused - refused,
            round_trip_ms=percentiles([timing.round_trip_ms for timing in self._chooser.timings[asked:]]),
            recorded=tally.recorded,
            why=tally.why,
            robot_lost=tally.robot_lost,
        )

    def _finish(self, tally: "_Tally") -> None:
        """Stop the robot and keep what was recorded; Ctrl-C meanwhile is heeded when that is done."""
        try:
            with interrupts_put_off():
                self._stop(tally)
                self._chooser.drop()
                self._keep(tally)
        except KeyboardInterrupt:
            tally.interrupt()

    def _stop(self, tally: "_Tally") -> None:
        """Make the robot stand still; one that cannot be told so any more is lost, and nothing else is."""
        try:
            self._robot.stop()
        except RobotError as error:
            log.error("the robot could not be stopped: %s", error)
            tally.robot_lost = True
            tally.end("fault", why=f"the robot could not be stopped: {error}")

    def _begin(self, seed: int, instruction: str) -> str:
        self._order()  # what was said of the episode before
        if isinstance(self._robot, StagedRobot):
            staged = self._robot.begin(seed)
            instruction = instruction or staged
        self._commander.start(self._robot.observe())
        self._open_record(instruction, seed)
        return instruction

    def _open_record(self, instruction: str, seed: int) -> None:
        if self._recorder is not None:
            self._recorder.begin(instruction, getattr(self._robot, "task_name", self._robot.embodiment.name), seed)

    def _drive(self, pace: Pace, tally: "_Tally", instruction: str, most_steps: int) -> None:
        own = instruction
        while not tally.ended_by:
            instruction = tally.instruction = self._edited(instruction, own)
            choice, observation = self._look_and_choose(tally, instruction, pace.left_s())
            sent = self._send(choice)
            if sent is not None and observation is not None and self._recorder is not None:
                self._recorder.add(observation, sent.meant, choice.actor)
            tally.count(choice.actor, sent)
            if observation is not None:
                self._tell(observation, choice, sent, tally.steps, tally.violations + self._chooser.refused)
            self._end_if_over(tally, most_steps)
            pace.wait()

    def _look_and_choose(
        self, tally: "_Tally", instruction: str, left_s: float
    ) -> tuple[Choice, dict[str, Any] | None]:
        try:
            observation = {**self._robot.observe(), TASK_KEY: instruction}
            if tally.robot_lost:  # it may be elsewhere by now than it was told to be
                self._commander.start(observation)
            tally.robot_lost = False
            return self._chooser.choose(observation, self._commander.last, left_s), observation
        except (RobotError, ObservationError) as error:
            tally.robot_lost = isinstance(error, RobotError)
            return self._chooser.failed(f"the robot: {error}"), None

    def _send(self, choice: Choice) -> Sent | None:
        """Command what was chosen, or to stay; None where the robot was never told anything and nothing says where it
        is.
        """
        sent = self._commander.hold() if choice.action is None else self._commander.command(choice.action)
        if sent is not None and (told := self._robot.act(sent.action)) is not None:
            sent = self._commander.carried_out(sent, told)
        return sent

    def _edited(self, instruction: str, own: str) -> str:
        """What is asked from now on: the operator's instruction, or else the episode's ``own``. Another one than before
        begins another recorded episode: one has one instruction.
        """
        asked = (self._line.orders.instruction if self._line is not None else None) or own
        if asked == instruction:
            return instruction
        if self._recorder is not None:
            self._recorder.told(asked)
        self._chooser.drop()
        return asked

    def _end_if_over(self, tally: "_Tally", most_steps: int) -> None:
        order = self._order()
        if order in ("success", "failure", "discard"):
            tally.end("operator", success=None if order == "discard" else order == "success", keep=order != "discard")
        elif isinstance(self._robot, StagedRobot) and self._robot.ended:
            tally.end("task", success=self._robot.success)
        elif tally.steps >= most_steps:
            tally.end("time", success=self._robot.success if isinstance(self._robot, StagedRobot) else None)

    def _order(self) -> EpisodeOrder:
        """What the operator has newly said of the episode."""
        if self._line is None:
            return "none"
        orders = self._line.orders
        if orders.episode_number <= self._obeyed:
            return "none"
        self._obeyed = orders.episode_number
        return orders.episode

    def _keep(self, tally: "_Tally") -> None:
        if self._recorder is None:
            return
        if not tally.keep:
            self._recorder.drop()
        self._success = bool(tally.success)
        tally.recorded = self.keep_again()

    def keep_again(self) -> int | None:
        """Write down what waits for it; the last episode's number, None where there is none. What cannot be written,
        as on a full disk, stays :attr:`unkept`.
        """
        assert self._recorder is not None
        self.unkept = None
        try:
            return self._recorder.end(self._success)
        except OSError as error:
            self.unkept = error
            log.error("the episode could not be recorded: %s", error)
            return None

    def _tell(
        self, observation: Mapping[str, Any], choice: Choice, sent: Sent | None, step: int, violations: int = 0
    ) -> None:
        if self._line is None:
            return
        images = {name: observation[image_key(name)] for name in self._robot.embodiment.camera_names}
        facts = {
            "actor": choice.actor,
            "why": choice.why,
            "step": step,
            "episode": self._episodes,
            "action": [] if sent is None else [float(value) for value in sent.meant],
            "state": [float(value) for value in observation[STATE_KEY]],
            "instruction": str(observation.get(TASK_KEY, "")),
            "violations": violations,
            "under_way": step > 0,
            "recorded": self._recorder.recorded if self._recorder is not None else None,
        }
        self._line.report(images, finite(facts))


class _Tally:
    """Counts of an episode under way, and how it ended."""

    def __init__(self) -> None:
        self.ended_by = ""
        self.success: bool | None = None
        self.why: str | None = None
        self.instruction = ""
        self.keep = True
        self.recorded: int | None = None
        self.robot_lost = False
        self.steps = self.bent = self.slowed = 0
        self.by: Counter[str] = Counter(dict.fromkeys(ACTORS, 0))

    @property
    def violations(self) -> int:
        return self.bent + self.slowed

    def count(self, actor: str, sent: Sent | None) -> None:
        self.steps += 1
        self.by[actor] += 1
        self.bent += sent is not None and sent.bent
        self.slowed += sent is not None and sent.slowed

    def end(self, by: str, *, success: bool | None = None, why: str | None = None, keep: bool = True) -> None:
        if not self.ended_by:
            self.ended_by, self.success, self.why, self.keep = by, success, why, keep

    def interrupt(self) -> None:
        """Whatever ended it: the run is over."""
        self.ended_by = "interrupt"
