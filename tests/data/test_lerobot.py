"""Stores to LeRobot's formats and back: what is kept, and what lies in the files, field by field."""

import json
import shutil
import tomllib

import numpy as np
import pytest
from synthetic_demonstrations import assert_same_episode

pytest.importorskip("pyarrow")
pytest.importorskip("av")

import pyarrow as pa
import pyarrow.parquet as pq
from lerobot_datasets import LENGTHS, SETTINGS, make_foreign, make_store, psnr_db, rewrite

from configs.cli import main
from policies.data.dataset import DemonstrationDataset
from policies.data.layout import DatasetError
from policies.data.left_out import LeftOut
from policies.data.lerobot import writing
from policies.data.lerobot.conversion import to_lerobot, to_store
from policies.data.lerobot.reading import LeRobotDataset
from policies.data.lerobot.source import LeRobotSource
from policies.data.lerobot.statistics import number_statistics, picture_statistics, pixel_counts
from policies.data.lerobot.tables import read_lines, write_lines
from policies.data.sources.guessing import describe, relative_actions
from policies.data.sources.robot_file import RobotFile

FRONT = "observation.images.front"
LOSS_DB = 30
"""What pictures keep at least in a video, by their signal-to-noise ratio."""
FACTS = ("length", "instruction", "task", "success", "seed")


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "everything", everything=True)


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "smooth", smooth=True)


@pytest.fixture(scope="module")
def v3(smooth, tmp_path_factory):
    target = tmp_path_factory.mktemp("v3") / "video"
    to_lerobot(DemonstrationDataset(smooth), target, "v3.0", "video")
    return target


@pytest.fixture(scope="module")
def v2(smooth, tmp_path_factory):
    target = tmp_path_factory.mktemp("v2") / "video"
    to_lerobot(DemonstrationDataset(smooth), target, "v2.1", "video")
    return target


def read_json(file):
    return json.loads(file.read_text(encoding="utf-8"))


def facts(dataset):
    return [tuple(getattr(record, name) for name in FACTS) for record in dataset.records]


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_with_png_nothing_at_all_is_lost(everything, tmp_path, version):
    store, told = DemonstrationDataset(everything), []
    to_lerobot(store, tmp_path / "lerobot", version, "png", told.append)
    to_store(LeRobotDataset(tmp_path / "lerobot"), tmp_path / "back", None)
    back = DemonstrationDataset(tmp_path / "back")
    assert back.fingerprint == store.fingerprint and back.header == store.header and told == [1, 2, 3, 4]
    for number in range(len(store)):
        assert_same_episode(back.episode(number), store.episode(number))
    assert LeftOut.read(back.path) == LeftOut.read(store.path) and back.settings == SETTINGS


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_with_video_only_pictures_lose_and_little(smooth, v2, v3, tmp_path, version):
    to_store(LeRobotDataset(v3 if version == "v3.0" else v2), tmp_path / "back", None)
    store, back = DemonstrationDataset(smooth), DemonstrationDataset(tmp_path / "back")
    assert facts(back) == facts(store) and back.header == store.header
    for key in store.keys:
        got, expected = back.load(key), store.load(key)
        if "images" in key:
            assert min(psnr_db(a, b) for a, b in zip(got, expected, strict=True)) > LOSS_DB
            frames = [np.abs(expected.astype(int) - frame).mean((1, 2, 3)).argmin() for frame in got.astype(int)]
            assert frames == list(range(sum(LENGTHS)))
        else:
            np.testing.assert_array_equal(got, expected)


