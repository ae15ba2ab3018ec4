"""Speed and size of the demonstration store: appending, opening, loading, sampling windows.

Pictures are drawn, not rendered: a still checkered table with one disc that moves, seen by two
cameras, with noise of ±1 grey level in the ``noisy`` row, as from a real camera. The figures
that a simulator's own pictures give are printed by ``vla dataset info``.

Where ``VLA_LEROBOT_PYTHON`` names the Python of an environment with LeRobot, a second table has its own reader beside
ours, in turns on the same episodes, which ``vla dataset convert`` wrote for it: windows of one moment's pictures and
the actions after it, random frames, one process and one thread. Ours are made what LeRobot's are: float32, 0 … 1,
channels first.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from report import home_path, print_table, write_json

from configs.terminal import ending_with_the_reader
from envs.specs import CameraSpec, Dimension, EmbodimentSpec
from policies.data.dataset import DemonstrationDataset
from policies.data.episode import Episode
from policies.data.windows import WindowConfig
from policies.data.writer import DemonstrationWriter

FRAMES = 60
BATCH = 64
HORIZON = 8
SEED = 0
LEROBOT_PYTHON = "VLA_LEROBOT_PYTHON"
LEROBOT_STEPS = 6
TURNS = 3


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table."""

    name: str
    size_px: int
    depth: bool = False
    noisy: bool = False


CASES = (
    Case(name="2 × RGB 64 px", size_px=64),
    Case(name="2 × RGB-D 64 px", size_px=64, depth=True),
    Case(name="2 × RGB 64 px, noisy", size_px=64, noisy=True),
    Case(name="2 × RGB 128 px", size_px=128),
)
BESIDE = CASES[-1]
"""What LeRobot's reader is tried on too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=100, help=f"episodes of {FRAMES} frames per store")
    parser.add_argument(
        "--json", type=home_path, help="also write the figures, with machine and versions, to this file"
    )
    parser.add_argument("--beside-only", action="store_true", help="print the table beside LeRobot's reader alone")
    options = parser.parse_args()
    cases = () if options.beside_only else CASES
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(case, Path(folder) / str(index), options.episodes) for index, case in enumerate(cases)]
    if rows:
        print_table(rows)
    beside = beside_lerobot(options.episodes) if os.environ.get(LEROBOT_PYTHON) else []
    if beside:
        print()
        print_table(beside)
    else:
        print(f"{LEROBOT_PYTHON} names no Python with LeRobot, so its reader is not beside ours", file=sys.stderr)
    if options.json:
        write_json(options.json, "data", {"rows": rows, "beside_lerobot": beside}, seeds=[SEED])


def measure(case: Case, path: Path, episodes: int) -> dict[str, str | float]:
    """Record a store of this case, read it back in every way; one row of figures."""
    embodiment = make_embodiment(case)
    recorded = [make_episode(case, embodiment, index) for index in range(8)]
    with DemonstrationWriter.create(path, embodiment) as writer:
        append_s = seconds(lambda: [writer.append(recorded[index % 8]) for index in range(episodes)])
    open_s = seconds(lambda: DemonstrationDataset(path))
    dataset = DemonstrationDataset(path)
    info = dataset.info()
    memory = WindowConfig(horizon=HORIZON, depth=case.depth, cache="memory")
    load_s = seconds(lambda: memory.build(dataset))
    return {
        "case": case.name,
        "episodes appended per s": round(episodes / append_s, 1),
        "bytes per frame": round(info["stored_bytes"] / info["frames"]),
        "decoded bytes per frame": round(info["decoded_bytes"] / info["frames"]),
        "open s": round(open_s, 3),
        "load MB/s": round(info["decoded_bytes"] / load_s / 1e6),
        "batches/s memory": round(batches_per_s(dataset, memory, steps=200), 1),
        "batches/s decoded": round(
            batches_per_s(dataset, WindowConfig(horizon=HORIZON, depth=case.depth, cache="decoded"), steps=50), 1
        ),
        "batches/s disk": round(
            batches_per_s(dataset, WindowConfig(horizon=HORIZON, depth=case.depth, cache="disk"), steps=10), 1
        ),
    }


def beside_lerobot(episodes: int) -> list[dict[str, str | float]]:
    """Windows per second of LeRobot's reader and of ours, from files of videos and of PNGs."""
    from policies.data.lerobot.conversion import to_lerobot

    case, rows = BESIDE, []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        embodiment = make_embodiment(case)
        with DemonstrationWriter.create(store, embodiment) as writer:
            for index in range(episodes):
                writer.append(make_episode(case, embodiment, index))
        dataset = DemonstrationDataset(store)
        for name, pictures in (("videos", "video"), ("PNG files", "png")):
            to_lerobot(dataset, Path(folder) / pictures, "v3.0", pictures)
            rows.append(compare(dataset, Path(folder) / pictures, f"{case.name}, LeRobot's pictures as {name}"))
    return rows


