import numpy as np
import pytest
from serving_fakes import EMBODIMENT, observation, wire_observation

from envs.specs import COMMAND_KEY, STATE_KEY, TASK_KEY, depth_key, extrinsics_key, image_key, intrinsics_key
from policies.serving.keys import ObservationAdapter, ObservationError, key_diff

ADAPTER = ObservationAdapter(EMBODIMENT)


def test_every_key_has_the_slash_form_that_the_protocol_uses():
    table = {field.key: field.wire for field in ADAPTER.fields}
    assert table == {
        TASK_KEY: "prompt",
        STATE_KEY: "observation/state",
        COMMAND_KEY: "observation/command",
        image_key("front"): "observation/images/front",
        image_key("wrist"): "observation/images/wrist",
        depth_key("front"): "observation/depth/front",
        intrinsics_key("front"): "observation/cameras/front/intrinsics",
        extrinsics_key("front"): "observation/cameras/front/T_world_cam",
        intrinsics_key("wrist"): "observation/cameras/wrist/intrinsics",
        extrinsics_key("wrist"): "observation/cameras/wrist/T_world_cam",
    }


def test_to_the_wire_and_back_changes_nothing(rng):
    given = observation(rng)
    back = ADAPTER.from_wire(ADAPTER.to_wire(given))
    assert back.keys() == given.keys()
    for key, value in given.items():
        np.testing.assert_array_equal(back[key], value)


def test_double_precision_state_arrives_as_float32(rng):
    message = wire_observation(rng)
    assert message["observation/state"].dtype == np.float64
    state = ADAPTER.from_wire({**message, "reset": True})[STATE_KEY]
    assert state.dtype == np.float32
    np.testing.assert_allclose(state, message["observation/state"], rtol=1e-6)


def test_the_example_is_valid_and_complete():
    example = ADAPTER.example()
    assert set(example) == {field.key for field in ADAPTER.fields}
    ADAPTER.to_wire(example)


def test_wrong_keys_are_shown_in_two_columns(rng):
    message = wire_observation(rng)
    message["observation/images/wirst"] = message.pop("observation/images/wrist")
    message["extra"] = 1
    with pytest.raises(ObservationError) as error:
        ADAPTER.from_wire(message)
    lines = [line.split() for line in str(error.value).splitlines()]
    assert ["expected", "given"] in lines
    assert ["prompt", "prompt"] in lines
    assert ["observation/images/wrist", "observation/images/wirst", "<-", "differs"] in lines
    assert ["-", "extra", "<-", "differs"] in lines


def test_the_key_diff_stays_short_for_thousands_of_long_keys():
    text = key_diff(["prompt"], [f"{i}" * 500 for i in range(5000)])
    assert len(text) < 10_000
    assert "more" in text.splitlines()[-1]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("observation/images/front", np.zeros((12, 8, 3), np.uint8), r"shape \(8, 12, 3\), got uint8.*\(12, 8, 3\)"),
        ("observation/images/front", np.zeros((1, 8, 12, 3), np.uint8), r"got uint8 array of shape \(1, 8, 12, 3\)"),
        ("observation/images/front", np.zeros((8, 12, 3), np.float32), "must be uint8 RGB.*got float32"),
        ("observation/images/front", np.zeros((8, 12, 3), np.uint16), "must be uint8 RGB.*got uint16"),
        ("observation/images/front", [1, 2], "got a list"),
        ("observation/state", np.zeros(5, np.float32), r"shape \(4,\), got float32 array of shape \(5,\)"),
        ("observation/state", np.zeros(4, np.int64), "must be float.*got int64"),
        ("observation/state", np.array([0, 0, np.nan, 0]), r"must be finite, got nan at index \(2,\)"),
        ("observation/state", np.array([0, 1e300, 0, 0]), r"must be finite, got 1e\+300"),
        ("observation/depth/front", np.full((8, 12), np.inf, np.float32), "must be finite, got inf"),
        ("observation/depth/wrist", np.zeros((6, 6), np.float32), "observation/depth/wrist.*<- differs"),
        ("prompt", 3, "prompt must be text, got a int"),
        ("reset", 1, "reset must be a bool"),
        ("last_action", np.zeros(4), r"last_action must be float of shape \(3,\), got float64 array of shape \(4,\)"),
        ("last_action", np.full(3, np.nan), "last_action must be finite"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected_and_what_came(rng, key, value, says):
    with pytest.raises(ObservationError, match=says):
        ADAPTER.from_wire({**wire_observation(rng), key: value})


@pytest.mark.parametrize("message", [None, 3, [1], "text", np.zeros(3)])
def test_what_is_no_map_is_refused(message):
    with pytest.raises(ObservationError, match="expected an observation map"):
        ADAPTER.from_wire(message)
