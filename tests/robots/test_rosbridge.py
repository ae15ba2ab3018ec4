"""A robot behind rosbridge, which here is a real socket with the real messages."""

import base64
import json
import time
import tomllib

import numpy as np
import pytest
from fake_rosbridge import BLUE, RED, FakeRosbridge

from envs.specs import STATE_KEY, CameraSpec, image_key
from policies.robots import ros_messages
from policies.robots.driver import RobotError
from policies.robots.opening import read_robot
from policies.robots.robot_file import RobotDescription
from policies.robots.rosbridge import RosbridgeRobot

FILE = """
name = "pantilt"
kind = "rosbridge"
control_rate_hz = 20

[rosbridge]
url = "ws://127.0.0.1:{port}"
command_topic = "{topic}"
command_type = "{type}"
stale_s = 1.0

[[state]]
name = "pan_rad"
topic = "/joint_states"
type = "sensor_msgs/msg/JointState"
joint = "pan"
unit = "rad"
low = -1.0
high = 1.0

[[state]]
name = "lift_deg"
topic = "/joint_states"
type = "sensor_msgs/msg/JointState"
joint = "lift"
unit = "deg"
low = -60.0
high = 60.0
scale = 57.29577951308232

[[action]]
name = "pan_rad"
joint = "pan"
unit = "rad"
low = -1.0
high = 1.0
max_step = 0.05

[[action]]
name = "lift_deg"
joint = "lift"
unit = "deg"
low = -60.0
high = 60.0
scale = 57.29577951308232

[[cameras]]
name = "raw"
topic = "/camera/image_raw"
type = "sensor_msgs/msg/Image"
height_px = 4
width_px = 6

[[cameras]]
name = "jpeg"
topic = "/camera/image_raw/compressed"
type = "sensor_msgs/msg/CompressedImage"
height_px = 24
width_px = 32
"""


@pytest.fixture
def bridge():
    bridge = FakeRosbridge()
    yield bridge
    bridge.close()


def described(port, topic="/commands", kind="std_msgs/msg/Float64MultiArray", **changes):
    text = FILE.replace("{port}", str(port)).replace("{topic}", topic).replace("{type}", kind)
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


@pytest.fixture
def robot(bridge, tmp_path):
    file = tmp_path / "robot.toml"
    file.write_text(described(bridge.port), encoding="utf-8")
    robot = read_robot(file)
    robot.connect()
    yield robot
    robot.close()


def wait_until(true, timeout_s=10.0):
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_it_senses_and_obeys_in_our_units(robot, bridge):
    seen = robot.observe()
    np.testing.assert_allclose(seen[STATE_KEY], [0.2, np.degrees(0.1)], rtol=1e-6)
    np.testing.assert_array_equal(seen[image_key("raw")], np.broadcast_to(np.uint8(RED), (4, 6, 3)))
    assert seen[image_key("jpeg")].shape == (24, 32, 3)
    assert np.abs(seen[image_key("jpeg")].astype(int) - BLUE).max() < 12
    robot.act(np.float32([0.5, 30.0]))
    wait_until(lambda: abs(robot.observe()[STATE_KEY][1] - 30.0) < 1e-3)
    np.testing.assert_allclose(bridge.commands[-1], [0.5, np.radians(30)], rtol=1e-6)
    operations = [(op["op"], op["topic"]) for op in bridge.operations if op["op"] != "publish"]
    assert ("subscribe", "/joint_states") in operations and ("advertise", "/commands") in operations
    assert len([op for op in operations if op == ("subscribe", "/joint_states")]) == 1


def test_joints_of_one_topic_may_come_from_several(robot, bridge):
    """A gripper and an arm each say their own, in turn."""
    bridge.mute = True
    time.sleep(0.2)

    def say(joint, position):
        message = {"op": "publish", "topic": "/joint_states", "msg": {"name": [joint], "position": [position]}}
        robot._hear(json.dumps(message))

    say("pan", 0.5)
    say("lift", 0.3)
    np.testing.assert_allclose(robot.observe()[STATE_KEY], [0.5, np.degrees(0.3)], rtol=1e-6)
    say("pan", 0.4)
    np.testing.assert_allclose(robot.observe()[STATE_KEY], [0.4, np.degrees(0.3)], rtol=1e-6)


def test_stopping_repeats_where_it_was_told_to_be(robot, bridge):
    robot.stop()
    robot.act(np.float32([0.5, 30.0]))
    wait_until(lambda: bridge.commands)
    assert len(bridge.commands) == 1  # it had not been told anything before
    robot.close()
    wait_until(lambda: any(op["op"] == "unadvertise" for op in bridge.operations))
    assert len(bridge.commands) == 4
    np.testing.assert_allclose(bridge.commands, [[0.5, np.radians(30)]] * 4, rtol=1e-6)


