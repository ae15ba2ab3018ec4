"""Look into a demonstration dataset, take episodes out of it, make two of it, or exchange data with LeRobot.

Episodes are numbered from 0 in the order of recording; when some are removed the others close up. vla collect does not
record a removed seed again, nor, into one half of a split, a seed of the other half. Recorded actions are what the
expert meant; where a dataset was recorded with noise, as by default, they do not repeat the episode when they are
played back open-loop (the noise of a seed and step, policies.collect.ExecutionNoise.at, makes them do so exactly).
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from configs.exchange import ConvertTo, Pictures, convert, describe
from vla.strict_json import strict_json

if TYPE_CHECKING:
    from policies.data.dataset import DemonstrationDataset


SETTINGS = {
    "info": ("json", "verify"),
    "viz": ("episodes", "out", "sheet_frames", "in_3d", "frame"),
    "remove": ("episodes",),
    "split": ("into", "share", "seed", "tasks"),
    "convert": ("target", "to", "pictures", "embodiment"),
    "describe": ("out",),
    "corrections": ("target",),
}
"""What each action heeds."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to do with which dataset."""

    action: Annotated[
        Literal["info", "viz", "remove", "split", "convert", "describe", "corrections"], tyro.conf.Positional
    ]
    """info: print what the dataset holds, what failed, and all that made it. viz: film episodes, an mp4 and a contact
    sheet each, or write one frame of each in 3-D. remove: take episodes out, for good. split: copy its episodes into
    two new datasets. convert: write it in LeRobot's format, or one of LeRobot's in ours. describe: guess what one of
    LeRobot's does not say of its robot. corrections: copy what a person did in episodes of vla run into a new one."""
    path: Annotated[Path, tyro.conf.Positional]
    """The dataset's folder."""
    target: Annotated[Path | None, tyro.conf.Positional] = None
    """convert, corrections: the new dataset's folder."""
    json: bool = False
    """info: print for programs."""
    verify: bool = False
    """info: also decode every chunk, which compares its checksum."""
    episodes: tuple[int, ...] = ()
    """viz, remove: which episodes, by their numbers; viz films the first of every task by default."""
    out: Path | None = None
    """viz: the folder to write to; by default the dataset's folder renders. describe: the file; by default it is
    printed."""
    sheet_frames: int = 8
    """viz: frames on a contact sheet."""
    in_3d: Annotated[Literal["cloud", "mesh"] | None, tyro.conf.arg(name="3d")] = None
    """viz: instead of films, what the RGB-D cameras saw in one frame of each episode, as a PLY file: its points, or the
    surface that Open3D makes of them."""
    frame: int = 0
    """viz: the frame that --3d shows."""
    into: tuple[Path, ...] = ()
    """split: the two new datasets' folders."""
    share: float | None = None
    """split: the share of each task's episodes that goes into the first folder, drawn by seed; the rest goes into the
    second."""
    seed: int = 0
    """split: draws the share."""
    tasks: tuple[str, ...] = ()
    """split: instead of a share, the tasks whose episodes go into the first folder."""
    to: ConvertTo | None = None
    """convert: the format; by default lerobot-v3 for one of our datasets, and zarr (ours) for one of LeRobot's.
    lerobot-v2.1 is what GR00T reads."""
    pictures: Pictures | None = None
    """convert to lerobot: video, H.264 files, the default; or png, inside the data files, which loses nothing and
    takes more room."""
    embodiment: Path | None = None
    """convert to zarr: a TOML file that says what the data do not of the robot's bounds, units and signs; describe
    makes a draft of it. What vla dataset convert wrote says it itself."""

    def __post_init__(self) -> None:
        heeded = SETTINGS[self.action]
        for setting in fields(self):
            if setting.name not in ("action", "path", *heeded) and getattr(self, setting.name) != setting.default:
                raise ValueError(f"dataset {self.action} has no {setting.name}; it has {', '.join(heeded)}")
        if self.sheet_frames < 1:
            raise ValueError(f"sheet_frames must be at least 1, got {self.sheet_frames}")
        if self.action == "remove" and not self.episodes:
            raise ValueError("name the episodes to remove: --episodes 3 7")
        if self.action == "split" and (len(set(self.into)) != 2 or (self.share is None) == (not self.tasks)):
            raise ValueError(
                "a split needs two folders and either a share or tasks: --into A B --share 0.9, or --into A B --tasks "
                f"pick; got into {[str(path) for path in self.into]}, share {self.share}, tasks {list(self.tasks)}"
            )
        if self.action == "convert" and self.target is None:
            raise ValueError("a conversion needs two folders: vla dataset convert FROM TO")
        if self.action == "corrections" and self.target is None:
            raise ValueError("corrections need two folders: vla dataset corrections FROM TO")
        if self.seed and self.tasks:
            raise ValueError(f"the seed draws a share, got seed {self.seed} with tasks {list(self.tasks)}")


