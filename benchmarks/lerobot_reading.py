"""How many training windows a second LeRobot's own reader gives; run by an interpreter that has LeRobot.

``lerobot_reading.py FOLDER HORIZON BATCH STEPS SEED`` prints one number. Batches are of random frames, collated by
torch's own DataLoader in this process, as with ``num_workers`` 0.
"""

import sys
import time
from pathlib import Path

import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from torch.utils.data import DataLoader


def main(folder: Path, horizon: int, batch: int, steps: int, seed: int) -> None:
    torch.set_num_threads(1)
    fps = LeRobotDataset("nobody/none", root=folder, video_backend="pyav").fps
    windows = {"action": [step / fps for step in range(horizon)]}
    dataset = LeRobotDataset("nobody/none", root=folder, delta_timestamps=windows, video_backend="pyav")
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed)).tolist()
    frames = (order * (1 + (steps + 1) * batch // len(order)))[: (steps + 1) * batch]
    batches = iter(DataLoader(dataset, batch_size=batch, sampler=frames))
    next(batches)
    start = time.perf_counter()
    for _ in range(steps):
        next(batches)
    print(steps * batch / (time.perf_counter() - start))


if __name__ == "__main__":
    folder, *numbers = sys.argv[1:]
    main(Path(folder), *map(int, numbers))