def test_a_silent_topic_is_an_error(robot, bridge):
    bridge.mute = True
    with pytest.raises(RobotError, match=r"nothing new on /(joint_states of joint '(pan|lift)'|camera\S*) for 1"):
        while True:
            robot.observe()


def test_a_bridge_that_is_gone_is_an_error(robot, bridge):
    bridge.close()
    with pytest.raises(RobotError, match=r"hung up|ended"):
        wait_until(lambda: robot.observe() is None)
    robot.close()


def test_a_status_of_rosbridge_is_told(bridge, tmp_path):
    file = tmp_path / "robot.toml"
    file.write_text(described(bridge.port, **{"/joint_states": "/unknown_states"}), encoding="utf-8")
    robot = read_robot(file)
    with pytest.raises(RobotError, match="cannot subscribe to /unknown_states"):
        robot.connect()


def test_nobody_there(tmp_path):
    file = tmp_path / "robot.toml"
    file.write_text(described(1), encoding="utf-8")
    with pytest.raises(RobotError, match=r"cannot reach rosbridge at ws://127\.0\.0\.1:1"):
        read_robot(file).connect()


def test_trajectories_go_to_a_place_within_a_step(bridge):
    text = described(bridge.port, "/trajectory", "trajectory_msgs/msg/JointTrajectory")
    robot = RosbridgeRobot(RobotDescription.from_dict(tomllib.loads(text)))
    robot.connect()
    try:
        robot.act(np.float32([-0.5, 0.0]))
        wait_until(lambda: bridge.commands)
        assert bridge.commands[0]["joint_names"] == ["pan", "lift"]
        assert bridge.commands[0]["points"][0]["time_from_start"] == {
            **{"sec": 0, "nanosec": 50_000_000},
            **{"secs": 0, "nsecs": 50_000_000},
        }
    finally:
        robot.close()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "rosbridge"', 'kind = "ros"', "kind must be one of rosbridge, lerobot, got 'ros'"),
        ("control_rate_hz = 20", "control_rate_hz = 0", "control_rate_hz must be positive and finite, got 0"),
        ("stale_s = 1.0", "stael_s = 1.0", r"rosbridge: missing \[\], not expected \['stael_s'\]"),
        ("max_step = 0.05", "max_step = -1", "action pan_rad: max_step must be positive"),
        ("high = 60.0", "high = -60.0", "state 'lift_deg': expected finite numbers with low < high"),
        ("height_px = 4", "height_px = 0", "camera 'raw': expected a height and width in pixels"),
        ("std_msgs/msg/Float64MultiArray", "std_msgs/msg/String", "command_type must be one of std_msgs/Float64Multi"),
        ("std_msgs/msg/Float64MultiArray", "geometry_msgs/msg/Twist", "the joints of a Twist are linear.x"),
        ("sensor_msgs/msg/Image", "sensor_msgs/msg/JointState", "cameras 'raw': a topic of type"),
    ],
)
def test_a_file_with_a_mistake_says_where(tmp_path, old, new, says):
    file = tmp_path / "robot.toml"
    file.write_text(described(1, **{old: new}), encoding="utf-8")
    with pytest.raises(ValueError, match=says):
        read_robot(file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": "%%%"}, "cannot be read"),
        ({"encoding": "bayer_rggb8"}, "encoding 'bayer_rggb8'"),
        ({"height": 400_000, "width": 400_000}, "are not"),
        ({"step": 3}, "are not"),
    ],
)
def test_a_picture_that_is_none_is_refused(change, says):
    good = {"height": 1, "width": 2, "step": 6, "encoding": "bgr8", "data": base64.b64encode(bytes(range(6))).decode()}
    camera = CameraSpec(name="front", height_px=1, width_px=2)
    np.testing.assert_array_equal(ros_messages.picture(good, "sensor_msgs/Image", camera), [[[2, 1, 0], [5, 4, 3]]])
    with pytest.raises(RobotError, match=f"camera front: .*{says}"):
        ros_messages.picture({**good, **change}, "sensor_msgs/Image", camera)


def test_a_joint_that_is_missing_or_no_number_is_refused():
    state = {"name": ["a"], "position": [float("nan")], "velocity": []}
    for joint, field in (("b", "position"), ("a", "position"), ("a", "velocity")):
        with pytest.raises(RobotError, match=joint):
            ros_messages.joint_number(state, joint, field)
