"""Look into a demonstration dataset: what it holds, how it was made, what its episodes look like."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from policies.data.dataset import DemonstrationDataset


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to do with which dataset."""

    action: Annotated[Literal["info", "viz"], tyro.conf.Positional]
    """info: print what the dataset holds. viz: film episodes, an mp4 and a contact sheet each."""
    path: Annotated[Path, tyro.conf.Positional]
    """The dataset's folder."""
    json: bool = False
    """info: print for programs."""
    verify: bool = False
    """info: also decode every chunk and compare its checksum."""
    episodes: tuple[int, ...] = ()
    """viz: which episodes; by default the first of every task."""
    out: Path | None = None
    """viz: the folder to write to; by default the dataset's folder renders."""
    sheet_frames: int = 8
    """viz: frames on a contact sheet."""

    def __post_init__(self) -> None:
        if self.sheet_frames < 1:
            raise ValueError(f"sheet_frames must be at least 1, got {self.sheet_frames}")


def run(config: Config) -> int:
    """Print the dataset's summary or film it; ``DatasetError`` names what is damaged."""
    from policies.data.dataset import DemonstrationDataset

    dataset = DemonstrationDataset(config.path)
    return _film(config, dataset) if config.action == "viz" else _inform(config, dataset)


def _film(config: Config, dataset: "DemonstrationDataset") -> int:
    from configs.filming import RENDERS, Film, film_episode
    from policies.data.film import require_av

    chosen = config.episodes or _first_of_each_task(dataset)
    if not chosen or not set(chosen) <= set(range(len(dataset))):
        there = f"holds episodes 0…{len(dataset) - 1}" if len(dataset) else "holds no episodes yet"
        raise ValueError(f"{config.path} {there}, asked to film {list(chosen)}")
    require_av()
    for index in dict.fromkeys(chosen):
        film = Film.named(config.out or config.path / RENDERS, f"episode-{index:06d}-{dataset.records[index].task}")
        film_episode(dataset.episode(index), film, dataset.embodiment.control_rate_hz, config.sheet_frames)
        print(film)
    return 0


def _first_of_each_task(dataset: "DemonstrationDataset") -> tuple[int, ...]:
    first: dict[str, int] = {}
    for record in dataset.records:
        first.setdefault(record.task, record.index)
    return tuple(first.values())


def _inform(config: Config, dataset: "DemonstrationDataset") -> int:
    if config.verify:
        dataset.verify()
    about = dataset.info() | ({"verified": True} if config.verify else {})
    if config.json:
        print(json.dumps(about, indent=2))
    else:
        _print_tables(about)
    return 0


def _print_tables(about: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in about.items():
        if name.endswith("_bytes"):
            facts.add_row(name.removesuffix("_bytes"), f"{value / 2**20:.1f} MiB")
        elif not isinstance(value, dict):
            facts.add_row(name, f"{value:.1f}" if isinstance(value, float) else str(value))
    for name, value in about["settings"].items():
        facts.add_row(f"settings.{name}", str(value))
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
