"""Datasets brought in from other formats, and into LeRobot's: what ``vla dataset convert`` and ``describe`` do."""

from pathlib import Path
from typing import Literal

from policies.progress import counting

ConvertTo = Literal["lerobot-v3", "lerobot-v2.1", "zarr"]
Pictures = Literal["video", "png"]


def convert(
    source: Path, target: Path, *, to: ConvertTo | None, pictures: Pictures | None, robot_file: Path | None
) -> int:
    """Write the dataset at ``source`` anew at ``target``; ``ValueError`` for what does not go together."""
    from policies.data.sources.opening import is_foreign

    ours = not is_foreign(source)
    to = to or ("lerobot-v3" if ours else "zarr")
    if ours and to == "zarr":
        raise ValueError(f"{source} is no dataset of another format, so there is nothing to bring to zarr")
    if not ours and to != "zarr":
        raise ValueError(f"{source} is no dataset of ours: convert it to zarr, and that to {to}")
    if to == "zarr" and pictures:
        raise ValueError("pictures says how LeRobot's files hold them; zarr holds them in one way only")
    if to != "zarr" and robot_file:
        raise ValueError(f"{source} says its embodiment itself: leave --embodiment out")
    return _read(source, target, robot_file) if to == "zarr" else _write(source, target, to, pictures or "video")


def describe(source: Path, out: Path | None) -> int:
    """Print a draft of the robot's file of the foreign dataset at ``source``, or write it to ``out``."""
    from policies.data.sources.guessing import describe as guess
    from policies.data.sources.opening import open_source
    from vla.durable import write_text_atomically

    if out and out.exists():
        raise FileExistsError(f"{out} exists: choose another file, or delete it")
    dataset = open_source(source)
    with counting("describe", len(dataset), show=out is not None) as done:
        text = guess(dataset, done)
    if out is None:
        print(text, end="")
    else:
        write_text_atomically(out, text)
        for line in (line for line in text.splitlines() if "# guessed: " in line):
            print(line)
        print(f"{out}: look through what is marked as guessed")
    return 0


def _write(source: Path, target: Path, to: ConvertTo, pictures: Pictures) -> int:
    from policies.data.dataset import DemonstrationDataset
    from policies.data.sources.opening import need

    need("lerobot", "LeRobot's format", ("pyarrow", "av"))
    from policies.data.lerobot.conversion import to_lerobot

    dataset = DemonstrationDataset(source)
    with counting("convert", len(dataset)) as done:
        to_lerobot(dataset, target, "v3.0" if to == "lerobot-v3" else "v2.1", pictures, done)
    print(f"{target}: {len(dataset)} episodes, {dataset.num_frames} frames")
    return 0


def _read(source: Path, target: Path, robot_file: Path | None) -> int:
    from policies.data.sources.conversion import take_in
    from policies.data.sources.opening import is_lerobot, open_source
    from policies.data.sources.robot_file import RobotFile

    robot = None if robot_file is None else RobotFile.read(robot_file)
    dataset = open_source(source)
    with counting("convert", len(dataset)) as done:
        if robot is not None:
            report = take_in(dataset, target, robot, done)
        elif is_lerobot(source):
            from policies.data.lerobot.conversion import to_store
            from policies.data.lerobot.reading import LeRobotDataset

            report = to_store(LeRobotDataset(source), target, None, done)
        else:
            raise ValueError(
                f"{source} does not say its robot's bounds, units and signs: have them guessed with vla dataset "
                f"describe {source} --out ROBOT.toml, look the guesses through, and give --embodiment ROBOT.toml"
            )
    print(f"{target}: {report.episodes} episodes, {report.frames} frames")
    if report.not_taken:
        print(f"not taken: {', '.join(report.not_taken)}")
    if report.frames_beyond:
        print(f"{report.frames_beyond} frames have actions beyond {robot_file}'s bounds, first {report.first_beyond}")
    return 0
