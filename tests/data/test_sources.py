"""robomimic's, ManiSkill's and diffusion_policy's data, written by an independent writer, as stores of ours."""

import tomllib

import numpy as np
import pytest

pytest.importorskip("h5py")

import h5py
from foreign_files import LENGTHS, SIZE, pictures, vectors, write_maniskill, write_replay_buffer, write_robomimic

from configs.cli import main
from policies.data.dataset import DemonstrationDataset
from policies.data.layout import DatasetError
from policies.data.sources.conversion import take_in
from policies.data.sources.guessing import describe
from policies.data.sources.opening import open_source
from policies.data.sources.robot_file import RobotFile

WRITERS = {
    "robomimic.hdf5": write_robomimic,
    "maniskill.h5": write_maniskill,
    "buffer.zarr": write_replay_buffer,
    "buffer.zarr.zip": write_replay_buffer,
}
ALL = [vectors(index, length) for index, length in enumerate(LENGTHS)]
SHOWN = np.concatenate([pictures(index, length) for index, length in enumerate(LENGTHS)])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    return {name: write(folder / name) for name, write in WRITERS.items()}


def drafted(path):
    return tomllib.loads(describe(open_source(path)))


def taken(path, target, change=lambda content: None):
    content = drafted(path)
    change(content)
    report = take_in(open_source(path), target, RobotFile.from_dict(content))
    return DemonstrationDataset(target), report


def test_robomimic_is_taken_in_as_it_was_recorded(written, tmp_path):
    store, report = taken(written["robomimic.hdf5"], tmp_path / "store")
    assert [(r.length, r.seed, r.success) for r in store.records] == [(9, 0, True), (14, 1, False), (6, 10, True)]
    assert {(r.instruction, r.task) for r in store.records} == {("pick place can", "pick-place-can")}
    robot = store.embodiment
    assert (robot.name, robot.control_rate_hz, robot.camera_names) == ("Panda", 20.0, ("agentview",))
    state = np.concatenate([np.hstack([p, np.tile([0, 0, 0, 1], (len(p), 1)), f]) for _, p, f in ALL])
    np.testing.assert_array_equal(store.load("observation.state"), state.astype(np.float32))
    actions = np.concatenate([a for a, _, _ in ALL])
    np.testing.assert_array_equal(store.load("action")[:, :3], actions[:, :3].astype(np.float32))
    np.testing.assert_array_equal(store.load("action")[:, 3], actions[:, 3] > 0)  # 1 is closed
    np.testing.assert_array_equal(store.load("observation.images.agentview"), SHOWN)
    assert [d.relative for d in robot.action] == [True, True, True, False] and robot.action[3].name == "gripper"
    assert set(report.not_taken) == {"obs/object", "states"} and report.frames_beyond == 0
    assert store.settings["robomimic"]["env_args"]["env_name"] == "PickPlaceCan"


def test_maniskill_is_taken_in_without_its_last_observation(written, tmp_path):
    store, report = taken(written["maniskill.h5"], tmp_path / "store")
    assert [(r.length, r.seed, r.success) for r in store.records] == [(9, 70, True), (14, 71, False), (6, 72, True)]
    assert store.records[0].instruction == "stack cube" and store.embodiment.camera_names == ("base_camera",)
    whole = [vectors(index, length + 1) for index, length in enumerate(LENGTHS)]
    qpos = np.concatenate([np.hstack([p, np.abs(f)])[:-1] for _, p, f in whole]).astype(np.float32)
    np.testing.assert_array_equal(store.load("observation.state")[:, :5], qpos)
    closed = np.concatenate([a[:-1, 3] > 0 for a, _, _ in whole])
    np.testing.assert_array_equal(store.load("action")[:, 3], closed)
    shown = np.concatenate([pictures(index, length + 1)[:-1] for index, length in enumerate(LENGTHS)])
    np.testing.assert_array_equal(store.load("observation.images.base_camera"), shown)
    assert report.not_taken == ("obs/sensor_data/base_camera/depth",)


@pytest.mark.parametrize("name", ["buffer.zarr", "buffer.zarr.zip"])
def test_a_replay_buffer_is_taken_in_with_its_times(written, tmp_path, name):
    def tell(content):
        assert content["keys"] == {"state": "state", "action": "action", "time": "timestamp"}
        content |= {"instruction": "push the T", "control_rate_hz": 10.0}

    store, report = taken(written[name], tmp_path / "store", tell)
    assert [(r.length, r.seed, r.task) for r in store.records] == [
        (9, 0, "push-the-t"),
        (14, 1, "push-the-t"),
        (6, 2, "push-the-t"),
    ]
    np.testing.assert_array_equal(store.load("action"), np.concatenate([a for a, _, _ in ALL]).astype(np.float32))
    np.testing.assert_array_equal(store.load("observation.images.img"), SHOWN)
    np.testing.assert_allclose(store.load("time_s")[:9], 100 + np.arange(9) / 10)
    assert report.not_taken == ()


