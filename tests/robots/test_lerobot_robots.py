"""LeRobot's robots through our driver interface: LeRobot's own classes where VLA_LEROBOT_PYTHON names its Python."""

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from policies.robots.opening import read_robot

INTERPRETER = os.environ.get("VLA_LEROBOT_PYTHON")
FILE = """
name = "arm"
kind = "lerobot"
control_rate_hz = 30

[lerobot]
module = "lerobot.robots.so_follower"
type = "so101_follower"
options = { port = "/dev/ttyACM0", id = "mine" }

[[state]]
name = "pan"
key = "shoulder_pan.pos"
unit = "rad"
low = -2.0
high = 2.0

[[action]]
name = "pan"
key = "shoulder_pan.pos"
unit = "rad"
low = -2.0
high = 2.0
"""


@pytest.mark.slow
@pytest.mark.skipif(not INTERPRETER, reason="VLA_LEROBOT_PYTHON names no interpreter")
def test_a_robot_of_lerobots_own_classes(tmp_path):
    here = Path(__file__).parent
    env = {"PYTHONPATH": f"{here.parents[1]}{os.pathsep}{here}", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    command = [str(INTERPRETER), str(here / "lerobot_bench.py"), str(tmp_path / "found.json")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(found["state"], [0.2, 0.2], rtol=1e-6)
    assert found["picture"] == [[4, 6, 3], [200, 100, 50]]
    first, last = found["sent"]  # what was really sent, after LeRobot's own limit, is what stop repeats
    np.testing.assert_allclose([first["pan.pos"], first["lift.pos"]], [10.0, 50.0], rtol=1e-5)
    assert (last, found["connected"]) == (first, False)
    assert "not calibrated" in found["calibrated"] and "speed" in found["option"]
    assert "obeys ['lift.pos', 'pan.pos']" in found["lacking"]


@pytest.mark.skipif(importlib.util.find_spec("lerobot") is not None, reason="LeRobot is installed here")
def test_without_lerobot_the_error_says_so(tmp_path):
    file = tmp_path / "arm.toml"
    file.write_text(FILE, encoding="utf-8")
    with pytest.raises(ModuleNotFoundError, match="install LeRobot in the environment of the robot's computer"):
        read_robot(file)


def test_relative_actions_are_refused(tmp_path):
    file = tmp_path / "arm.toml"
    file.write_text(FILE + "relative = true\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no action of theirs is relative"):
        read_robot(file)
