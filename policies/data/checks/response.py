"""Whether the arm does what it is told: how late, and in which direction, by commanded against achieved motion."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from envs.specs import Dimension, EmbodimentSpec
from policies.data.checks.digest import GRIPPER_FRAME, Digest, Recording
from policies.data.checks.finding import LEAVE_OUT, Finding

EARLIEST, LATEST = -8, 10
"""Frames by which the arm may follow its command: less than 0 is before it."""
FOLLOWS = 0.4
"""Correlation from which on a state is taken for what an action moves."""
LATE_S = 0.35
LONG_ENOUGH = 12
"""Frames that an episode needs to be judged by itself."""
OTHERWISE = 2
"""An episode whose lag differs from the others' by so many frames was put together wrongly."""
NOT_AT_ALL = 0.4
"""A correlation of less than this share of the usual one is none."""
CLEARLY = 0.2
"""By so much must another lag fit an episode better."""


def out_of_step(recording: Recording) -> Iterator[Finding]:
    """Actions that come too late or early for what the arm does, go the other way, or have nothing to do with it."""
    pairs = responding(recording)
    if not pairs:
        return
    lag = int(np.argmax(_together(recording.episodes, recording, pairs))) + EARLIEST
    if lag < -1 or lag > max(LATE_S * recording.robot.control_rate_hz, OTHERWISE):
        which = "before its command: actions belong to earlier frames" if lag < 0 else "after its command"
        yield Finding(
            check="action and state",
            severity="error",
            episode=None,
            what=f"the arm moves {abs(lag)} frames {which}",
            remedy="shift the actions against the states when the data are converted, or record without the delay",
        )
        return
    usual = _together(recording.episodes, recording, pairs)[lag - EARLIEST]
    for episode in recording.episodes:
        if len(episode) >= LONG_ENOUGH:
            yield from _judge(episode, recording, pairs, lag, float(usual))
    yield from _opposite(recording, pairs, lag)


def _judge(
    episode: Digest, recording: Recording, pairs: Sequence[tuple[int, int]], lag: int, usual: float
) -> Iterator[Finding]:
    found = _together([episode], recording, pairs)
    own = int(np.argmax(found)) + EARLIEST
    as_usual = float(found[lag - EARLIEST])
    near = float(found[max(lag - OTHERWISE - EARLIEST, 0) : lag + OTHERWISE - EARLIEST + 1].max())
    if abs(own - lag) >= OTHERWISE and found.max() > as_usual + CLEARLY and found.max() > usual / 2:
        what = f"the arm follows its command {own} frames later, in other episodes {lag}"
    elif as_usual < -usual / 2:
        what = f"the arm goes the other way than it is told (correlation {as_usual:.2f}, usually {usual:.2f})"
    elif near < NOT_AT_ALL * usual:
        what = f"the arm does not do what it is told (correlation {near:.2f}, usually {usual:.2f})"
    else:
        return
    remedy = "see whether actions and states are of the same episode and frames; " + LEAVE_OUT
    yield Finding(check="action and state", severity="error", episode=episode.number, what=what, remedy=remedy)


def _opposite(recording: Recording, pairs: Sequence[tuple[int, int]], lag: int) -> Iterator[Finding]:
    """Pairs that are called alike and go against each other throughout."""
    for action, state in pairs:
        found = _together(recording.episodes, recording, [(action, state)])[lag - EARLIEST]
        if found < -FOLLOWS:
            names = recording.robot.action[action].name, recording.robot.state[state].name
            yield Finding(
                check="action and state",
                severity="error",
                episode=None,
                what=f"{names[1]} goes down when {names[0]} says up (correlation {found:.2f})",
                remedy="turn the action's sign (scale = -1 in the robot's file) when the data are converted",
            )


def responding(recording: Recording) -> list[tuple[int, int]]:
    """Actions and the states that they move, by their places: those called alike, else the one that follows best."""
    robot, pairs = recording.robot, []
    for action, commanded in enumerate(robot.action):
        if commanded.frame == GRIPPER_FRAME or not any(np.ptp(e.actions[:, action]) for e in recording.episodes):
            continue
        named = [i for i, dim in enumerate(robot.state) if _alike(commanded, dim)]
        scores = {i: _together(recording.episodes, recording, [(action, i)]) for i in named or recording.arm}
        best = max(scores, key=lambda i: float(np.abs(scores[i]).max()))
        if np.abs(scores[best]).max() > FOLLOWS:
            pairs.append((action, best))
    return pairs


def _alike(action: Dimension, state: Dimension) -> bool:
    """``tool_x`` is where ``tool_x`` and ``dx`` lead."""
    if action.relative:
        return state.name == action.name or (state.name, action.name[:1]) == (f"tool_{action.name[1:]}", "d")
    return (state.name, state.unit) == (action.name, action.unit)


def _command(episode: Digest, robot: EmbodimentSpec, action: int, state: int) -> Float[np.ndarray, " t"]:
    """The motion that is asked for in each step: the action where it is a change, its distance from the state that it
    is a place for, else its own change.
    """
    about, column = robot.action[action], episode.actions[:, action]
    if about.relative:
        return column
    if _alike(about, robot.state[state]):
        return column - episode.state[:, state]
    return np.diff(column, prepend=column[:1])


def _together(
    episodes: Sequence[Digest], recording: Recording, pairs: Sequence[tuple[int, int]]
) -> Float[np.ndarray, " lags"]:
    """The correlation of commanded with achieved motion over all pairs and episodes, at each lag."""
    motions = [_motions(episodes, recording, pair) for pair in pairs]
    scores = []
    for lag in range(EARLIEST, LATEST + 1):
        sums = np.zeros(3)
        for of_episodes in motions:
            cut = [_shifted(asked, done, lag) for asked, done in of_episodes]
            asked, done = (np.concatenate(part) for part in zip(*cut, strict=True))
            if len(asked):
                asked, done = asked - asked.mean(), done - done.mean()
                sums += (asked @ done, asked @ asked, done @ done)
        scores.append(sums[0] / np.sqrt(sums[1] * sums[2]) if sums[1] and sums[2] else 0.0)
    return np.nan_to_num(np.array(scores))


def _motions(
    episodes: Sequence[Digest], recording: Recording, pair: tuple[int, int]
) -> list[tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]]:
    """Commanded and achieved motion of a pair in each episode, in units of what is usual, so that metres and radians
    count alike.
    """
    _, state = pair
    asked = [_command(episode, recording.robot, *pair)[:-1] for episode in recording.episodes]
    done = [np.diff(episode.state[:, state]) for episode in recording.episodes]
    scales = [float(np.concatenate(part).std()) or 1.0 for part in (asked, done)]
    place = {episode.number: index for index, episode in enumerate(recording.episodes)}
    wanted = [place[episode.number] for episode in episodes]
    return [(asked[index] / scales[0], done[index] / scales[1]) for index in wanted]


def _shifted(asked: np.ndarray, done: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """What was asked for, and what was done ``lag`` frames later."""
    count = max(len(done) - abs(lag), 0)
    return asked[max(-lag, 0) :][:count], done[max(lag, 0) :][:count]
