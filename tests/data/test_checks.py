"""Faults that are planted into real recordings are found, and clean recordings give none."""

from dataclasses import replace

import numpy as np
import pytest

from configs.cli import main
from policies.data.checks.checking import check_recording, find_faults
from policies.data.checks.digest import Recording, digest
from policies.data.dataset import DemonstrationDataset
from policies.data.writer import DemonstrationWriter

EPISODES = 8
SMALL = ["--env.image-size-px", "32", "--env.threads", "1"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The expert's in the real simulator."""
    path = tmp_path_factory.mktemp("checked") / "pick"
    assert main(["collect", "pick", "--episodes", str(EPISODES), "--path", str(path), *SMALL]) == 0
    return path


@pytest.fixture(scope="module")
def clean(recorded):
    dataset = DemonstrationDataset(recorded)
    return dataset, [dataset.episode(number) for number in range(len(dataset))]


def found_with(clean, changed):
    """What is found when some episodes are others: (check, severity, episode, frame)."""
    dataset, episodes = clean
    episodes = [changed.get(number, episode) for number, episode in enumerate(episodes)]
    digests = tuple(digest(number, episode) for number, episode in enumerate(episodes))
    return check_recording(Recording(dataset.embodiment, digests))


def test_a_clean_recording_gives_nothing(clean):
    assert found_with(clean, {}) == []


def stuck(episode):
    images = {name: pictures.copy() for name, pictures in episode.images.items()}
    images["wrist"][5:10] = images["wrist"][4]
    return replace(episode, images=images)


def every(episode, frames):
    """Only these frames of an episode."""
    images = {name: pictures[frames] for name, pictures in episode.images.items()}
    cameras = {
        n: replace(g, intrinsics=g.intrinsics[frames], T_world_cam=g.T_world_cam[frames])
        for n, g in episode.cameras.items()
    }
    arrays = {"state": episode.state[frames], "actions": episode.actions[frames]}
    depth = {name: values[frames] for name, values in episode.depth.items()}
    phase = None if episode.phase is None else episode.phase[frames]
    return replace(episode, images=images, cameras=cameras, depth=depth, phase=phase, **arrays)


def dropped(episode):
    frames = np.arange(len(episode))
    return every(episode, np.delete(frames, slice(6, 10)))


def shifted(episode, by):
    arm = np.roll(episode.actions[:, :6], by, axis=0)
    return replace(episode, actions=np.concatenate([arm, episode.actions[:, 6:]], 1))


def with_column(episode, vector, place, change):
    values = getattr(episode, vector).copy()
    values[:, place] = change(values[:, place])
    return replace(episode, **{vector: values})


def swapped(episode):
    front, wrist = (episode.images[name] for name in ("front", "wrist"))
    return replace(episode, images={"front": wrist, "wrist": front})


def blank(episode):
    return replace(episode, images=episode.images | {"front": np.zeros_like(episode.images["front"])})


def gripper_of(dimensions):
    return next(i for i, dim in enumerate(dimensions) if dim.frame == "gripper")


def others(episode, other):
    """The actions of another episode, backwards."""
    return other.actions[np.arange(len(episode)) % len(other)][::-1]


def at_frame_7(column):
    return np.where(np.arange(len(column)) == 7, np.nan, column)


NUMBER, ARM = 3, slice(0, 3)


@pytest.mark.parametrize(
    ("fault", "check", "frame"),
    [
        (lambda e, c: stuck(e), "stuck pictures", 5),
        (lambda e, c: dropped(e), "dropped frames", 6),
        (lambda e, c: shifted(e, -5), "action and state", None),
        (lambda e, c: replace(e, actions=others(e, c[1][5])), "action and state", None),
        (lambda e, c: with_column(e, "actions", ARM, lambda a: -a), "action and state", None),
        (lambda e, c: with_column(e, "state", 1, lambda s: 0 * s + s[0]), "constant dimensions", None),
        (lambda e, c: with_column(e, "actions", ARM, lambda a: a.clip(-0.012, 0.012)), "clipped dimensions", None),
        (lambda e, c: with_column(e, "actions", 6, lambda a: 1 - a), "gripper sign", None),
        (lambda e, c: swapped(e), "swapped cameras", 0),
        (lambda e, c: blank(e), "blank pictures", 0),
        (lambda e, c: replace(e, images=e.images | {"wrist": e.images["front"]}), "equal cameras", None),
        (lambda e, c: every(e, slice(0, len(e) // 3)), "wrong endings", None),
        (lambda e, c: every(e, slice(0, len(e) * 2 // 3)), "wrong endings", None),
        (lambda e, c: c[1][0], "near duplicates", None),
        (lambda e, c: every(c[1][0], slice(1, None)), "near duplicates", None),
        (lambda e, c: replace(e, instruction=" … "), "useless words", None),
        (lambda e, c: with_column(e, "actions", 0, lambda a: a * 1000), "out of bounds", None),
        (lambda e, c: with_column(e, "state", 0, at_frame_7), "out of bounds", 7),
    ],
)  # fmt: skip
def test_a_planted_fault_is_found_in_its_episode(clean, fault, check, frame):
    findings = found_with(clean, {NUMBER: fault(clean[1][NUMBER], clean)})
    own = [f for f in findings if f.check == check]
    assert own and {f.episode for f in own} == {NUMBER}, findings
    assert frame is None or frame in {f.frame for f in own}
    assert {f.episode for f in findings} == {NUMBER}, findings  # and the others are as clean as before


def everywhere(clean, change):
    return found_with(clean, {number: change(episode) for number, episode in enumerate(clean[1])})


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda e: shifted(e, 4), "action and state"),
        (lambda e: with_column(e, "actions", 6, lambda a: 1 - a), "gripper sign"),
        (lambda e: with_column(e, "actions", 1, lambda a: -a), "action and state"),
        (lambda e: replace(e, instruction="do it"), "useless words"),
        (lambda e: with_column(e, "state", 2, lambda s: 0 * s + 0.5), "constant dimensions"),
        (lambda e: replace(e, images=e.images | {"front": e.images["front"][0 * np.arange(len(e))]}), "stuck pictures"),
    ],
)  # fmt: skip
def test_a_fault_of_the_whole_recording_is_told_once(clean, change, check):
    findings = [f for f in everywhere(clean, change) if f.check == check]
    assert [f.episode for f in findings] == [None], findings


def test_clocks_that_drift_stop_or_skip_are_told_from_one_that_runs(clean):
    dataset, episodes = clean
    period_s = 1 / dataset.embodiment.control_rate_hz
    rng = np.random.default_rng(0)

    def timed(times_of):
        return {n: replace(e, times_s=times_of(n, np.arange(len(e)) * period_s)) for n, e in enumerate(episodes)}

    jitter = {n: rng.normal(0, 0.02 * period_s, len(e)) for n, e in enumerate(episodes)}
    assert found_with(clean, timed(lambda n, t: 50 + t + jitter[n])) == []
    faults = (
        (lambda n, t: t * (1.1 if n == NUMBER else 1), None, "Hz by their time stamps"),
        (lambda n, t: t + 3 * period_s * (n == NUMBER) * (t > 6.5 * period_s), 7, "come late"),
        (lambda n, t: np.where((n == NUMBER) & (t > 6.5 * period_s), t - period_s, t), 7, "do not rise"),
    )
    for times_of, frame, says in faults:
        (finding,) = found_with(clean, timed(times_of))
        assert (finding.check, finding.episode, finding.frame) == ("drifting clock", NUMBER, frame)
        assert says in finding.what


def test_the_command_says_what_is_wrong_and_where_and_shows_it(recorded, clean, tmp_path, capsys):
    dataset, episodes = clean
    path, page = tmp_path / "faulty", tmp_path / "page.html"
    assert main(["dataset", "check", str(recorded)]) == 0
    assert f"{EPISODES} episodes" in capsys.readouterr().out
    with DemonstrationWriter.create_like(path, dataset.header) as writer:
        for number, episode in enumerate(episodes):
            writer.append(stuck(episode) if number == 2 else swapped(episode) if number == 4 else episode)
    assert main(["dataset", "check", str(path), "--report", str(page)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "error stuck pictures 2 5 wrist" in said and "error swapped cameras 4 0" in said
    assert "2 errors, 0 warnings" in said
    text = page.read_text(encoding="utf-8")
    assert "stuck pictures: episode 2, frame 5" in text and text.count("data:image/webp") >= 5 + 8
    with DemonstrationWriter.open(path) as writer:
        writer.remove([2, 4])
    assert find_faults(DemonstrationDataset(path)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["reach", "pick", "place", "stack", "push", "drawer", "button", "peg", "--episodes", "6"],
        ["pick", "place", "door", "--episodes", "8", "--env.perturbation", "colosseum-14:all"],
        ["pick", "place", "--episodes", "8", "--noise.detours", "0.5", "--arm-start-rad", "0.5"],
        ["pick", "--episodes", "8", "--env.control", "joint_position"],
        ["pick", "--episodes", "8", "--env.robot", "so100"],
    ],
)
def test_clean_recordings_of_all_kinds_give_nothing(tmp_path, flags):
    assert main(["collect", *flags, "--path", str(tmp_path / "store")]) == 0
    assert find_faults(DemonstrationDataset(tmp_path / "store")) == []
