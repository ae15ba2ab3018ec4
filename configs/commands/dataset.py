"""Look into a demonstration dataset: what it holds, how large it is, how it was made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to do with which dataset."""

    action: Annotated[Literal["info"], tyro.conf.Positional]
    """info: print what the dataset holds."""
    path: Annotated[Path, tyro.conf.Positional]
    """The dataset's folder."""
    json: bool = False
    """Print for programs."""
    verify: bool = False
    """Also decode every chunk and compare its checksum."""


def run(config: Config) -> int:
    """Print the dataset's summary; ``DatasetError`` names what is damaged."""
    from policies.data.dataset import DemonstrationDataset

    dataset = DemonstrationDataset(config.path)
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