def compare(dataset: DemonstrationDataset, lerobot: Path, name: str) -> dict[str, str | float]:
    """The better of ``TURNS`` of each reader, in turns."""
    caches = ("disk", "decoded", "memory")
    found: dict[str, list[float]] = {reader: [] for reader in ("LeRobot", *caches)}
    for _ in range(TURNS):
        found["LeRobot"].append(lerobot_windows_per_s(lerobot))
        for cache in caches:
            config = WindowConfig(horizon=HORIZON, cache=cache)
            found[cache].append(BATCH * batches_per_s(dataset, config, steps=10, as_floats=True))
    best = {reader: max(rates) for reader, rates in found.items()}
    row: dict[str, str | float] = {"case": name, "LeRobot windows/s": round(best["LeRobot"], 1)}
    for cache in caches:
        row |= {f"ours, {cache}": round(best[cache], 1), f"{cache}: times": round(best[cache] / best["LeRobot"], 1)}
    return row


def lerobot_windows_per_s(folder: Path) -> float:
    """What LeRobot's own reader does; ``RuntimeError`` with its message where it fails."""
    numbers = map(str, (HORIZON, BATCH, LEROBOT_STEPS, SEED))
    script = Path(__file__).with_name("lerobot_reading.py")
    environment = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder.parent / "cache"), "OMP_NUM_THREADS": "1"}
    command = [os.environ[LEROBOT_PYTHON], str(script), str(folder), *numbers]
    environment |= {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"LeRobot's reader failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def batches_per_s(dataset: DemonstrationDataset, config: WindowConfig, steps: int, as_floats: bool = False) -> float:
    """Batches of ``BATCH`` windows per second, with pictures as they are stored or float32 and channels first."""
    windows = config.build(dataset)

    def read(step: int) -> object:
        batch = windows.batch(SEED, step, BATCH)
        return batch.images.movedim(-1, -3).float().div(255).contiguous() if as_floats else batch

    read(0)
    return steps / seconds(lambda: [read(step) for step in range(1, steps + 1)])


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def make_embodiment(case: Case) -> EmbodimentSpec:
    """An arm with 8 state and 7 action numbers and two cameras."""
    return EmbodimentSpec(
        name="benchmark",
        control_rate_hz=10.0,
        state=tuple(Dimension(name=f"s{i}", unit="m", low=-1.0, high=1.0) for i in range(8)),
        action=tuple(Dimension(name=f"a{i}", unit="m", low=-1.0, high=1.0) for i in range(7)),
        cameras=tuple(
            CameraSpec(name=name, height_px=case.size_px, width_px=case.size_px, depth=case.depth)
            for name in ("front", "wrist")
        ),
    )


def make_episode(case: Case, embodiment: EmbodimentSpec, index: int) -> Episode:
    """An episode in which the disc starts elsewhere for every index."""
    rng = np.random.default_rng((SEED, index))
    images, depth = {}, {}
    for camera in embodiment.cameras:
        disc = draw_disc(rng, case.size_px)
        images[camera.name] = np.where(disc[..., None], np.uint8([220, 40, 40]), draw_table(case.size_px))
        if case.noisy:
            images[camera.name] += rng.integers(0, 3, images[camera.name].shape, dtype=np.uint8)
        if camera.depth:
            slope = np.linspace(1.2, 0.6, case.size_px, dtype=np.float32)[:, None]
            depth[camera.name] = np.where(disc, slope - 0.05, slope).astype(np.float32)
    return Episode(
        images=images,
        depth=depth,
        state=rng.normal(size=(FRAMES, 8)).astype(np.float32),
        actions=rng.normal(size=(FRAMES, 7)).astype(np.float32),
        instruction="pick up the red disc",
        task="pick",
        success=True,
        seed=index,
    )


def draw_table(size_px: int) -> np.ndarray:
    """A checkered table, lit from one side: uint8 ``(h, w, 3)``."""
    rows, columns = np.mgrid[:size_px, :size_px]
    checker = ((rows * 8 // size_px + columns * 8 // size_px) % 2) * 40
    shade = 80 + 60 * rows / size_px + 20 * np.sin(columns / size_px * 3)
    return np.stack([checker + shade, checker + shade * 0.9, checker + shade * 1.1], axis=-1).astype(np.uint8)


def draw_disc(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Where a disc that crosses the picture is seen: bool ``(t, h, w)``."""
    start, end = rng.uniform(0.2, 0.8, (2, 2)) * size_px
    centre = start + np.linspace(0, 1, FRAMES)[:, None] * (end - start)
    rows, columns = np.mgrid[:size_px, :size_px]
    return np.hypot(rows - centre[:, :1, None], columns - centre[:, 1:, None]) < size_px / 10


if __name__ == "__main__":
    torch.set_num_threads(1)
    with ending_with_the_reader():
        main()
