"""Drive a robot by a policy: a real one as a file describes it, or a simulated one in real time.

The policy is a checkpoint, which is then served inside this process, or a server's ws:// address. The robot holds
whenever nobody is at the dead-man's switch, the policy is late or gone, or the operator's page says so, and is stopped
when this program ends, also by Ctrl-C. None of that is a certified safety function: keep the robot's own emergency stop
in reach.

A server's token comes from --token-file, or else from the environment variable VLA_SERVE_TOKEN. Names that end in -s
are seconds.
"""

import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from configs.acting import is_server
from configs.environments import episode_seeds, make_env, seen_as
from configs.machine import check_output_file, check_threads, describe_run
from configs.run_directory import write_json
from configs.serialization import to_json
from configs.worlds import EnvConfig, Split
from policies.robots.choosing import Timing
from policies.robots.interrupts import ENDING
from policies.serving.client import ClientConfig, PolicyClient

if TYPE_CHECKING:
    from envs.specs import EmbodimentSpec
    from policies.robots.driver import Robot
    from policies.robots.driving import EpisodeOutcome, RobotRun
    from policies.robots.heartbeat import Heartbeat
    from policies.robots.recorder import RunRecorder
    from policies.serving.line import RobotLine

SIMULATED = "sim"
INTERRUPTED = 130
RETRY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which policy drives which robot, who watches, and what is kept."""

    policy: Annotated[str, tyro.conf.Positional]
    """A training run's folder, one checkpoint in it, or the ws:// or wss:// address of a policy server."""
    robot: str = SIMULATED
    """A TOML file that describes the robot, or sim."""
    task: str = "pick"
    """sim: the task of its world."""
    split: Split = "held_out"
    """sim: phrasings of the instructions, those of the demonstrations or held-out ones."""
    instruction: str = ""
    """What to tell the policy; a simulated robot's world has one of its own."""
    episodes: int = 1
    """How many episodes, one after the other."""
    first_seed: int = 0
    """sim: the first seed, of the stream evaluate."""
    episode_s: float = 60.0
    """How long an episode may last."""
    from_page: bool = False
    """Begin each episode when the operator's page says so, rather than at once."""
    deadman: Literal["none", "key", "page"] | Path = "none"
    """Who must be there for the robot to move: nobody; somebody who holds a key in this terminal; an operator's page
    that is open and alive; or who touches this file again and again. Without, the robot holds within half a second.
    """
    page: bool = False
    """A checkpoint: also serve the operator's page. Its address is printed."""
    port: int = 0
    """A checkpoint: the port of its server, on this machine alone; 0 takes any free one."""
    come_back_s: float = 0.0
    """How long to wait for a robot that was lost, such as for its driver to be started anew, before the next episode;
    0: the run ends. The episode in which it was lost ends in any case, with what was recorded of it."""
    record: Path | None = None
    """Record what happens into this dataset, with who acted at each frame."""
    json: Path | None = None
    """Also write the episodes to this file."""
    device: str = "cpu"
    """A checkpoint: where its network runs, such as cpu or cuda."""
    threads: int = 0
    """A checkpoint: threads for its network on the CPU; 0 leaves torch's choice."""
    timing: Annotated[Timing, tyro.conf.arg(name="")] = field(default_factory=Timing)
    env: EnvConfig = field(default_factory=EnvConfig)
    """sim: its world. Its cameras are those that the policy expects."""
    client: Annotated[ClientConfig, tyro.conf.arg(name="")] = field(default_factory=ClientConfig)

    def __post_init__(self) -> None:
        if not 0 < self.episode_s < 3600:
            raise ValueError(f"episode_s must be positive and less than an hour, got {self.episode_s}")
        if not 0 <= self.come_back_s < 3600:
            raise ValueError(f"come_back_s must be 0 or more and less than an hour, got {self.come_back_s}")
        if self.come_back_s and self.robot == SIMULATED:
            raise ValueError("come_back_s is for a robot that can be lost: name its file with robot")
        if self.client.url != ClientConfig().url:
            raise ValueError("name the server in place of the policy, not with url")
        if is_server(self.policy) and (self.page or self.port or self.threads or self.device != "cpu"):
            raise ValueError(
                "page, port, device and threads are for a checkpoint: a server has its own (vla serve --page)"
            )
        check_threads(self.threads, self.device)


