"""Episodes as a whole: where they end, whether they are there twice, what they are told."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from policies.data.checks.digest import GRIPPER_FRAME, Digest, Recording, spans
from policies.data.checks.finding import LEAVE_OUT, Finding, Severity

ENOUGH = 6
"""Successes of a task that say where it ends."""
FAR = 4.0
"""An end that is so many times as far from the nearest other one as they usually are is none."""
LEAST_FAR = 0.15
"""Of a range: ends that are nearer than that are alike."""
SHORT = 0.5
"""Of the shortest other success."""
POINTS = 24
"""Moments of an episode that are compared with another's."""
SAME_STATE, SAME_PICTURE_GREY = 0.02, 8.0
"""How much near-duplicates differ at most: in the state, of its range in the data, and in the first coarse pictures."""
SEVERAL = 5
"""Episodes from which on one instruction for all is suspicious."""


def wrong_endings(recording: Recording) -> Iterator[Finding]:
    """Successes that end where no other success of their task does, or far too early."""
    by_task = defaultdict(list)
    for place, episode in enumerate(recording.episodes):
        if episode.success:
            by_task[episode.task].append(place)
    for places in by_task.values():
        if len(places) < ENOUGH:
            continue
        ends = np.stack([_end(recording, place) for place in places])
        lengths = np.array([len(recording.episodes[place]) for place in places])
        apart = np.abs(ends[:, None] - ends).max(-1)
        np.fill_diagonal(apart, np.inf)
        nearest = apart.min(1)
        for index, place in enumerate(places):
            usual = float(np.quantile(np.delete(nearest, index), 0.9))
            shortest = int(np.delete(lengths, index).min())
            if lengths[index] < SHORT * shortest:
                what = f"it has {lengths[index]} frames, every other success of its task at least {shortest}"
            elif nearest[index] > max(FAR * usual, LEAST_FAR):
                dimension = _named(recording, int(np.abs(ends - np.median(ends, 0))[index].argmax()))
                what = f"it is said to succeed, and ends unlike every other success of its task: {dimension}"
            else:
                continue
            yield Finding(
                check="wrong endings",
                severity="warning",
                episode=recording.episodes[place].number,
                frame=int(lengths[index]) - 1,
                what=what,
                remedy=LEAVE_OUT + ", or mark it as a failure",
            )


def _end(recording: Recording, place: int) -> Float[np.ndarray, " d"]:
    """Gripper and commands of it, how high the tool is, and whether the arm still moves: what ends have in common."""
    robot, episode = recording.robot, recording.episodes[place]
    state = episode.state[-1] / spans(robot.state)
    fingers = [i for i, dim in enumerate(robot.state) if dim.frame == GRIPPER_FRAME]
    command = [i for i, dim in enumerate(robot.action) if dim.frame == GRIPPER_FRAME]
    told = episode.actions[-1] / spans(robot.action)
    moves = min(float(np.median(recording.motion[place][-3:])), 1.0) if len(episode) > 3 else 0.0
    return np.concatenate([state[fingers], told[command], state[recording.arm], np.array([moves])])


def _named(recording: Recording, place: int) -> str:
    robot = recording.robot
    names = [dim.name for dim in robot.state if dim.frame == GRIPPER_FRAME]
    names += [f"the command of {dim.name}" for dim in robot.action if dim.frame == GRIPPER_FRAME]
    names += [robot.state[i].name for i in recording.arm]
    return [*names, "how fast the arm still moves"][place]


def near_duplicates(recording: Recording) -> Iterator[Finding]:
    """Episodes of a task that take the same way in the same scene as an earlier one."""
    by_task = defaultdict(list)
    for episode in recording.episodes:
        by_task[episode.task].append(episode)
    whole = np.concatenate([episode.state for episode in recording.episodes])
    scale = np.maximum(np.ptp(whole, axis=0), 1e-3 * spans(recording.robot.state))
    for episodes in by_task.values():
        ways = np.stack([_way(episode) / scale for episode in episodes])
        for index in range(1, len(episodes)):
            apart = np.abs(ways[:index] - ways[index]).mean((1, 2))
            nearest = int(apart.argmin())
            if apart[nearest] < SAME_STATE and _same_pictures(episodes[index], episodes[nearest]):
                yield Finding(
                    check="near duplicates",
                    severity="warning",
                    episode=episodes[index].number,
                    what=f"it is episode {episodes[nearest].number} again",
                    remedy="delete one of the two (vla dataset delete), lest it counts twice and validates itself",
                )


def _way(episode: Digest) -> Float[np.ndarray, "p s"]:
    """The state at moments that are spread evenly over an episode."""
    at = np.linspace(0, len(episode) - 1, POINTS)
    frames = np.arange(len(episode))
    return np.stack([np.interp(at, frames, column) for column in episode.state.T], 1)


def _same_pictures(one: Digest, other: Digest) -> bool:
    return all(np.abs(one.seen[c].first - other.seen[c].first).mean() < SAME_PICTURE_GREY for c in one.seen)


def useless_words(recording: Recording) -> Iterator[Finding]:
    """Instructions without a word, one that several tasks share, and one that all episodes have."""
    told: dict[str, set[str]] = defaultdict(set)
    for episode in recording.episodes:
        told[episode.instruction].add(episode.task)
        if not any(character.isalpha() for character in episode.instruction):
            yield _words("error", episode.number, f"its instruction has no word: {episode.instruction!r}")
    for instruction, tasks in told.items():
        if len(tasks) > 1:
            what = f"{instruction!r} is said of {len(tasks)} tasks: {', '.join(sorted(tasks))}"
            yield _words("error", None, what)
    if len(told) == 1 and len(recording.episodes) >= SEVERAL and len({e.task for e in recording.episodes}) == 1:
        yield _words("warning", None, f"every episode is told the same: {next(iter(told))!r}")


def _words(severity: Severity, episode: int | None, what: str) -> Finding:
    return Finding(
        check="useless words",
        severity=severity,
        episode=episode,
        what=what,
        remedy="say what is to be done in each episode, in several phrasings: a policy ignores words that tell nothing",
    )