def run(config: Config) -> int:
    """Do what was asked; ``DatasetError`` names what is damaged."""
    from policies.data.dataset import DemonstrationDataset

    if config.action == "convert" and config.target:
        return convert(config.path, config.target, to=config.to, pictures=config.pictures, robot_file=config.embodiment)
    if config.action == "describe":
        return describe(config.path, config.out)
    if config.action == "remove":
        return _remove(config)
    dataset = DemonstrationDataset(config.path)
    if config.action == "corrections" and config.target:
        return _corrections(dataset, config.target)
    return {"viz": _film, "split": _split, "info": _inform}[config.action](config, dataset)


def _remove(config: Config) -> int:
    from policies.data.writer import DemonstrationWriter

    with DemonstrationWriter.open(config.path) as writer:
        writer.remove(config.episodes)
        print(f"{config.path}: {len(set(config.episodes))} removed, {len(writer)} left, numbered from 0")
    return 0


def _split(config: Config, dataset: "DemonstrationDataset") -> int:
    from policies.data.split import copy_part, deal, tasks_apart

    if taken := [str(path) for path in config.into if path.exists()]:
        raise FileExistsError(f"{taken} exist: choose other folders, or delete them")
    share = config.share
    parts = tasks_apart(dataset, config.tasks) if share is None else deal(dataset, share, config.seed)
    for target, numbers in zip(config.into, parts, strict=True):
        copy_part(dataset, numbers, target)
        print(f"{target}: {len(numbers)} episodes")
    return 0


def _corrections(dataset: "DemonstrationDataset", target: Path) -> int:
    from policies.data.corrections import copy_corrections

    count, frames = copy_corrections(dataset, target)
    print(f"{target}: {count} corrections, {frames} frames")
    return 0


def _film(config: Config, dataset: "DemonstrationDataset") -> int:
    from configs.filming import RENDERS, Film, film_episode
    from policies.showing.film import require_av

    chosen = config.episodes or _first_of_each_task(dataset)
    if not chosen or not set(chosen) <= set(range(len(dataset))):
        there = f"holds episodes 0…{len(dataset) - 1}" if len(dataset) else "holds no episodes yet"
        raise ValueError(f"{config.path} {there}, asked to film {list(chosen)}")
    folder = config.out or config.path / RENDERS
    if config.in_3d is not None:
        for index in dict.fromkeys(chosen):
            print(_write_3d(config, dataset, index, folder))
        return 0
    require_av()
    for index in dict.fromkeys(chosen):
        film = Film.named(folder, f"episode-{index:06d}-{dataset.records[index].task}")
        film_episode(dataset.episode(index), film, dataset.embodiment.control_rate_hz, config.sheet_frames)
        print(film)
    return 0


def _write_3d(config: Config, dataset: "DemonstrationDataset", index: int, folder: Path) -> Path:
    from policies.showing.clouds import fused_frame, surface_frame, write_ply

    made = (fused_frame if config.in_3d == "cloud" else surface_frame)(dataset.episode(index), config.frame)
    task = dataset.records[index].task.replace("/", "-")
    path = folder / f"episode-{index:06d}-{task}-frame-{config.frame:04d}-{config.in_3d}.ply"
    folder.mkdir(parents=True, exist_ok=True)
    write_ply(path, *made)
    return path


def _first_of_each_task(dataset: "DemonstrationDataset") -> tuple[int, ...]:
    first: dict[str, int] = {}
    for number, record in enumerate(dataset.records):
        first.setdefault(record.task, number)
    return tuple(first.values())


def _inform(config: Config, dataset: "DemonstrationDataset") -> int:
    if config.verify:
        dataset.verify()
    about = dataset.info() | ({"verified": True} if config.verify else {})
    if config.json:
        print(strict_json(about, indent=2))
    else:
        _print_tables(about)
    return 0


def _print_tables(about: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from policies.data.differences import flat

    console = Console(highlight=False)
    facts = Table.grid(Column(overflow="fold"), Column(overflow="fold"), padding=(0, 2))
    for name, value in about.items():
        if name.endswith("_bytes"):
            facts.add_row(name.removesuffix("_bytes"), f"{value / 2**20:.1f} MiB")
        elif not isinstance(value, dict):
            facts.add_row(name, f"{value:.1f}" if isinstance(value, float) else str(value))
    for part in ("left_out_seeds", "settings"):
        for name, value in flat(about[part], part).items():
            facts.add_row(name, strict_json(value, ensure_ascii=False))
    console.print(facts)

    tasks = Table("task", "episodes", "successes", box=None, pad_edge=False, header_style="bold")
    for name, counts in about["tasks"].items():
        tasks.add_row(name, str(counts["episodes"]), str(counts["successes"]))
    console.print("", tasks)

    fields = Table("field", "dtype", "shape", "stored", box=None, pad_edge=False, header_style="bold")
    for name, field in about["fields"].items():
        fields.add_row(
            name, field["dtype"], "×".join(map(str, field["shape"])), f"{field['stored_bytes'] / 2**20:.1f} MiB"
        )
    console.print("", fields)
