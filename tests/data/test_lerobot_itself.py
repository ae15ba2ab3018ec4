"""LeRobot's own code opens what we write, and we read what it writes: where VLA_LEROBOT_PYTHON names its Python."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("av")

from lerobot_datasets import LENGTHS, make_store, psnr_db

from policies.data.dataset import DemonstrationDataset
from policies.data.lerobot.conversion import to_lerobot, to_store
from policies.data.lerobot.reading import LeRobotDataset
from policies.data.lerobot.source import LeRobotSource
from policies.data.sources.guessing import describe
from policies.data.sources.robot_file import RobotFile

INTERPRETER = os.environ.get("VLA_LEROBOT_PYTHON")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not INTERPRETER, reason="VLA_LEROBOT_PYTHON names no interpreter")]


def lerobot(*arguments):
    script = Path(__file__).with_name("lerobot_itself.py")
    env = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(arguments[1].parent / "cache"), "PATH": os.environ["PATH"]}
    command = [INTERPRETER, script, *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("pictures", ["video", "png"])
def test_lerobot_opens_what_we_write(tmp_path, pictures):
    store = DemonstrationDataset(make_store(tmp_path / "store", everything=pictures == "png", smooth=True))
    to_lerobot(store, tmp_path / "lerobot", "v3.0", pictures)
    lerobot("read", tmp_path / "lerobot", tmp_path / "read.npz")
    got = np.load(tmp_path / "read.npz")
    assert got["second_episode"] == LENGTHS[1]
    frame = np.concatenate([np.arange(length) for length in LENGTHS])
    left = np.concatenate([np.arange(length)[::-1] for length in LENGTHS])
    np.testing.assert_array_equal(got["action_is_pad"], np.arange(3) > left[:, None])
    np.testing.assert_array_equal(got["observation.state_is_pad"], np.stack([frame == 0, frame < 0], 1))
    action, state, at = store.load("action"), store.load("observation.state"), np.arange(len(frame))
    np.testing.assert_array_equal(got["action"], action[at[:, None] + np.minimum(np.arange(3), left[:, None])])
    np.testing.assert_array_equal(got["observation.state"], state[np.stack([at - (frame > 0), at], 1)])
    said = np.repeat([record.instruction for record in store.records], LENGTHS)
    assert got["task"].tolist() == said.tolist()
    for camera in ("front", "wrist"):
        key = f"observation.images.{camera}"
        shown = (got[key] * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
        if pictures == "png":
            np.testing.assert_array_equal(shown, store.load(key))
            np.testing.assert_array_equal(got[f"observation.depth.{camera}"], store.load(f"observation.depth.{camera}"))
        else:
            assert psnr_db(shown, store.load(key)) > 30
        np.testing.assert_allclose(got[f"stats/{key}/mean"][:, 0, 0], store.load(key).mean((0, 1, 2)) / 255, rtol=1e-5)
    np.testing.assert_allclose(got["stats/action/q01"], np.quantile(action, 0.01, axis=0), rtol=1e-5)


def test_we_read_what_lerobot_writes(tmp_path):
    lerobot("write", tmp_path / "lerobot")
    source = LeRobotDataset(tmp_path / "lerobot")
    file = tmp_path / "robot.toml"
    file.write_text(describe(LeRobotSource(source)), encoding="utf-8")
    to_store(source, tmp_path / "store", RobotFile.read(file))
    store = DemonstrationDataset(tmp_path / "store")
    assert store.embodiment.name == "so100" and store.embodiment.camera_names == ("top", "side")
    assert [record.length for record in store.records] == [6, 9] and store.records[1].task == "push-it"
    numbers = np.concatenate([[(e + f / 10, 100 - f) for f in range(t)] for e, t in enumerate((6, 9))])
    np.testing.assert_array_equal(store.load("observation.state"), numbers.astype(np.float32))
    np.testing.assert_array_equal(store.load("action"), numbers.astype(np.float32) + 1)
    frame = np.concatenate([np.arange(6), 10 + np.arange(9)])
    y, x = np.mgrid[:24, :32]
    shown = np.stack([np.stack([x * 7 + f, y * 9, 200 - 3 * x - f * 5], -1).astype(np.uint8) for f in frame])
    np.testing.assert_array_equal(store.load("observation.images.side"), shown)
    assert min(psnr_db(a, b) for a, b in zip(store.load("observation.images.top"), shown, strict=True)) > 25
