"""Datasets exchanged with LeRobot: what ``vla dataset convert`` and ``vla dataset describe`` do."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

ConvertTo = Literal["lerobot-v3", "lerobot-v2.1", "zarr"]
Pictures = Literal["video", "png"]


def convert(
    source: Path, target: Path, *, to: ConvertTo | None, pictures: Pictures | None, robot_file: Path | None
) -> int:
    """Write the dataset at ``source`` anew at ``target``; ``ValueError`` for what does not go together."""
    _need_lerobot()
    ours = not (source / "meta" / "info.json").is_file()
    to = to or ("lerobot-v3" if ours else "zarr")
    if ours and to == "zarr":
        raise ValueError(f"{source} is no LeRobot dataset, so there is nothing to bring to zarr")
    if not ours and to != "zarr":
        raise ValueError(f"{source} is LeRobot's already: convert it to zarr, and that to {to}")
    if to == "zarr" and pictures:
        raise ValueError("pictures says how LeRobot's files hold them; zarr holds them in one way only")
    if to != "zarr" and robot_file:
        raise ValueError(f"{source} says its embodiment itself: leave --embodiment out")
    return _read(source, target, robot_file) if to == "zarr" else _write(source, target, to, pictures or "video")


def describe(source: Path, out: Path | None) -> int:
    """Print a draft of the robot's file of the LeRobot dataset at ``source``, or write it to ``out``."""
    _need_lerobot()
    from policies.data.lerobot.guessing import describe as guess
    from policies.data.lerobot.reading import LeRobotDataset
    from vla.durable import write_text_atomically

    if out and out.exists():
        raise FileExistsError(f"{out} exists: choose another file, or delete it")
    dataset = LeRobotDataset(source)
    with _bar("describe", len(dataset.episodes), out is not None) as done:
        text = guess(dataset, done)
    if out is None:
        print(text, end="")
    else:
        write_text_atomically(out, text)
        print(f"{out}: look through what is marked as guessed")
    return 0


def _write(source: Path, target: Path, to: ConvertTo, pictures: Pictures) -> int:
    from policies.data.dataset import DemonstrationDataset
    from policies.data.lerobot.conversion import to_lerobot

    dataset = DemonstrationDataset(source)
    with _bar("convert", len(dataset)) as done:
        to_lerobot(dataset, target, "v3.0" if to == "lerobot-v3" else "v2.1", pictures, done)
    print(f"{target}: {len(dataset)} episodes, {dataset.num_frames} frames")
    return 0


def _read(source: Path, target: Path, robot_file: Path | None) -> int:
    from policies.data.lerobot.conversion import to_store
    from policies.data.lerobot.reading import LeRobotDataset
    from policies.data.lerobot.robot_file import RobotFile

    robot = None if robot_file is None else RobotFile.read(robot_file)
    dataset = LeRobotDataset(source)
    with _bar("convert", len(dataset.episodes)) as done:
        report = to_store(dataset, target, robot, done)
    print(f"{target}: {len(dataset.episodes)} episodes, {sum(place.length for place in dataset.episodes)} frames")
    if report.not_taken:
        print(f"not taken: {', '.join(report.not_taken)}")
    if report.frames_beyond:
        print(f"{report.frames_beyond} frames have actions beyond {robot_file}'s bounds, first {report.first_beyond}")
    return 0


@contextmanager
def _bar(what: str, episodes: int, show: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar, moved by the number of episodes that are done."""
    from policies.progress import progress_bar

    with progress_bar(show) as progress:
        bar = progress.add_task(what, total=episodes, note="episodes")
        yield lambda done: progress.update(bar, completed=done)


def _need_lerobot() -> None:
    if missing := [name for name in ("pyarrow", "av") if importlib.util.find_spec(name) is None]:
        raise ModuleNotFoundError(
            f"LeRobot's format needs {' and '.join(missing)}: pip install 'vla-stack[lerobot]'", name=missing[0]
        )
