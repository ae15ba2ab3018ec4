"""Say what works on this machine, what does not, and how to mend it."""

from dataclasses import asdict, dataclass
from pathlib import Path

from configs.run_directory import OUTPUTS
from vla.strict_json import strict_json

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to look, and how to say what was found."""

    json: bool = False
    """Print the findings for programs."""
    render_timeout_s: float = 60.0
    """Seconds after which a driver that draws nothing counts as hung."""
    outputs: Path = OUTPUTS
    """Folder that is to hold the runs: can it be written to, and is there room?"""

    def __post_init__(self) -> None:
        if not self.render_timeout_s > 0:
            raise ValueError(f"render_timeout_s must be positive, got {self.render_timeout_s}")


def run(config: Config) -> int:
    """Print every finding; 1 if something essential fails, else 0."""
    from configs.doctor import diagnose

    findings = diagnose(config.outputs, config.render_timeout_s)
    healthy = all(finding.level != "fail" for finding in findings)
    if config.json:
        print(strict_json({"healthy": healthy, "findings": [asdict(finding) for finding in findings]}, indent=2))
        return 0 if healthy else 1

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "what", "found", "to mend or add"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        level = Text(finding.level, style=STYLES[finding.level])
        table.add_row(level, finding.name, Text(finding.found), Text(finding.mend))
    Console().print(table)
    return 0 if healthy else 1
