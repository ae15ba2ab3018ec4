"""Datasets of other projects, written by plain h5py and zarr as those projects write them; none of our code."""

import json

import h5py
import numpy as np
import zarr
from zarr.storage import LocalStore, ZipStore

LENGTHS = (9, 14, 6)
SIZE = (16, 24)
"""Height and width of the pictures."""


def pictures(episode, length):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([np.stack([x * 9 + f, y * 11, 20 * episode + f + 0 * x], -1) for f in range(length)]).astype(
        np.uint8
    )


def vectors(episode, length):
    """A tool that goes where it is told, and fingers that close, one frame late, when the command is high."""
    rng = np.random.default_rng(episode)
    actions = rng.uniform(-1, 1, (length, 4))
    actions[:, 3] = np.where(np.arange(length) >= length // 2, 1.0, -1.0)
    position = np.cumsum(np.vstack([rng.normal(size=3), 0.05 * actions[:-1, :3]]), 0)
    closed = np.concatenate([[-1.0], actions[:-1, 3]]) > 0
    fingers = np.where(closed, 0.005, 0.04)[:, None] * np.array([1.0, -1.0])
    return actions, position, fingers


def write_robomimic(path, lengths=LENGTHS, *, sparse=True):
    """``demo_1``, whose reward never comes, failed; ``demo_10`` comes after ``demo_2``."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(lengths)
        env = {"env_name": "PickPlaceCan", "env_type": 1, "env_kwargs": {"robots": ["Panda"], "control_freq": 20}}
        data.attrs["env_args"] = json.dumps(env, indent=4)
        names = [f"demo_{index}" for index in (0, 1, 10)]
        for index, (name, length) in enumerate(zip(names, lengths, strict=True)):
            group = data.create_group(name)
            actions, position, fingers = vectors(index, length)
            rewards = np.zeros(length) if index == 1 or not sparse else (np.arange(length) == length - 1).astype(float)
            group.attrs["num_samples"], group.attrs["model_file"] = length, "<mujoco/>"
            group.create_dataset("actions", data=actions)
            group.create_dataset("states", data=np.zeros((length, 30)))
            group.create_dataset("rewards", data=rewards)
            group.create_dataset("dones", data=(rewards > 0).astype(np.int64))
            quaternion = np.tile([0.0, 0.0, 0.0, 1.0], (length, 1))
            observed = {
                "robot0_eef_pos": position,
                "robot0_eef_quat": quaternion,
                "robot0_gripper_qpos": fingers,
                "object": np.full((length, 14), 0.5),
                "agentview_image": pictures(index, length),
            }
            for key, value in observed.items():
                group.create_dataset(f"obs/{key}", data=value, compression="gzip")
                group.create_dataset(f"next_obs/{key}", data=np.roll(value, -1, 0), compression="gzip")
        file.create_dataset("mask/train", data=np.array(names[:2], dtype="S"))
    return path


def write_maniskill(path, lengths=LENGTHS):
    """Observations are one more than actions; trajectory 1 failed; in ManiSkill a low command closes the gripper."""
    with h5py.File(path, "w") as file:
        for index, length in enumerate(lengths):
            group = file.create_group(f"traj_{index}", track_order=True)
            actions, position, fingers = vectors(index, length + 1)
            qpos = np.concatenate([position, np.abs(fingers)], 1).astype(np.float32)
            group.create_dataset("actions", data=(actions[:-1] * [1, 1, 1, -1]).astype(np.float32))
            group.create_dataset("obs/agent/qpos", data=qpos)
            group.create_dataset("obs/extra/tcp_pose", data=np.tile(np.float32([0, 0, 1, 1, 0, 0, 0]), (length + 1, 1)))
            group.create_dataset(
                "obs/sensor_data/base_camera/rgb", data=pictures(index, length + 1), compression="gzip"
            )
            depth = np.full((length + 1, *SIZE, 1), 900, np.int16)
            group.create_dataset("obs/sensor_data/base_camera/depth", data=depth, compression="gzip")
            group.create_dataset("env_states/actors/cube", data=np.zeros((length + 1, 13), np.float32))
            group.create_dataset("success", data=np.arange(length) == (length if index == 1 else length - 1))
            group.create_dataset("terminated", data=np.zeros(length, bool))
            group.create_dataset("truncated", data=np.zeros(length, bool))
    episodes = [
        {"episode_id": i, "episode_seed": 70 + i, "reset_kwargs": {"seed": 70 + i}, "elapsed_steps": length}
        for i, length in enumerate(lengths)
    ]
    kwargs = {"obs_mode": "rgbd", "control_mode": "pd_ee_delta_pos", "robot_uids": "panda"}
    info = {"env_id": "StackCube-v1", "max_episode_steps": 50, "env_kwargs": kwargs}
    path.with_suffix(".json").write_text(json.dumps({"env_info": info, "episodes": episodes}))
    return path


def write_replay_buffer(path, lengths=LENGTHS, *, white=255.0):
    """A folder, or a zip where the name says so; pictures are floats, as PushT's are, up to ``white``."""
    store = ZipStore(path, mode="w") if path.suffix == ".zip" else LocalStore(path)
    group = zarr.open_group(store, mode="w", zarr_format=2)
    data, meta = group.create_group("data"), group.create_group("meta")
    parts = [vectors(index, length) for index, length in enumerate(lengths)]
    shown = np.concatenate([pictures(index, length) for index, length in enumerate(lengths)])
    fields = {
        "img": (shown * (white / 255)).astype(np.float32),
        "state": np.concatenate([position for _, position, _ in parts]).astype(np.float32),
        "action": np.concatenate([actions for actions, _, _ in parts]).astype(np.float32),
        "timestamp": np.concatenate([np.arange(length) * 0.1 + 100 for length in lengths]),
    }
    for key, value in fields.items():
        chunks = (5, *value.shape[1:])
        data.create_array(key, shape=value.shape, dtype=value.dtype, chunks=chunks)[:] = value
    ends = np.cumsum(lengths).astype(np.int64)
    meta.create_array("episode_ends", shape=ends.shape, dtype=ends.dtype, compressors=None)[:] = ends
    store.close()
    return path