def test_info_of_v3_says_what_the_format_asks(v3):
    info = read_json(v3 / "meta" / "info.json")
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "toy",
        "total_episodes": 4,
        "total_frames": sum(LENGTHS),
        "total_tasks": 3,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 10,
        "splits": {"train": "0:4"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    assert type(info["fps"]) is int and not any("/" in key for key in features)
    assert features["action"] == {"dtype": "float32", "shape": [3], "names": ["x0", "x1", "x2"]}
    assert features["timestamp"] == {"dtype": "float32", "shape": [1], "names": None}
    for key in ("frame_index", "episode_index", "index", "task_index"):
        assert features[key] == {"dtype": "int64", "shape": [1], "names": None}
    front = features[FRONT]
    assert front["dtype"] == "video" and front["shape"] == [32, 32, 3]
    assert front["names"] == ["height", "width", "channels"]
    about = {"height": 32, "width": 32, "codec": "h264", "pix_fmt": "yuv420p", "fps": 10, "channels": 3}
    assert front["info"] == {f"video.{name}": value for name, value in about.items()} | {
        "video.is_depth_map": False,
        "has_audio": False,
    }


def test_data_of_v3_are_rows_of_frames_in_a_row_group_per_episode(smooth, v3):
    file = pq.ParquetFile(v3 / "data" / "chunk-000" / "file-000.parquet")
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == list(LENGTHS) and groups[0].column(0).compression == "SNAPPY"
    table, schema = file.read(), file.schema_arrow
    assert schema.field("observation.state").type == pa.list_(pa.float32(), 5)
    assert schema.field("timestamp").type == pa.float32() and schema.field("index").type == pa.int64()
    assert FRONT not in schema.names
    frame = np.concatenate([np.arange(length) for length in LENGTHS])
    np.testing.assert_array_equal(table["frame_index"], frame)
    np.testing.assert_array_equal(table["timestamp"], (frame / 10).astype(np.float32))
    np.testing.assert_array_equal(table["index"], np.arange(sum(LENGTHS)))
    np.testing.assert_array_equal(table["episode_index"], np.repeat(np.arange(4), LENGTHS))
    np.testing.assert_array_equal(table["task_index"], np.repeat([0, 1, 2, 0], LENGTHS))
    expected = DemonstrationDataset(smooth).load("action")
    np.testing.assert_array_equal(np.array(table["action"].to_pylist(), np.float32), expected)


def test_episodes_of_v3_say_where_everything_lies(v3):
    rows = pq.read_table(v3 / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    ends = np.cumsum(LENGTHS).tolist()
    for number, row in enumerate(rows):
        assert row["episode_index"] == number and row["length"] == LENGTHS[number]
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (ends[number] - LENGTHS[number], ends[number])
        assert row["data/chunk_index"] == row["data/file_index"] == row["meta/episodes/chunk_index"] == 0
        assert row["meta/episodes/file_index"] == row[f"videos/{FRONT}/chunk_index"] == 0
        assert row[f"videos/{FRONT}/file_index"] == 0
        assert row[f"videos/{FRONT}/from_timestamp"] == (ends[number] - LENGTHS[number]) / 10
        assert row[f"videos/{FRONT}/to_timestamp"] == ends[number] / 10
        assert row["stats/action/count"] == [LENGTHS[number]] and np.shape(row[f"stats/{FRONT}/mean"]) == (3, 1, 1)
    assert [row["tasks"] for row in rows[:2]] == [["pick up the red cube"], ["pick up the blue cube"]]


def test_tasks_of_v3_are_the_index_of_a_pandas_frame(v3):
    table = pq.read_table(v3 / "meta" / "tasks.parquet")
    described = json.loads(table.schema.metadata[b"pandas"])
    assert described["index_columns"] == ["task"] and table["task_index"].to_pylist() == [0, 1, 2]
    assert table["task"].to_pylist() == ["pick up the red cube", "pick up the blue cube", "touch the green ball"]


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_statistics_are_those_of_all_values(smooth, v2, v3, version):
    stats, store = read_json((v3 if version == "v3.0" else v2) / "meta" / "stats.json"), DemonstrationDataset(smooth)
    pixels = np.moveaxis(store.load(FRONT), -1, 0).reshape(3, -1, 1, 1) / 255
    frame = np.concatenate([np.arange(length) for length in LENGTHS])
    for key, values in ((FRONT, pixels.swapaxes(0, 1)), ("action", store.load("action")), ("frame_index", frame)):
        got = {name: np.array(value) for name, value in stats[key].items()}
        values = values.reshape(len(values), *(values.shape[1:] or (1,)))
        expected = {name: getattr(np, name)(values, axis=0) for name in ("min", "max", "mean", "std")}
        expected |= {f"q{q:02d}": np.quantile(values, q / 100, axis=0) for q in (1, 10, 50, 90, 99)}
        assert set(got) == {*expected, "count"} and got["count"].tolist() == [sum(LENGTHS)]
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-6, atol=1e-7, err_msg=f"{key} {name}")


def test_pixels_are_counted_into_the_same_statistics():
    pictures = np.random.default_rng(0).integers(3, 200, (5, 4, 7, 3), dtype=np.uint8)
    parts = sum(pixel_counts(part) for part in (pictures[:2], pictures[2:]))
    expected = number_statistics(pictures.reshape(-1, 3) / 255)
    for name, value in picture_statistics(parts, 5).items():
        assert name == "count" or np.allclose(value.ravel(), expected[name], atol=1e-12), name


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0c"])
def test_an_instruction_may_hold_what_ends_lines_elsewhere(tmp_path, end):
    rows = [{"task": f"pick{end}it up"}, {"task": "place it"}]
    write_lines(tmp_path / "tasks.jsonl", rows)
    assert read_lines(tmp_path / "tasks.jsonl") == rows


def test_v2_has_a_file_per_episode_and_lines_of_json(v2):
    info = read_json(v2 / "meta" / "info.json")
    assert info["codebase_version"] == "v2.1" and info["total_videos"] == 8 and info["total_chunks"] == 1
    assert info["data_path"] == "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    assert info["video_path"] == "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    assert "data_files_size_in_mb" not in info
    for number, length in enumerate(LENGTHS):
        assert pq.read_metadata(v2 / f"data/chunk-000/episode_{number:06d}.parquet").num_rows == length
        assert (v2 / f"videos/chunk-000/{FRONT}/episode_{number:06d}.mp4").is_file()
    lines = {
        name: [json.loads(line) for line in (v2 / "meta" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("episodes", "tasks", "episodes_stats")
    }
    assert lines["tasks"][1] == {"task_index": 1, "task": "pick up the blue cube"}
    first = {"episode_index": 0, "tasks": ["pick up the red cube"], "length": 7}
    assert first.items() <= lines["episodes"][0].items()
    stats = lines["episodes_stats"][2]
    assert stats["episode_index"] == 2 and set(stats["stats"]["action"]) == {"min", "max", "mean", "std", "count"}


def test_v2_tells_gr00t_which_numbers_belong_together(v2):
    told = read_json(v2 / "meta" / "modality.json")
    assert told["state"] == {"x0_to_x4": {"start": 0, "end": 5}} and list(told["action"].values())[-1]["end"] == 3
    assert told["video"]["front"] == {"original_key": FRONT}
    assert told["annotation"] == {"human.task_description": {"original_key": "task_index"}}


@pytest.mark.parametrize("pictures", ["png", "video"])
def test_episodes_go_on_in_the_next_file_when_one_is_full(smooth, tmp_path, monkeypatch, pictures):
    monkeypatch.setattr(writing, "DATA_FILE_MB", 0)
    monkeypatch.setattr(writing, "VIDEO_FILE_MB", 0)
    store, target = DemonstrationDataset(smooth), tmp_path / "lerobot"
    to_lerobot(store, target, "v3.0", pictures)
    assert (target / "data/chunk-000/file-003.parquet").is_file()
    assert (target / f"videos/{FRONT}/chunk-000/file-003.mp4").is_file() == (pictures == "video")
    to_store(LeRobotDataset(target), tmp_path / "back", None)
    back = DemonstrationDataset(tmp_path / "back")
    np.testing.assert_array_equal(back.load("action"), store.load("action"))
    assert psnr_db(back.load(FRONT), store.load(FRONT)) > LOSS_DB


def test_frames_are_counted_where_start_times_have_drifted(v3, tmp_path):
    drifted = shutil.copytree(v3, tmp_path / "drifted")

    def drift(row):
        return row | {f"videos/{FRONT}/from_timestamp": row[f"videos/{FRONT}/from_timestamp"] * 1.08}

    rewrite(drifted / "meta/episodes/chunk-000/file-000.parquet", drift)
    straight, other = LeRobotDataset(v3), LeRobotDataset(drifted)
    for number in (3, 0, 1):
        np.testing.assert_array_equal(other.pictures(number, FRONT), straight.pictures(number, FRONT))


def test_start_times_count_where_a_file_holds_frames_of_nobody(v3, tmp_path):
    fewer = shutil.copytree(v3, tmp_path / "fewer")
    rewrite(fewer / "data/chunk-000/file-000.parquet", lambda row: None if row["episode_index"] == 1 else row)
    straight, other = LeRobotDataset(v3), LeRobotDataset(fewer)
    assert [place.number for place in other.episodes] == [0, 2, 3]
    np.testing.assert_array_equal(other.pictures(2, FRONT), straight.pictures(3, FRONT))


def test_pictures_come_in_the_size_that_is_asked_for(smooth, v3):
    expected = DemonstrationDataset(smooth).episode(1).images["front"]
    halved = LeRobotDataset(v3).pictures(1, FRONT, (16, 16))
    averaged = expected.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4))
    assert halved.shape == (12, 16, 16, 3) and psnr_db(halved, averaged) > LOSS_DB


def test_what_cannot_be_written_is_refused_and_leaves_nothing(everything, tmp_path):
    store = DemonstrationDataset(everything)
    damaged = next((everything / FRONT).glob("c.1.*"))
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-6] + bytes(6))
    try:
        with pytest.raises(DatasetError, match=r"episode 1 is corrupt: cannot decode .*front"):
            to_lerobot(store, tmp_path / "a" / "target", "v3.0", "png")
    finally:
        damaged.write_bytes(content)
    assert not list((tmp_path / "a").iterdir())
    (tmp_path / "b").mkdir()
    with pytest.raises(FileExistsError, match="choose another folder"):
        to_lerobot(store, tmp_path / "b", "v3.0", "png")


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_a_damaged_file_is_named_with_episode_and_frame(v2, v3, tmp_path, version):
    folder = shutil.copytree(v3 if version == "v3.0" else v2, tmp_path / "lerobot")
    video = sorted((folder / "videos").rglob("*.mp4"))[-1 if version == "v2.1" else 0]
    video.write_bytes(video.read_bytes()[:900])
    with pytest.raises(DatasetError, match=rf"{video.name}"):
        to_store(LeRobotDataset(folder), tmp_path / "back", None)
    data = sorted((folder / "data").rglob("*.parquet"))[-1]
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=rf"{data.name} cannot be read"):
        LeRobotDataset(folder)
    data.write_bytes(whole)
    rewrite(data, lambda row: None if row["frame_index"] == 2 else row)
    number = 0 if version == "v3.0" else 3
    with pytest.raises(DatasetError, match=rf"episode {number}, frame 2 of .*{data.name}: its frame_index is 3"):
        LeRobotDataset(folder)
    assert not (tmp_path / "back").exists() and sorted(p.name for p in tmp_path.iterdir()) == ["lerobot"]


