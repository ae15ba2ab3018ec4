"""vla ground: pictures and rendered tables, what is told and drawn, and what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from configs.cli import main
from vla import shipped
from vla.base import load_base, save_base

PHRASE = "the red cube"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run that has learned two steps."""
    outputs = tmp_path_factory.mktemp("outputs")
    flags = ["--train.steps", "2", "--train.held-out-tables", "4", "--train.save-every", "2"]
    assert main(["pretrain", "debug", *flags, "--outputs", str(outputs)]) == 0
    (run_dir,) = outputs.glob("pretrain/*/*")
    return run_dir


@pytest.fixture
def ground(pretrained, tmp_path, capsys):
    """Runs the verb with that run; its exit status, and what it said."""

    def answer(*args):
        flags = [] if "--backbone" in args else ["--backbone", str(pretrained)]
        capsys.readouterr()
        try:
            status = main(["ground", *args, *flags, "--outputs", str(tmp_path / "out")])
        except SystemExit as refused:  # by the settings themselves
            status = refused.code
        said = capsys.readouterr()
        return status, " ".join((said.out if status == 0 else said.err).replace("│", " ").split())

    return answer


@pytest.fixture
def pictures(tmp_path):
    """A png and a jpg of other sizes and modes, and a file that is none."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (90, 120, 4), np.uint8), "RGBA").save(tmp_path / "front.png")
    Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8), "L").save(tmp_path / "wrist.jpg")
    (tmp_path / "notes.txt").write_text("no picture")
    return [str(tmp_path / name) for name in ("front.png", "wrist.jpg")]


def sheet_of(said):
    path = said.partition("sheet: ")[2]
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        return path, np.asarray(sheet)


def test_a_rendered_table_shows_the_truth_beside_the_answer(ground, tmp_path):
    status, said = ground("--scene", "5", "--scenes.tasks", "pick")
    assert status == 0
    assert re.search(r"front: pixel \([\d.]+, [\d.]+\) of 64 × 64, \d+% of the heatmap .*; [\d.]+ px off", said)
    assert re.search(r"in the world: \([-\d., ]+\) m; [\d.]+ cm from the truth", said)
    path, sheet = sheet_of(said)
    assert path.startswith(str(tmp_path / "out/ground")) and path.endswith("_scene-5/ground.png")
    for colour in ((255, 60, 220), (0, 190, 255)):  # outline of the truth, cross of the answer
        assert (sheet == colour).all(-1).any()
    _, again = ground("--scene", "5", "--scenes.tasks", "pick")
    assert again.partition("sheet: ")[0] == said.partition("sheet: ")[0]
    assert ground("--scene", "6", "--scenes.tasks", "pick")[1].partition("sheet: ")[0] != said.partition("sheet: ")[0]


def test_a_phrase_may_be_asked_of_a_rendered_table(ground):
    status, said = ground(PHRASE, "--scene", "5", "--scenes.tasks", "pick", "--also", "the table")
    assert status == 0 and said.startswith(f"“{PHRASE}” front: pixel") and "“the table”" in said
    assert "in the world" in said and "truth" not in said and "px off" not in said


def test_another_robots_table_is_placed_nowhere_and_other_cameras_are_refused(ground, pretrained, tmp_path):
    status, said = ground("--scene", "5", "--scenes.tasks", "pick", "--scenes.robot", "ur5e")
    assert status == 0 and "px off" in said and "no place in the world: " in said
    base = load_base(pretrained / "checkpoints/000002/backbone")
    save_base(replace(base.config, cameras=("front", "side")), base.weights, tmp_path / "other")
    status, said = ground("--scene", "5", "--scenes.tasks", "pick", "--backbone", str(tmp_path / "other"))
    assert status == 2 and "looks through front, side, and panda has front, wrist" in said


def test_pictures_of_all_views_with_the_state_are_placed_in_the_world(ground, pictures, tmp_path):
    out = tmp_path / "folder" / "sheet.png"
    state = [str(x) for x in [0.4, 0.0, 0.3, -1.0, *[0.0] * 13]]
    status, said = ground(PHRASE, *pictures, "--also", "the bin", "--state", *state, "--out", str(out))
    assert status == 0
    assert " of 120 × 90, " in said and " of 64 × 64, " in said and said.count("in the world: (") == 2
    path, sheet = sheet_of(said)
    assert path == str(out) and not (tmp_path / "out").exists()
    _, one = sheet_of(ground(PHRASE, *pictures)[1])
    assert sheet.shape[1] == one.shape[1] and sheet.shape[0] > 1.8 * one.shape[0]


def test_one_picture_alone_is_the_first_views_or_the_named_ones(ground, pictures):
    status, said = ground(PHRASE, pictures[0])
    assert status == 0 and "front: pixel" in said and "wrist: pixel" not in said
    assert "no place in the world: that needs pictures of front, wrist and the state (tool_x" in said
    status, said = ground(PHRASE, pictures[0], "--camera", "wrist")
    assert status == 0 and "wrist: pixel" in said and "front: pixel" not in said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([PHRASE], "name a phrase and pictures to look at, or a rendered table's seed (--scene 7); got 0 pictures"),
        ([PHRASE, "PNG", "--scene", "3"], "got 1 pictures and the seed 3"),
        (["", "PNG"], "expected phrases such as 'the red cube', got ['']"),
        ([PHRASE, "PNG", "--also", ""], "expected phrases such as"),
        (["please " * 300, "PNG"], "expected instructions of at most 256 tokens"),
        ([PHRASE, "PNG", "PNG", "PNG"], "expected pictures of front, wrist (the network's cameras, in this order)"),
        ([PHRASE, "TXT"], "expected a picture (png, jpg) at"),
        ([PHRASE, "nowhere.png"], "No such file or directory"),
        ([PHRASE, "PNG", "--camera", "top"], "looks through the cameras front, wrist; got ['top']"),
        ([PHRASE, "PNG", "PNG", "--camera", "front"], "camera says whose picture one alone is, got 2"),
        ([PHRASE, "PNG", "PNG", "--state", "1.0"], "the state has 17 numbers (tool_x,"),
        ([PHRASE, "PNG", "--backbone", "no/such/run"], "no model.safetensors in any of"),
        (["--scene", "-1"], "seeds 0…4294967295, got -1"),
        (["--scene", "1", "--state", "0.5"], "leave out camera and state"),
        ([PHRASE, "--scene", "1", "--also", " "], "expected phrases such as"),
        ([PHRASE, "PNG", "--out", "FOLDER"], "is a folder; expected the name of a file"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(ground, pictures, tmp_path, args, message):
    files = {"PNG": pictures[0], "TXT": str(tmp_path / "notes.txt"), "FOLDER": str(tmp_path)}
    status, said = ground(*(files.get(arg, arg) for arg in args))
    assert status == 2 and message in said
    assert not (tmp_path / "out").exists()


def test_the_packages_own_backbone_is_the_default(ground, pretrained, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    status, said = ground(PHRASE, pictures[0], "--backbone", "shipped")
    assert status == 2 and "lacks its pre-trained backbone" in said and "--backbone RUN" in said
    monkeypatch.setattr(shipped, "FOLDER", pretrained / "checkpoints/000002/backbone")
    assert ground(PHRASE, pictures[0], "--backbone", "shipped")[0] == 0
