"""Made-up episodes that depend on their index alone, so that any process can say what a store must hold."""

import numpy as np

from envs.specs import CameraSpec, Dimension, EmbodimentSpec
from policies.data.episode import CameraGeometry, Episode

INSTRUCTIONS = ("pick up the red cube", "pick up the blue cube", "touch the green ball")


def make_embodiment(size_px=12, depth=True, segmentation=False):
    def dimensions(count):
        return tuple(Dimension(name=f"x{i}", unit="m", low=-1.0, high=1.0) for i in range(count))

    return EmbodimentSpec(
        name="toy",
        control_rate_hz=10.0,
        state=dimensions(5),
        action=dimensions(3),
        cameras=tuple(
            CameraSpec(name=name, height_px=size_px, width_px=size_px, depth=depth, segmentation=segmentation)
            for name in ("front", "wrist")
        ),
    )


def make_episode(index, embodiment, length=None, geometry=False, phase=False):
    rng = np.random.default_rng(index)
    t = length or int(rng.integers(3, 80))
    arrays = {"images": {}, "depth": {}, "segmentation": {}, "cameras": {}}
    for camera in embodiment.cameras:
        size = (camera.height_px, camera.width_px)
        arrays["images"][camera.name] = rng.integers(0, 256, (t, *size, 3), dtype=np.uint8)
        if camera.depth:
            arrays["depth"][camera.name] = rng.uniform(0.1, 2.0, (t, *size)).astype(np.float32)
        if camera.segmentation:
            arrays["segmentation"][camera.name] = rng.integers(-1, 40, (t, *size), dtype=np.int32)
        if geometry:
            arrays["cameras"][camera.name] = CameraGeometry(
                intrinsics=rng.normal(size=(t, 3, 3)).astype(np.float32),
                T_world_cam=rng.normal(size=(t, 4, 4)).astype(np.float32),
            )
    return Episode(
        **arrays,
        state=rng.normal(size=(t, embodiment.state_dim)).astype(np.float32),
        actions=rng.normal(size=(t, embodiment.action_dim)).astype(np.float32),
        phase=rng.integers(0, 4, t, dtype=np.int32) if phase else None,
        instruction=INSTRUCTIONS[index % 3],
        task="reach" if index % 3 == 2 else "pick",
        success=index % 4 != 1,
        seed=1000 + index,
    )


def assert_same_episode(got, expected):
    arrays, wanted = got.fields(), expected.fields()
    assert set(arrays) == set(wanted)
    for key, array in wanted.items():
        assert arrays[key].dtype == array.dtype, key
        np.testing.assert_array_equal(arrays[key], array, err_msg=key)
    for name in ("instruction", "task", "success", "seed"):
        assert getattr(got, name) == getattr(expected, name), name
