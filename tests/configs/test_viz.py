"""Looking at episodes from the command line: what is filmed, where it lies, and what is refused."""

import dataclasses
import json
import sys

import av
import numpy as np
import pytest
from PIL import Image
from synthetic_demonstrations import make_embodiment, make_episode

from configs.cli import main
from configs.filming import Studio
from configs.worlds import EnvConfig
from policies.data.dataset import DemonstrationDataset
from policies.data.writer import DemonstrationWriter


def frames(path):
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0)), float(file.streams.video[0].average_rate)


@pytest.fixture
def store(tmp_path):
    embodiment = make_embodiment(segmentation=True)
    with DemonstrationWriter.create(tmp_path / "store", embodiment) as writer:
        for index in range(4):  # tasks pick, pick, reach, pick
            writer.append(make_episode(index, embodiment, 10 + index))
    return tmp_path / "store"


def test_viz_films_the_first_episode_of_every_task(store, capsys):
    assert main(["dataset", "viz", str(store)]) == 0
    names = ["episode-000000-pick", "episode-000002-reach"]
    assert sorted(file.name for file in (store / "renders").iterdir()) == sorted(
        f"{name}.{suffix}" for name in names for suffix in ("mp4", "png")
    )
    assert all(name in capsys.readouterr().out for name in names[:1])
    assert frames(store / "renders" / "episode-000002-reach.mp4") == (12, 10.0)
    DemonstrationDataset(store).verify()


def test_viz_films_by_the_numbers_that_are_left_when_episodes_were_removed(store):
    assert main(["dataset", "remove", str(store), "--episodes", "0"]) == 0
    assert main(["dataset", "viz", str(store)]) == 0
    films = {film.name: frames(film) for film in (store / "renders").glob("*.mp4")}
    assert films == {"episode-000000-pick.mp4": (11, 10.0), "episode-000001-reach.mp4": (12, 10.0)}


def test_viz_films_the_episodes_that_are_named(store, tmp_path):
    assert main(["dataset", "viz", str(store), "--episodes", "3", "1", "--out", str(tmp_path / "films")]) == 0
    assert {file.stem for file in (tmp_path / "films").iterdir()} == {"episode-000001-pick", "episode-000003-pick"}
    widths = []
    for count in ("2", "5"):
        main(
            ["dataset", "viz", str(store), "--episodes", "3", "--out", str(tmp_path / "films"), "--sheet-frames", count]
        )
        with Image.open(tmp_path / "films" / "episode-000003-pick.png") as sheet:
            widths.append(sheet.width)
    assert widths[1] - widths[0] == 3 * 154


def test_a_task_of_a_suite_is_filmed_into_the_same_folder(tmp_path):
    embodiment = make_embodiment(depth=False)
    with DemonstrationWriter.create(tmp_path / "store", embodiment) as writer:
        writer.append(dataclasses.replace(make_episode(0, embodiment, 3), task="tabletop-goal/2"))
    assert main(["dataset", "viz", str(tmp_path / "store")]) == 0
    assert (tmp_path / "store" / "renders" / "episode-000000-tabletop-goal-2.mp4").exists()


def test_viz_says_which_episodes_there_are(store, capsys):
    assert main(["dataset", "viz", str(store), "--episodes", "1", "4"]) == 2
    assert "holds episodes 0…3, asked to film [1, 4]" in capsys.readouterr().err
    assert not (store / "renders").exists()


def test_viz_of_what_cannot_be_shown(tmp_path, capsys):
    assert main(["dataset", "viz", str(tmp_path / "none")]) == 2
    assert "is not a demonstration store" in capsys.readouterr().err
    DemonstrationWriter.create(tmp_path / "empty", make_embodiment()).close()
    assert main(["dataset", "viz", str(tmp_path / "empty")]) == 2
    assert "holds no episodes yet" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["viz", "collect"])
def test_without_av_nothing_is_begun(store, tmp_path, monkeypatch, capsys, command):
    monkeypatch.setitem(sys.modules, "av", None)
    path = tmp_path / "new"
    collect = ["collect", "reach", "--episodes", "1", "--path", str(path), "--render", "1"]
    assert main(["dataset", "viz", str(store)] if command == "viz" else collect) == 2
    assert "pip install 'vla-stack[video]'" in capsys.readouterr().err
    assert not path.exists() and not (store / "renders").exists()


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    path = tmp_path_factory.mktemp("collected") / "reach"
    flags = ["--num-envs", "3", "--env.image-size-px", "32", "--env.threads", "1", "--render-size-px", "48"]
    assert main(["collect", "reach", "--episodes", "3", "--path", str(path), "--render", "2", *flags]) == 0
    return path


def test_collect_films_the_first_episodes_beside_a_dataset_without_depth(collected):
    dataset = DemonstrationDataset(collected)
    assert len(dataset) == 3 and not any("depth" in key or "segmentation" in key for key in dataset.keys)
    lengths = {record.seed: record.length for record in dataset.records}
    films = sorted((collected / "renders").glob("*.mp4"))
    assert [film.name for film in films] == ["reach-000000.mp4", "reach-000001.mp4"]
    assert [frames(film) for film in films] == [(lengths[seed], 20.0) for seed in (0, 1)]
    with av.open(str(films[0])) as film:
        picture = next(film.decode(video=0))
        assert picture.width > 3 * 240  # RGB, depth and segmentation


def test_a_film_shows_the_episode_that_was_recorded(collected):
    from configs.commands.collect import recoveries

    dataset = DemonstrationDataset(collected)
    studio = Studio("reach", EnvConfig(image_size_px=32, threads=1), arm_start_rad=0.3)
    try:
        for recorded in (dataset.episode(index) for index in range(len(dataset))):
            filmed = studio.episode(recorded.seed, recoveries())
            np.testing.assert_array_equal(filmed.actions, recorded.actions)
            np.testing.assert_array_equal(filmed.images["front"], recorded.images["front"])
            assert filmed.instruction == recorded.instruction and filmed.success == recorded.success
            assert filmed.segmentation["wrist"].max() > 0 and filmed.depth["wrist"].max() > 0
    finally:
        studio.close()


def test_films_that_are_there_are_kept(collected):
    films = {film: film.stat().st_mtime_ns for film in (collected / "renders").iterdir()}
    settings = json.loads((collected / "zarr.json").read_text())["attributes"]["settings"]
    assert settings["render_profile"]["name"] == "fast"
    flags = ["--num-envs", "3", "--env.image-size-px", "32", "--env.threads", "1", "--render-size-px", "48"]
    assert main(["collect", "reach", "--episodes", "3", "--path", str(collected), "--render", "3", *flags]) == 0
    now = {film: film.stat().st_mtime_ns for film in (collected / "renders").iterdir()}
    assert now.items() >= films.items() and len(now) == len(films) + 2


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["collect", "reach", "--render", "-1"], "render must not be negative"),
        (["collect", "reach", "--render-size-px", "8"], "got 0 and 8"),
        (["dataset", "viz", "films", "--sheet-frames", "0"], "sheet_frames must be at least 1, got 0"),
    ],
)
def test_films_that_cannot_be_are_refused(flags, complaint, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(flags)
    assert stopped.value.code == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
