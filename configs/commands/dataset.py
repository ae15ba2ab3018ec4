"""Look into a demonstration dataset, check it, edit it, or exchange data with other projects.

Episodes are numbered from 0 in the order of recording; when some are removed the others close up. vla collect does not
record a removed seed again, nor, into one half of a split, a seed of the other half. Recorded actions are what the
expert meant; where a dataset was recorded with noise, as by default, they do not repeat the episode when they are
played back open-loop (the noise of a seed and step, policies.collect.ExecutionNoise.at, makes them do so exactly).
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from configs import editing
from configs.checking import check, print_statistics
from configs.exchange import ConvertTo, Pictures, convert, describe
from vla.strict_json import strict_json

if TYPE_CHECKING:
    from policies.data.dataset import DemonstrationDataset


Action = Literal[
    "info",
    "stats",
    "check",
    "viz",
    "remove",
    "delete",
    "split",
    "filter",
    "merge",
    "convert",
    "describe",
    "corrections",
]
SETTINGS: dict[str, tuple[str, ...]] = {
    "info": ("json", "verify"),
    "stats": ("json",),
    "check": ("json", "report"),
    "viz": ("episodes", "out", "sheet_frames", "in_3d", "frame"),
    "remove": ("episodes",),
    "delete": ("episodes",),
    "split": ("into", "share", "seed", "tasks"),
    "filter": ("others", "tasks", "success", "min_frames", "max_frames", "instruction", "actor"),
    "merge": ("others", "into"),
    "convert": ("others", "to", "pictures", "embodiment"),
    "describe": ("out",),
    "corrections": ("others",),
}
"""What each action heeds."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to do with which dataset."""

    action: Annotated[Action, tyro.conf.Positional]
    """info: print what the dataset holds, what failed, and all that made it. stats: what every dimension ranges over,
    how long episodes are, how bright what each camera sees. check: look for what ruins policies; the exit status is 1
    where anything is found. viz: film episodes, an mp4 and a contact sheet each, or write one frame of each in 3-D.
    remove, or delete: take episodes out, for good. split: copy its episodes into two new datasets. filter: copy those
    that are wanted into a new one. merge: copy those of several datasets into a new one. convert: write it in LeRobot's
    format, or a dataset of LeRobot, robomimic, ManiSkill or diffusion_policy in ours. describe: guess what one of
    theirs does not say of its robot. corrections: copy what a person did in episodes of vla run into a new one."""
    path: Annotated[Path, tyro.conf.Positional]
    """The dataset's folder; convert and describe: also the HDF5 or .zarr.zip file of another format."""
    others: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """convert, filter, corrections: the new dataset's folder. merge: the further datasets."""
    json: bool = False
    """info, stats, check: print for programs."""
    report: Path | None = None
    """check: also write an HTML page with pictures of what was found to this file."""
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
    """split: the two new datasets' folders. merge: the new one's."""
    share: float | None = None
    """split: the share of each task's episodes that goes into the first folder, drawn by seed; the rest goes into the
    second."""
    seed: int = 0
    """split: draws the share."""
    tasks: tuple[str, ...] = ()
    """split: instead of a share, the tasks whose episodes go into the first folder. filter: the tasks that are
    wanted."""
    success: bool | None = None
    """filter: only episodes that succeeded (--success True), or that failed (--success False)."""
    min_frames: int = 1
    """filter: only episodes of at least so many frames."""
    max_frames: int = 0
    """filter: only episodes of at most so many frames; 0 for any number."""
    instruction: str = ""
    """filter: only episodes whose instruction has this text in it, whatever the case."""
    actor: str = ""
    """filter: only episodes in which this one acted (policy, human, held), where the dataset says who did."""
    to: ConvertTo | None = None
    """convert: the format; by default lerobot-v3 for one of our datasets, and zarr (ours) for any other.
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
        if self.action in ("remove", "delete") and not self.episodes:
            raise ValueError(f"name the episodes to {self.action}: --episodes 3 7")
        if self.action == "split" and (len(set(self.into)) != 2 or (self.share is None) == (not self.tasks)):
            raise ValueError(
                "a split needs two folders and either a share or tasks: --into A B --share 0.9, or --into A B --tasks "
                f"pick; got into {[str(path) for path in self.into]}, share {self.share}, tasks {list(self.tasks)}"
            )
        if self.action in ("convert", "filter", "corrections") and len(self.others) != 1:
            what = {"convert": "a conversion", "filter": "a filter", "corrections": "a copy of corrections"}[
                self.action
            ]
            raise ValueError(f"{what} needs two folders: vla dataset {self.action} FROM TO")
        if self.action == "merge" and (not self.others or len(self.into) != 1):
            raise ValueError("a merger needs two datasets or more, and a new folder: vla dataset merge A B --into C")
        if self.seed and self.tasks:
            raise ValueError(f"the seed draws a share, got seed {self.seed} with tasks {list(self.tasks)}")


def run(config: Config) -> int:
    """Do what was asked; ``DatasetError`` names what is damaged."""
    from policies.data.dataset import DemonstrationDataset

    if config.action == "convert":
        (target,) = config.others
        return convert(config.path, target, to=config.to, pictures=config.pictures, robot_file=config.embodiment)
    if config.action == "describe":
        return describe(config.path, config.out)
    if config.action in ("remove", "delete"):
        return editing.remove(config.path, config.episodes)
    dataset = DemonstrationDataset(config.path)
    if config.action == "split":
        return editing.split(dataset, config.into, config.share, config.seed, config.tasks)
    if config.action == "filter":
        names = ("tasks", "success", "min_frames", "max_frames", "instruction", "actor")
        return editing.keep(dataset, config.others[0], {name: getattr(config, name) for name in names})
    if config.action == "corrections":
        return editing.corrections(dataset, config.others[0])
    if config.action == "merge":
        return editing.join([dataset, *map(DemonstrationDataset, config.others)], config.into[0])
    if config.action == "stats":
        return print_statistics(dataset, config.json)
    if config.action == "check":
        return check(dataset, config.json, config.report)
    return _film(config, dataset) if config.action == "viz" else _inform(config, dataset)


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