def test_floats_up_to_one_are_the_same_pictures(tmp_path):
    path = write_replay_buffer(tmp_path / "buffer.zarr", white=1.0)
    source = open_source(path)
    np.testing.assert_array_equal(source.pictures(1, "img", SIZE), pictures(1, LENGTHS[1]))
    halved = source.pictures(0, "img", (SIZE[0] // 2, SIZE[1] // 2)).astype(float)
    averaged = pictures(0, LENGTHS[0]).reshape(-1, SIZE[0] // 2, 2, SIZE[1] // 2, 2, 3).mean((2, 4))
    assert np.abs(halved - averaged).max() <= 1


def test_a_draft_says_what_was_guessed_and_why(written):
    text = describe(open_source(written["robomimic.hdf5"]))
    for said in (
        'instruction = "pick place can"  # guessed: env_args call the task',
        "control_rate_hz = 20.0  # env_args: control_freq",
        "falls when it rises (correlation -1.00",
        "low = 0.0  # after scale and offset",
    ):
        assert said in text
    # the opposite sign is seen in the same way
    assert drafted(written["maniskill.h5"])["action"][3]["scale"] == -0.5
    assert drafted(written["robomimic.hdf5"])["action"][3]["scale"] == 0.5


def damage_numbers(path, key):
    with h5py.File(path, "a") as file:
        file[key][2, 0] = np.nan


def shorten(path, key):
    with h5py.File(path, "a") as file:
        kept = file[key][:5]
        del file[key]
        file[key] = kept


MIMIC, SKILL, BUFFER = "robomimic.hdf5", "maniskill.h5", "buffer.zarr"
POSITION = "data/demo_10/obs/robot0_eef_pos"


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        (MIMIC, lambda p: damage_numbers(p, "data/demo_1/actions"), r"1 \(demo_1\) of .*mimic.hdf5: action: frame 2"),
        (MIMIC, lambda p: shorten(p, POSITION), r"2 \(demo_10\) of .*, frame 5: obs/robot0"),
        (MIMIC, lambda p: shorten(p, "data/demo_1/actions"), r"1 \(demo_1\) of .* has 5 actions and says .* 14"),
        (SKILL, lambda p: shorten(p, "traj_1/obs/agent/qpos"), r"1 \(traj_1\) of .*, frame 5: obs/agent/qpos ends"),
        (SKILL, lambda p: p.write_bytes(p.read_bytes()[:3000]), r"maniskill.h5 cannot be read"),
        (SKILL, lambda p: p.with_suffix(".json").write_text("{"), r"maniskill.json is corrupt"),
        (
            BUFFER,
            lambda p: (p / "data/action/2.0").write_bytes(b"x"),
            r"episode 1 of .*, frame 1: cannot decode data",
        ),
        (
            BUFFER,
            lambda p: (p / "meta/episode_ends/0").write_bytes(bytes(24)),
            r"episode_ends that rise from 1 on",
        ),
    ],
)
def test_damage_is_named_with_episode_frame_and_file(tmp_path, name, damage, says):
    path = WRITERS[name](tmp_path / name)
    content = drafted(path)
    damage(path)
    with pytest.raises(DatasetError, match=says):
        take_in(open_source(path), tmp_path / "store", RobotFile.from_dict(content))
    assert not (tmp_path / "store").exists()


def test_from_the_command_line(written, tmp_path, capsys):
    def vla(*words):
        status = main(["dataset", *map(str, words)])
        said = capsys.readouterr()
        return status, " ".join((said.out + said.err).split())

    source, file, target = written["robomimic.hdf5"], tmp_path / "robot.toml", tmp_path / "store"
    status, said = vla("convert", source, target)
    assert status == 2 and "vla dataset describe" in said and not target.exists()
    status, said = vla("describe", source, "--out", file)
    assert status == 0 and "# guessed: env_args call the task" in said
    status, said = vla("convert", source, target, "--embodiment", file)
    assert status == 0 and f"{target}: 3 episodes, 29 frames not taken: obs/object, states" in said
    file.write_text(file.read_text().replace('instruction = "pick place can"', "#"))
    status, said = vla("convert", source, tmp_path / "other", "--embodiment", file)
    assert status == 2 and "say one in the file" in said and not (tmp_path / "other").exists()
