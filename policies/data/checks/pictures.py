"""Pictures that stand still, show nothing, or are another camera's."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from jaxtyping import Float

from policies.data.checks.digest import Digest, Recording
from policies.data.checks.finding import LEAVE_OUT, Finding, runs

MOVING = 0.25
"""An arm that moves less in a step, of what it usually does at most, may leave a coarse picture as it is."""
STILL = 0.02
"""A picture that changes by less than this share of what is usual while the arm moves has not been taken anew."""
RARELY = 0.1
"""A camera whose pictures stand still in a larger share of the moving steps does not see the arm all the time."""
NOTHING_GREY = 0.1
"""Pictures of less contrast show nothing; even a wall close to the lens has more."""
NOTHING_FRAMES = 2
SEVERAL_FRAMES, LONG_FRAMES = 2, 4
"""Pictures in a row that stand still for a warning, and for an error."""
NEARER = 0.2
"""So much nearer must first pictures be to another camera's than to their own, in correlation."""
COMPARED = 40
"""Other episodes that an episode's first pictures are compared with, at most."""


def stuck_pictures(recording: Recording) -> Iterator[Finding]:
    """Successive pictures of a camera that are the same while the arm moves."""
    for camera in recording.robot.camera_names:
        steps = [motion > MOVING for motion in recording.motion]
        changes = [e.seen[camera].change for e in recording.episodes]
        usual = np.concatenate([change[step] for change, step in zip(changes, steps, strict=True)])
        least = STILL * float(np.median(usual)) if len(usual) else 0.0
        stuck = [step & (change <= least) for step, change in zip(steps, changes, strict=True)]
        if len(usual) and not usual.any():
            yield Finding(
                check="stuck pictures",
                severity="error",
                episode=None,
                camera=camera,
                what="its pictures never change while the arm moves",
                remedy="record anew: the camera delivers one picture for ever, or does not see the robot",
            )
            continue
        shares = [s.sum() / max(m.sum(), 1) for s, m in zip(stuck, steps, strict=True)]
        if np.median(shares) > RARELY:
            continue
        middle = float(np.median(usual))
        for episode, marked in zip(recording.episodes, stuck, strict=True):
            for first, length in runs(np.flatnonzero(marked).tolist()):
                if length < SEVERAL_FRAMES or _leaves_the_view(episode.seen[camera].change, first, length, middle):
                    continue
                yield Finding(
                    check="stuck pictures",
                    severity="error" if length >= LONG_FRAMES else "warning",
                    episode=episode.number,
                    frame=first + 1,
                    camera=camera,
                    what=f"{length} of its pictures in a row are the one before again, while the arm moves",
                    remedy=LEAVE_OUT + ", or record with a camera that keeps up",
                )


def _leaves_the_view(change: Float[np.ndarray, " t-1"], first: int, length: int, usual: float) -> bool:
    """Whether pictures may stand still since the arm has left the view: it goes and comes little by little, where a
    camera that was stuck goes on with a jump, or was in the middle of a motion when it stopped for good.
    """
    before = change[first - 1] if first else 0.0
    after = change[first + length :]
    if not len(after):
        return bool(before < usual / 2)
    return bool(after[0] < max(usual / 2, before))


def blank_pictures(recording: Recording) -> Iterator[Finding]:
    """Pictures of one grey: a lens cap, a broken cable, an array that was never filled."""
    for episode in recording.episodes:
        for camera, seen in episode.seen.items():
            blank = np.flatnonzero(seen.contrast < NOTHING_GREY)
            if len(blank) >= NOTHING_FRAMES:
                yield Finding(
                    check="blank pictures",
                    severity="error",
                    episode=episode.number,
                    frame=int(blank[0]),
                    camera=camera,
                    what=f"{len(blank)} of its {len(episode)} pictures show nothing",
                    remedy=LEAVE_OUT,
                )


def equal_cameras(recording: Recording) -> Iterator[Finding]:
    """Two cameras that show the very same picture."""
    for episode in recording.episodes:
        for one, other in episode.equal:
            yield Finding(
                check="equal cameras",
                severity="error",
                episode=episode.number,
                camera=other,
                what=f"it shows the very pictures of {one}",
                remedy="record anew, each camera under its own name",
            )


def swapped_cameras(recording: Recording) -> Iterator[Finding]:
    """Episodes whose first pictures look like those that another camera takes in the other episodes.

    Compared are coarse pictures by their correlation, which neither light nor contrast changes.
    """
    robot, episodes = recording.robot, recording.episodes
    for one, other in combinations(robot.camera_names, 2):
        if len(episodes) < 4:
            return
        looks = {camera: np.stack([_look(e, camera) for e in episodes]) for camera in (one, other)}
        chosen = np.linspace(0, len(episodes) - 1, min(COMPARED, len(episodes))).round().astype(int)
        alike = {(a, b): _alike(looks[a], looks[b][chosen], chosen) for a in (one, other) for b in (one, other)}
        gain = alike[one, other] + alike[other, one] - alike[one, one] - alike[other, other]
        for place in np.flatnonzero(gain > 2 * NEARER):
            yield Finding(
                check="swapped cameras",
                severity="error",
                episode=episodes[place].number,
                frame=0,
                camera=one,
                what=f"it looks like {other} in other episodes, and {other} like it",
                remedy="give the two cameras their own names in this episode, or delete it (vla dataset delete)",
            )


def _look(episode: Digest, camera: str) -> np.ndarray:
    """A first picture with mean 0 and length 1."""
    flat = episode.seen[camera].first.reshape(-1)
    flat = flat - flat.mean()
    return flat / max(float(np.linalg.norm(flat)), 1e-9)


def _alike(looks: np.ndarray, others: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The middle correlation of every episode's picture with those of the chosen ones, not counting itself."""
    found = looks @ others.T
    found[chosen, np.arange(len(chosen))] = np.nan
    return np.nanmedian(found, axis=1)