def run(config: Config) -> int:
    """Print a line per episode; 1 if a fault stopped the robot, 130 if Ctrl-C did."""
    seeds = episode_seeds(config.episodes, config.first_seed)
    if config.json is not None:
        check_output_file(config.json)
    if config.robot != SIMULATED and not config.instruction and not config.from_page:
        raise ValueError("tell the policy what to do: --instruction 'pick up the red cube'")
    outcomes: list[EpisodeOutcome] = []
    with _interruptible(), ExitStack() as scope:
        client = scope.enter_context(PolicyClient(_client_config(config, scope)))
        robot = _robot(config, client.embodiment)
        scope.callback(robot.close)
        line = _line(config, client, scope)
        heartbeat = _heartbeat(config, line, scope)
        drive = _drive(config, client, robot, line, heartbeat, scope)
        scope.callback(_write_outcomes, config, outcomes)
        for seed in seeds:
            if config.from_page and not _started(drive, robot, config):
                return 1
            outcomes.append(drive.episode(seed, config.instruction, _most_steps(config, robot)))
            outcomes[-1] = _kept(drive, outcomes[-1])
            print(_line_of(outcomes[-1]), flush=True)
            if outcomes[-1].ended_by == "interrupt":
                break
            if outcomes[-1].robot_lost and seed != seeds[-1] and _comes_back(robot, config.come_back_s):
                continue
            if outcomes[-1].ended_by == "fault":
                break
    return {"fault": 1, "interrupt": INTERRUPTED}.get(outcomes[-1].ended_by, 0)


def _started(drive: "RobotRun", robot: "Robot", config: Config) -> bool:
    """Whether the operator has started an episode; not where the line to him is lost, or the robot for too long."""
    from policies.robots.choosing import RunStoppedError
    from policies.robots.driving import RobotLostError

    while True:
        try:
            drive.wait_for_start(config.instruction)
        except RobotLostError as lost:
            print(lost, file=sys.stderr, flush=True)
            if not _comes_back(robot, config.come_back_s):
                return False
        except RunStoppedError as stopped:
            print(stopped, file=sys.stderr, flush=True)
            return False
        else:
            return True


