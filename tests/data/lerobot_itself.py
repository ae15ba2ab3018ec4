"""What LeRobot's own code makes of a dataset, and a dataset that it writes; run by an interpreter that has LeRobot.

``lerobot_itself.py read FOLDER FILE.npz`` keeps every frame with windows, ``write FOLDER`` records two episodes.
"""

import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FPS = 10
WINDOWS = {"action": [0.0, 0.1, 0.2], "observation.state": [-0.1, 0.0]}


def read(folder, out):
    dataset = LeRobotDataset("nobody/none", root=folder, delta_timestamps=WINDOWS, video_backend="pyav")
    frames = [dataset[index] for index in range(len(dataset))]
    keys = [key for key in frames[0] if key != "task"]
    arrays = {key: np.stack([frame[key].numpy() for frame in frames]) for key in keys}
    stats = {f"stats/{key}/{name}": array for key, s in dataset.meta.stats.items() for name, array in s.items()}
    second = LeRobotDataset("nobody/none", root=folder, episodes=[1], video_backend="pyav")
    np.savez(out, task=[frame["task"] for frame in frames], second_episode=len(second), **arrays, **stats)


def picture(frame):
    y, x = np.mgrid[:24, :32]
    return np.stack([x * 7 + frame, y * 9, 200 - 3 * x - frame * 5], -1).astype(np.uint8)


def write(folder):
    vector = {"dtype": "float32", "shape": (2,), "names": ["shoulder.pos", "gripper.pos"]}
    image = {"shape": (24, 32, 3), "names": ["height", "width", "channels"]}
    features = {
        "observation.state": vector,
        "action": vector,
        "observation.images.top": {"dtype": "video", **image},
        "observation.images.side": {"dtype": "image", **image},
    }
    dataset = LeRobotDataset.create("nobody/none", FPS, features, root=folder, robot_type="so100", use_videos=True)
    for episode, length in enumerate((6, 9)):
        for frame in range(length):
            numbers = np.array([episode + frame / 10, 100 - frame], np.float32)
            pictures = {f"observation.images.{camera}": picture(frame + 10 * episode) for camera in ("top", "side")}
            dataset.add_frame({"observation.state": numbers, "action": numbers + 1, **pictures, "task": "Push it!"})
        dataset.save_episode()
    dataset.finalize()


if __name__ == "__main__":
    verb, *paths = sys.argv[1:]
    {"read": read, "write": write}[verb](*map(Path, paths))
