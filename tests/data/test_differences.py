"""Of two descriptions, only what differs is shown."""

from dataclasses import replace

from synthetic_demonstrations import make_embodiment

from policies.data.differences import SHOWN, differences, flat


def test_entries_that_differ_by_their_dotted_names():
    there = {"robot": "panda", "env": {"noise": None, "size_px": 64, "exempt": ["a"]}, "same": {"x": 1}}
    here = {"robot": "panda", "env": {"noise": 0.5, "exempt": ["a", "b"], "depth": True}, "same": {"x": 1}}
    assert differences(there, here).splitlines() == [
        "  env.noise: null there, 0.5 now",
        "  env.size_px: 64 there, absent now",
        '  env.exempt: ["a"] there, ["a", "b"] now',
        "  env.depth: absent there, true now",
    ]


def test_tuples_are_lists():
    assert differences({"a": (1, 2)}, {"a": [1, 2]}) == ""


def test_embodiments_by_the_names_of_cameras_and_dimensions():
    robot = make_embodiment()
    front, wrist = robot.cameras
    other = replace(robot, cameras=(replace(front, width_px=20), wrist), state=robot.state[:4], control_rate_hz=5.0)
    assert differences(robot.to_dict(), other.to_dict()).splitlines() == [
        "  control_rate_hz: 10.0 there, 5.0 now",
        "  state.x4: present there, absent now",
        "  cameras.front.width_px: 12 there, 20 now",
    ]
    turned = replace(robot, cameras=(wrist, front))
    (line,) = differences(robot.to_dict(), turned.to_dict()).splitlines()
    assert line == "  cameras: ['front', 'wrist'] in this order there, ['wrist', 'front'] now"


def test_a_long_list_of_differences_is_cut():
    lines = differences({str(n): n for n in range(20)}, {str(n): -n for n in range(1, 21)}).splitlines()
    assert len(lines) == SHOWN + 1 and lines[-1] == "  … and 9 more"


def test_flat_is_every_entry():
    assert flat({"a": {"b": 1, "c": {}}, "d": [1]}, "top") == {"top.a.b": 1, "top.a.c": {}, "top.d": [1]}