def test_a_video_that_ends_too_early_is_named_with_the_frame(v2, tmp_path):
    folder = shutil.copytree(v2, tmp_path / "lerobot")
    short = folder / f"videos/chunk-000/{FRONT}/episode_000001.mp4"
    shutil.copy(folder / f"videos/chunk-000/{FRONT}/episode_000000.mp4", short)
    said = r"episode 1, from frame 0 of its video: .*episode_000001.mp4: cannot decode frame 7: the file ends before it"
    with pytest.raises(DatasetError, match=said):
        to_store(LeRobotDataset(folder), tmp_path / "back", None)


@pytest.fixture
def foreign(v3, tmp_path):
    return make_foreign(shutil.copytree(v3, tmp_path / "foreign"))


def test_a_robot_file_is_guessed_looked_through_and_obeyed(smooth, foreign, tmp_path):
    source, file = LeRobotDataset(foreign), tmp_path / "robot.toml"
    text = describe(LeRobotSource(source))
    assert 'unit = "unknown"  # guessed' in text and "low = " in text
    guessed = RobotFile.from_dict(tomllib.loads(text))
    action = DemonstrationDataset(smooth).load("action")
    np.testing.assert_allclose(guessed.embodiment.action_low, action.min(0))
    np.testing.assert_allclose(guessed.embodiment.action_high, action.max(0))
    assert guessed.embodiment.control_rate_hz == 10 and guessed.image_keys == {
        "front": FRONT,
        "wrist": "observation.images.wrist",
    }
    content = tomllib.loads(text)
    content["cameras"] = [content["cameras"][0] | {"name": "top", "height_px": 16, "width_px": 16}]
    content["action"][2] |= {"name": "gripper", "low": 0.0, "high": 1.0, "scale": -0.5, "offset": 0.5}
    robot = RobotFile.from_dict(content)
    file.write_text(robot.to_toml(), encoding="utf-8")
    assert RobotFile.read(file) == robot
    report = to_store(source, tmp_path / "back", robot)
    back = DemonstrationDataset(tmp_path / "back")
    expected = action.astype(np.float64) * [1, 1, -0.5] + [0, 0, 0.5]
    np.testing.assert_array_equal(back.load("action"), expected.astype(np.float32))
    assert back.embodiment == robot.embodiment and back.load("observation.images.top").shape[1:] == (16, 16, 3)
    beyond = (expected[:, 2] < 0) | (expected[:, 2] > 1)
    assert report.not_taken == ("observation.images.wrist",) and report.frames_beyond == beyond.sum() > 0
    assert f"frame {beyond.argmax()}: gripper is" in report.first_beyond
    assert [(r.task, r.seed, r.success) for r in back.records[:2]] == [
        ("pick-up-the-red-cube", 0, True),
        ("pick-up-the-blue-cube", 1, True),
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("keys"), r"missing \['keys'\]"),
        (lambda c: c["action"][0].pop("low"), r"action 'x0': missing \['low'\]"),
        (lambda c: c["state"][1].update(unti="m"), r"state 'x1': missing \[\], not expected \['unti'\]"),
        (lambda c: c["action"][0].update(low=2.0, high=1.0), "low < high"),
        (lambda c: c["action"].pop(), r"the action 'action' of 2 numbers, the dataset has .*'action': \(3,\)"),
        (lambda c: c["cameras"][0].update(key="observation.images.top"), "for the camera front"),
        (lambda c: c.update(control_rate_hz=20.0), "expected 10 frames per second, got 20.0"),
    ],
)
def test_a_robot_file_that_does_not_fit_is_refused(foreign, tmp_path, change, says):
    source = LeRobotDataset(foreign)
    content = tomllib.loads(describe(LeRobotSource(source)))
    change(content)
    with pytest.raises(ValueError, match=says):
        to_store(source, tmp_path / "back", RobotFile.from_dict(content))
    assert not (tmp_path / "back").exists()