def _kept(drive: "RobotRun", outcome: "EpisodeOutcome") -> "EpisodeOutcome":
    """``outcome`` when its episode is in the store: where it cannot be written, as on a full disk, that is tried again
    until it can be, or Ctrl-C gives it up.
    """
    while drive.unkept is not None:
        print(
            f"not recorded yet: {drive.unkept}; make room, it is tried again every {RETRY_S:g} s (Ctrl-C drops it)",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(RETRY_S)
        outcome = replace(outcome, recorded=drive.keep_again())
    return outcome


def _write_outcomes(config: Config, outcomes: "list[EpisodeOutcome]") -> None:
    if config.json is not None:
        episodes = [asdict(outcome) for outcome in outcomes]
        write_json({"config": to_json(config), "machine": describe_run(), "episodes": episodes}, config.json)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and a terminal that is gone end the run in good order, as Ctrl-C does, also where this was started in the
    background.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _client_config(config: Config, scope: ExitStack) -> ClientConfig:
    """Where the policy is served: at the address given, or by this process, for as long as ``scope``."""
    if is_server(config.policy):
        return replace(config.client, url=config.policy)
    from configs.acting import load_policy
    from policies.serving.config import ServeConfig
    from policies.serving.server import PolicyServer, running

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    quiet = logging.getLogger("policies.serving.server.websockets")
    quiet.setLevel(logging.WARNING)  # of this program's own connections
    policy = load_policy(config.policy, device=config.device, threads=config.threads, at_once=1)
    settings = ServeConfig(port=config.port, page=config.page, token_file=config.client.token_file, max_batch=1)
    port = scope.enter_context(running(PolicyServer(policy, settings)))
    return replace(config.client, url=f"ws://127.0.0.1:{port}")


def _robot(config: Config, embodiment: "EmbodimentSpec") -> "Robot":
    """The robot, connected."""
    if config.robot == SIMULATED:
        from envs.suites import find_task
        from policies.robots.simulated import SimulatedRobot

        find_task(config.task)
        seen = seen_as(embodiment, config.env)
        robot: Robot = SimulatedRobot(make_env(config.task, 1, stream="evaluate", split=config.split, config=seen))
    else:
        from policies.robots.opening import read_robot

        robot = read_robot(Path(config.robot))
    try:
        robot.connect()
    except BaseException:
        robot.close()
        raise
    return robot


def _comes_back(robot: "Robot", within_s: float) -> bool:
    """Whether a robot that was lost can be reached anew within so long."""
    from policies.robots.driver import RobotError

    end_s = time.monotonic() + within_s
    while (left_s := end_s - time.monotonic()) > 0:
        try:
            robot.connect()
        except RobotError as error:
            print(f"waiting {left_s:.0f} s for the robot: {error}", file=sys.stderr, flush=True)
            time.sleep(min(1.0, left_s))
        else:
            return True
    return False


def _line(config: Config, client: PolicyClient, scope: ExitStack) -> "RobotLine | None":
    """The line to the server's page, if it has one; ``ValueError`` where there is none, and one is needed."""
    from policies.serving.line import LINE_KEY, RobotLine

    name = client.metadata.get(LINE_KEY)
    if name is None:
        if config.from_page or config.deadman == "page":
            raise ValueError("the server has no page: start it with vla serve --page, or give --page with a checkpoint")
        return None
    line = RobotLine(client.config, str(name), client.embodiment.action_dim)
    scope.callback(line.close)
    return line


def _heartbeat(config: Config, line: "RobotLine | None", scope: ExitStack) -> "Heartbeat":
    from policies.robots.heartbeat import Attended, NobodyAsked, file_touched, key_held

    if config.deadman == "none":
        return NobodyAsked()
    if config.deadman == "page":
        assert line is not None
        return Attended(line)
    return scope.enter_context(key_held()) if config.deadman == "key" else file_touched(Path(config.deadman))


def _drive(
    config: Config,
    client: PolicyClient,
    robot: "Robot",
    line: "RobotLine | None",
    heartbeat: "Heartbeat",
    scope: ExitStack,
) -> "RobotRun":
    from policies.robots.choosing import Chooser
    from policies.robots.commands import Commander
    from policies.robots.driving import RobotRun

    chooser = Chooser(client, config.timing, heartbeat, line)
    commander = Commander(client.embodiment, robot.embodiment, robot.limits)
    recorder = _recorder(config, client.embodiment, robot)
    if recorder is not None:
        scope.callback(recorder.close)
    return RobotRun(robot, chooser, commander, line=line, recorder=recorder)


def _recorder(config: Config, embodiment: "EmbodimentSpec", robot: "Robot") -> "RunRecorder | None":
    if config.record is None:
        return None
    from policies.robots.recorder import RunRecorder, has_geometry

    simulated = {"env": to_json(config.env), "split": config.split} if config.robot == SIMULATED else {}
    settings = {"verb": "run", "robot": Path(config.robot).name, **simulated}
    return RunRecorder(config.record, embodiment, settings, has_geometry(robot.observe(), embodiment))


def _most_steps(config: Config, robot: "Robot") -> int:
    return max(round(config.episode_s * robot.embodiment.control_rate_hz), 1)


def _line_of(outcome: "EpisodeOutcome") -> str:
    """One episode in words."""
    judged = {None: "not judged", True: "success", False: "failure"}[outcome.success]
    by = ", ".join(f"{count} {actor}" for actor, count in outcome.by.items() if count)
    rate = outcome.steps / outcome.wall_s if outcome.wall_s else 0.0
    kept = "" if outcome.recorded is None else f"; recorded as {outcome.recorded}"
    why = f" ({outcome.why})" if outcome.why else ""
    bad = f"{outcome.bent} bent, {outcome.slowed} slowed, {outcome.refused} refused"
    return (
        f"seed {outcome.seed}: {judged}, ended by {outcome.ended_by}{why}; {outcome.steps} steps, {rate:.1f} a second "
        f"({by}), {outcome.late_steps} late; {bad}{kept}"
    )
