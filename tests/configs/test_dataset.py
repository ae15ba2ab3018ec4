"""Datasets from the command line: how they were made, what is refused, episodes removed, stores split."""

import json
import shutil
from dataclasses import fields, is_dataclass

import pytest

from configs.cli import main
from configs.commands.collect import FREE_TO_CHANGE, Config
from configs.serialization import TYPE_TAG, to_json
from policies.data.dataset import DemonstrationDataset
from policies.data.differences import flat

SMALL = ["--env.image-size-px", "16", "--env.threads", "1"]


def collect(path, *flags):
    return main(["collect", "reach", "--path", str(path), *SMALL, *flags])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "reach"
    assert collect(path, "--episodes", "4") == 0
    return path


@pytest.fixture
def copy(recorded, tmp_path):
    return shutil.copytree(recorded, tmp_path / "copy")


def seeds(path):
    return [record.seed for record in DemonstrationDataset(path).records]


def names(config, prefix=""):
    """The dotted names of a config's settings."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from names(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def test_every_setting_is_kept_or_named_as_free(recorded):
    kept = set(flat(dict(DemonstrationDataset(recorded).settings)))
    every = set(names(Config()))
    assert every >= FREE_TO_CHANGE and not kept & FREE_TO_CHANGE
    assert every - FREE_TO_CHANGE <= kept
    expected = to_json(Config().noise)
    assert DemonstrationDataset(recorded).settings["noise"] == {k: v for k, v in expected.items() if k != TYPE_TAG}


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        (
            ["--env.perturbation", "colosseum-14:mass"],
            ['settings.env.perturbation: null there, "colosseum-14:mass" now', "settings.perturbation.mass: absent"],
        ),
        (["--noise.std", "0.1"], ["settings.noise.std: 0.5 there, 0.1 now"]),
        (["--keep-failures"], ["settings.keep_failures: false there, true now"]),
        (
            ["--arm-start-rad", "0.1"],
            ["settings.arm_start_rad: 0.3", "settings.perturbation.robot_start.distance_rad: [0.0, 0.3] there"],
        ),
        (
            ["--env.profile", "quality"],
            ['settings.env.profile: "fast"', "settings.render_profile.name", "shadow_size", "samples", "reflections"],
        ),
        (
            ["--env.control", "joint_position"],
            ['settings.env.control: "delta_pose" there, "joint_position" now', "embodiment.action"],
        ),
    ],
)
def test_a_recording_made_otherwise_is_refused_by_what_differs(recorded, capsys, flags, lines):
    before = seeds(recorded)
    assert collect(recorded, "--episodes", "1", "--first-seed", "9", *flags) == 2
    said = capsys.readouterr().err
    for line in lines:
        assert line in said
    if lines[-1] != "embodiment.action":
        assert len([line for line in said.splitlines() if line.startswith("  ")]) == len(lines)
    assert len(said) < 1500 and seeds(recorded) == before


def test_what_is_free_to_change_may_differ(copy):
    flags = ["--num-envs", "1", "--env.render-limit-s", "20", "--first-seed", "6", "--episodes", "1"]
    assert collect(copy, *flags) == 0 and seeds(copy) == [0, 1, 2, 3, 6]


def test_info_shows_all_that_made_it_and_what_failed(tmp_path, capsys):
    path = tmp_path / "store"
    flags = ["--episodes", "3", "--keep-failures", "--env.perturbation", "colosseum-14:light", "--noise.std", "3"]
    assert collect(path, *flags) == 0
    dataset = DemonstrationDataset(path)
    capsys.readouterr()
    assert main(["dataset", "info", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    made = ('settings.env.perturbation "colosseum-14:light"', "settings.keep_failures true", "settings.noise.std 3.0")
    for entry in made:
        assert entry in said
    assert "settings.perturbation.light.rgb" in said and dataset.fingerprint[:30] in said
    assert main(["dataset", "info", str(path), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["failed_episodes"] == [n for n, record in enumerate(dataset.records) if not record.success]
    assert about["settings"] == dataset.settings


def test_episodes_are_removed_and_not_recorded_again(copy, capsys):
    assert main(["dataset", "remove", str(copy), "--episodes", "1", "4"]) == 2
    assert "has 4 episodes, numbered from 0, asked to remove [1, 4]" in capsys.readouterr().err
    assert main(["dataset", "remove", str(copy), "--episodes", "1", "3"]) == 0
    assert "2 removed, 2 left" in capsys.readouterr().out and seeds(copy) == [0, 2]
    assert main(["dataset", "info", str(copy), "--verify"]) == 0
    assert collect(copy, "--episodes", "5") == 0
    assert "1 recorded, 0 failed, 4 there already" in capsys.readouterr().out and seeds(copy) == [0, 2, 4]


def test_a_dataset_is_split_and_no_part_takes_the_others_seeds(recorded, tmp_path, capsys):
    into = [str(tmp_path / "A"), str(tmp_path / "B")]
    assert main(["dataset", "split", str(recorded), "--into", *into, "--share", "0.5", "--seed", "1"]) == 0
    first, second = map(seeds, into)
    assert sorted(first + second) == [0, 1, 2, 3] and len(first) == 2
    assert collect(into[0], "--episodes", "4") == 0 and seeds(into[0]) == first
    assert main(["dataset", "split", str(recorded), "--into", *into, "--share", "0.5"]) == 2
    assert "choose other folders" in capsys.readouterr().err and seeds(recorded) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["remove", "D"], "name the episodes to remove"),
        (["split", "D", "--into", "A", "B"], "either a share or tasks"),
        (["split", "D", "--into", "A", "A", "--share", "0.5"], "needs two folders"),
        (["split", "D", "--into", "A", "B", "--share", "0.5", "--tasks", "reach"], "either a share or tasks"),
    ],
)
def test_what_cannot_be_meant_is_refused(flags, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["dataset", *flags])
    assert stopped.value.code == 2 and says in " ".join(capsys.readouterr().err.replace("│", " ").split())