def test_an_absolute_action_is_told_from_a_change():
    time = np.linspace(0, 6, 200)[:, None]
    state = np.concatenate([np.sin(time), np.cos(time)], 1)
    names = {"state": ["a", "b"], "action": ["a", "b"]}
    assert relative_actions({"state": state, "action": state + 0.01}, names) == [False, False]
    assert relative_actions({"state": state, "action": np.gradient(state, axis=0)}, names) == [True, True]


def test_a_dataset_goes_to_lerobot_and_back_from_the_command_line(smooth, foreign, tmp_path, capsys):
    def vla(*words):
        status = main(["dataset", *map(str, words)])
        said = capsys.readouterr()
        return status, " ".join((said.out + said.err).split())

    v2, back, file = tmp_path / "v2", tmp_path / "back", tmp_path / "robot.toml"
    assert vla("convert", smooth, v2, "--to", "lerobot-v2.1", "--pictures", "png")[0] == 0
    status, said = vla("convert", v2, back)
    assert status == 0 and f"{back}: 4 episodes, {sum(LENGTHS)} frames" in said
    assert DemonstrationDataset(back).fingerprint == DemonstrationDataset(smooth).fingerprint
    assert vla("describe", foreign, "--out", file)[0] == 0
    status, said = vla("convert", foreign, tmp_path / "other", "--embodiment", file)
    assert status == 0 and "not taken" not in said and "beyond" not in said
    for words, says in (
        (("convert", foreign, tmp_path / "third"), "vla dataset describe"),
        (("convert", foreign, back, "--embodiment", file), "choose another folder"),
        (("convert", smooth, tmp_path / "third", "--embodiment", file), "leave --embodiment out"),
        (("convert", v2, tmp_path / "third", "--to", "lerobot-v3"), "convert it to zarr"),
        (("convert", tmp_path, tmp_path / "third"), "is not a demonstration store"),
        (("describe", smooth), "is no dataset that can be read"),
    ):
        status, said = vla(*words)
        assert status == 2 and says in said, said
    assert not (tmp_path / "third").exists()


def change_json(file, change):
    content = read_json(file)
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda info: info["features"]["action"].pop("shape"), "the metadata of .* are corrupt: KeyError.'shape'"),
        (lambda info: info.update(video_path="{nothing}.mp4"), "the metadata of .* are corrupt: KeyError.'nothing'"),
        (lambda info: info.update(video_path="../{video_key}.mp4"), "expected a file in .*, it names '../observation"),
    ],
)
def test_metadata_that_make_no_sense_are_refused_at_once(v3, tmp_path, change, says):
    folder = shutil.copytree(v3, tmp_path / "lerobot")
    change_json(folder / "meta" / "info.json", change)
    with pytest.raises(DatasetError, match=says):
        LeRobotDataset(folder)


def test_seeds_left_out_that_are_damaged_are_named_before_anything_is_converted(v3, tmp_path):
    folder = shutil.copytree(v3, tmp_path / "lerobot")
    change_json(folder / "meta" / "vla.json", lambda ours: ours.update(left_out={"failed": 3}))
    with pytest.raises(DatasetError, match=r"vla\.json is corrupt"):
        to_store(LeRobotDataset(folder), tmp_path / "back", None, lambda _: pytest.fail("an episode was converted"))
