"""The store keeps what it is given, shows only what is committed, and says what is wrong with a damaged one."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import zarr
from synthetic_demonstrations import assert_same_episode, make_embodiment, make_episode

from envs.specs import ACTION_KEY, STATE_KEY, image_key
from policies.data.dataset import DemonstrationDataset
from policies.data.episode import Episode
from policies.data.layout import DatasetError, chunk_files, record_path
from policies.data.writer import LOCK_FILE, DemonstrationWriter

EMBODIMENT = make_embodiment()


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "store"
    with DemonstrationWriter.create(path, EMBODIMENT, settings={"render": {"shadows": False}}) as writer:
        for index in range(5):
            writer.append(make_episode(index, EMBODIMENT))
    return path


@pytest.mark.parametrize("extras", [{}, {"geometry": True}, {"geometry": True, "phase": True}])
def test_roundtrip(tmp_path, extras):
    lengths = (1, 63, 64, 65, 200, 2)
    episodes = [make_episode(index, EMBODIMENT, length, **extras) for index, length in enumerate(lengths)]
    with DemonstrationWriter.create(tmp_path / "store", EMBODIMENT, **extras) as writer:
        assert [writer.append(episode) for episode in episodes] == list(range(6))
    dataset = DemonstrationDataset(tmp_path / "store")
    assert len(dataset) == 6 and dataset.num_frames == sum(lengths) and dataset.embodiment == EMBODIMENT
    for index, episode in enumerate(episodes):
        assert_same_episode(dataset.episode(index), episode)
    dataset.verify()


@pytest.mark.parametrize("depth", [False, True])
def test_segmentation_comes_back(tmp_path, depth):
    embodiment = make_embodiment(depth=depth, segmentation=True)
    with DemonstrationWriter.create(tmp_path / "store", embodiment) as writer:
        writer.append(make_episode(0, embodiment, 70))
        with pytest.raises(ValueError, match=r"missing.*segmentation\.front"):
            writer.append(make_episode(1, make_embodiment(depth=depth)))
    dataset = DemonstrationDataset(tmp_path / "store")
    assert dataset.embodiment == embodiment and dataset.episode(0).segmentation["wrist"].min() == -1
    assert_same_episode(dataset.episode(0), make_episode(0, embodiment, 70))
    dataset.verify()


def test_chunks_of_large_images(tmp_path):
    embodiment = make_embodiment(size_px=160, depth=False)  # several chunks per episode
    with DemonstrationWriter.create(tmp_path / "store", embodiment) as writer:
        for index in range(2):
            writer.append(make_episode(index, embodiment, 21))
    dataset = DemonstrationDataset(tmp_path / "store")
    for index in range(2):
        assert_same_episode(dataset.episode(index), make_episode(index, embodiment, 21))


def test_any_zarr_reader_can_open_it(store):
    group = zarr.open_group(store, mode="r")
    record = json.loads(record_path(store, 2).read_text())
    rows = group[image_key("front")][record["first_row"] : record["first_row"] + record["length"]]
    np.testing.assert_array_equal(rows, make_episode(2, EMBODIMENT).images["front"])
    assert group.attrs["embodiment"]["name"] == "toy"


def test_still_pictures_are_compressed(tmp_path):
    embodiment = make_embodiment(size_px=64)
    moving = make_episode(0, embodiment, length=60)
    still = {name: np.repeat(images[:1], 60, axis=0) for name, images in moving.images.items()}
    with DemonstrationWriter.create(tmp_path / "store", embodiment) as writer:
        writer.append(dataclasses.replace(moving, images=still))
    stored = DemonstrationDataset(tmp_path / "store").info()["fields"][image_key("front")]["stored_bytes"]
    assert stored < still["front"].nbytes / 20


def test_black_pictures_are_not_taken_for_missing(tmp_path):
    episode = make_episode(0, EMBODIMENT)
    black = dataclasses.replace(episode, images={name: np.zeros_like(im) for name, im in episode.images.items()})
    with DemonstrationWriter.create(tmp_path / "store", EMBODIMENT) as writer:
        writer.append(black)
    assert_same_episode(DemonstrationDataset(tmp_path / "store").episode(0), black)


def test_load_and_read_agree_with_the_episodes(store):
    dataset = DemonstrationDataset(store)
    expected = np.concatenate([make_episode(index, EMBODIMENT).images["wrist"] for index in range(5)])
    np.testing.assert_array_equal(dataset.load(image_key("wrist")), expected)
    frames = np.array([dataset.num_frames - 1, 0, 7, 7, 3])
    np.testing.assert_array_equal(dataset.read(image_key("wrist"), frames), expected[frames])
    assert len(dataset.read(ACTION_KEY, np.array([], dtype=np.int64))) == 0
    with pytest.raises(IndexError, match="frames must lie in"):
        dataset.read(ACTION_KEY, np.array([dataset.num_frames]))
    with pytest.raises(KeyError, match=r"no field 'observation\.images\.top'"):
        dataset.read(image_key("top"), frames)


def test_info(store):
    info = DemonstrationDataset(store).info()
    assert json.loads(json.dumps(info)) == info
    assert info["episodes"] == 5 and info["settings"] == {"render": {"shadows": False}}
    assert info["tasks"] == {"pick": {"episodes": 4, "successes": 3}, "reach": {"episodes": 1, "successes": 1}}
    files = [file for key in info["fields"] for file in (store / key).glob("c.*")]
    assert info["stored_bytes"] == sum(file.stat().st_size for file in files)


def test_readers_see_committed_episodes_only(tmp_path):
    path = tmp_path / "store"
    with DemonstrationWriter.create(path, EMBODIMENT) as writer:
        assert len(DemonstrationDataset(path)) == 0
        writer.append(make_episode(0, EMBODIMENT))
        early = DemonstrationDataset(path)
        writer.append(make_episode(1, EMBODIMENT))
        assert len(early) == 1 and len(DemonstrationDataset(path)) == 2
        assert_same_episode(early.episode(0), make_episode(0, EMBODIMENT))
    with pytest.raises(ValueError, match="closed"):
        writer.append(make_episode(2, EMBODIMENT))


def test_append_to_an_existing_store(store):
    with pytest.raises(FileExistsError, match="open it to append"):
        DemonstrationWriter.create(store, EMBODIMENT)
    with DemonstrationWriter.open(store) as writer:
        assert len(writer) == 5
        writer.append(make_episode(5, EMBODIMENT))
    dataset = DemonstrationDataset(store)
    for index in range(6):
        assert_same_episode(dataset.episode(index), make_episode(index, EMBODIMENT))


def test_two_writers_are_refused(store):
    with DemonstrationWriter.open(store):
        with pytest.raises(DatasetError, match=f"being written by process {os.getpid()}"):
            DemonstrationWriter.open(store)
        code = f"from policies.data.writer import DemonstrationWriter as W; W.open({str(store)!r})"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert other.returncode == 1 and f"being written by process {os.getpid()}" in other.stderr
    DemonstrationWriter.open(store).close()


def test_the_lock_of_a_dead_process_is_taken_over(store):
    dead = subprocess.Popen(["true"])
    dead.wait()
    (store / LOCK_FILE).write_text(str(dead.pid))
    with DemonstrationWriter.open(store):
        assert (store / LOCK_FILE).read_text() == str(os.getpid())


def replaced(**changes):
    return dataclasses.replace(make_episode(0, EMBODIMENT, length=4), **changes)


GOOD = make_episode(0, EMBODIMENT, length=4)
NAN_STATE = GOOD.state.copy()
NAN_STATE[2, 1] = np.nan


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (replaced(images={"front": GOOD.images["front"]}), "missing .*observation.images.wrist"),
        (replaced(images=GOOD.images | {"top": GOOD.images["front"]}), "not expected .*observation.images.top"),
        (replaced(depth={}), "missing .*observation.depth.front"),
        (replaced(phase=np.zeros(4, np.int32)), "not expected .*phase"),
        (replaced(state=GOOD.state.astype(np.float64)), "observation.state: expected dtype float32, got float64"),
        (replaced(state=GOOD.state[:3]), r"observation.state: expected shape \(4, 5\), got \(3, 5\)"),
        (replaced(actions=GOOD.actions[:, :2]), r"action: expected shape \(4, 3\), got \(4, 2\)"),
        (replaced(images={n: im[:, :-1] for n, im in GOOD.images.items()}), r"front: expected shape \(4, 12, 12, 3\)"),
        (replaced(state=NAN_STATE), "observation.state: frame 2 holds a value that is not finite"),
        (replaced(state=GOOD.state.tolist()), "observation.state: expected a numpy array, got list"),
        (replaced(instruction=""), "needs a task and an instruction"),
        (replaced(actions=GOOD.actions[:0]), "at least one frame"),
    ],
)
def test_unfit_episodes_are_refused_and_leave_no_trace(store, episode, message):
    with DemonstrationWriter.open(store) as writer:
        with pytest.raises(ValueError, match=message):
            writer.append(episode)
        assert len(writer) == 5
    assert len(DemonstrationDataset(store)) == 5


def chunk_of(store, index, key):
    dataset = DemonstrationDataset(store)
    record = dataset.records[index]
    return chunk_files(store, dataset.field(key), record.first_row, record.length)[0]


def test_missing_stores(tmp_path, store):
    with pytest.raises(DatasetError, match="not a demonstration store"):
        DemonstrationDataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="not a demonstration store"):
        DemonstrationWriter.open(tmp_path / "nowhere")
    zarr.create_group(tmp_path / "other", zarr_format=3)
    with pytest.raises(DatasetError, match="expected format 'vla-stack demonstrations', got None"):
        DemonstrationDataset(tmp_path / "other")


@pytest.mark.parametrize("key", [image_key("wrist"), STATE_KEY])
@pytest.mark.parametrize("damage", ["cut", "remove"])
def test_truncated_chunks(store, key, damage):
    file = chunk_of(store, 3, key)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    else:
        file.unlink()
    with pytest.raises(DatasetError, match=f"episode 3 is truncated: .*{key}"):
        DemonstrationDataset(store)
    with pytest.raises(DatasetError, match="episode 3 is truncated"):
        DemonstrationWriter.open(store)


def test_flipped_bits(store):
    file = chunk_of(store, 2, image_key("front"))
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    dataset = DemonstrationDataset(store)
    dataset.episode(1)
    message = f"episode 2 is corrupt: cannot decode .*{file.name}"
    for read in (
        lambda: dataset.episode(2),
        dataset.verify,
        lambda: dataset.load(image_key("front")),
        lambda: dataset.read(image_key("front"), np.array([int(dataset.end_frames[1])])),
    ):
        with pytest.raises(DatasetError, match=message):
            read()


def test_damaged_metadata(store):
    texts = {file: file.read_text() for file in (store / "zarr.json", store / ACTION_KEY / "zarr.json")}
    for file, text in texts.items():
        for broken in (
            text[: len(text) // 2],
            "[]",
            text.replace('"embodiment"', '"robot"').replace("float32", "float64"),
        ):
            file.write_text(broken)
            with pytest.raises(DatasetError, match=r"zarr\.json"):
                DemonstrationDataset(store)
        file.write_text(text)
    DemonstrationDataset(store)


def test_another_format_version(store):
    file = store / "zarr.json"
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(DatasetError, match="reads format 1, the store has 2"):
        DemonstrationDataset(store)


def test_damaged_records(store):
    file = record_path(store, 1)
    text = file.read_text()
    shifted = json.dumps(json.loads(text) | {"first_row": 1})
    for broken in (text[:40], "[1]", "{}", text.replace('"length": ', '"length": -'), shifted):
        file.write_text(broken)
        with pytest.raises(DatasetError, match=r"episode 1: .*000001\.json is corrupt"):
            DemonstrationDataset(store)
    file.unlink()
    with pytest.raises(DatasetError, match=r"episode 1 is missing: .*000001\.json"):
        DemonstrationDataset(store)


def test_a_failed_append_can_be_repeated(store, monkeypatch):
    """A full disk in the middle of an append costs that episode and nothing else."""
    with DemonstrationWriter.open(store) as writer:
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):

            def no_space(*_):
                raise OSError("No space left on device")

            patch.setattr("policies.data.writer.write_text_atomically", no_space)
            writer.append(make_episode(9, EMBODIMENT, length=190))
        writer.append(make_episode(5, EMBODIMENT))
        writer.append(make_episode(6, EMBODIMENT))
    dataset = DemonstrationDataset(store)
    dataset.verify()
    for index in range(7):
        assert_same_episode(dataset.episode(index), make_episode(index, EMBODIMENT))


def test_episode_fields_invert():
    episode = make_episode(3, EMBODIMENT, geometry=True, phase=True)
    again = Episode.from_fields(
        episode.fields(), ("front", "wrist"), instruction="a", task="b", success=True, seed=1
    ).fields()
    for key, array in episode.fields().items():
        assert again[key] is array


def test_settings_that_json_cannot_hold_are_refused_by_their_place(tmp_path):
    with pytest.raises(ValueError, match=r"settings\.noise\.std: expected a finite number, got inf"):
        DemonstrationWriter.create(tmp_path / "store", EMBODIMENT, settings={"noise": {"std": float("inf")}})
    assert not list(tmp_path.iterdir())
