"""The page about what ``vla dataset check`` found: a table, and what the cameras saw where it was found."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from configs.report.document import FactsSection, PicturesSection, Section, TableSection, write_report
from envs.specs import image_key
from policies.data.checks.finding import Finding
from policies.data.dataset import DemonstrationDataset

SHOWN = 40
"""Findings that are shown in pictures, at most."""
ANOTHER = 1
"""Episodes apart: the picture of another one to compare with."""


def write_fault_report(path: Path, dataset: DemonstrationDataset, findings: Sequence[Finding]) -> None:
    """Write the page; ``DatasetError`` for pictures that cannot be decoded."""
    facts = {
        "dataset": str(dataset.path),
        "episodes": len(dataset),
        "frames": dataset.num_frames,
        "errors": sum(finding.severity == "error" for finding in findings),
        "warnings": sum(finding.severity == "warning" for finding in findings),
    }
    sections: list[Section] = [FactsSection(title="Checked", facts=facts)]
    if findings:
        rows = tuple((f.severity, f.check, _place(f), f.camera or "", f.what, f.remedy) for f in findings)
        header = ("", "check", "where", "camera", "what", "what to do")
        sections.append(TableSection(title="Found", header=header, rows=rows, numeric_from=len(header)))
    shown = [finding for finding in findings if finding.episode is not None][:SHOWN]
    sections += [_pictures(dataset, finding) for finding in shown if dataset.embodiment.cameras]
    lead = "What would spoil a policy that learns from these episodes." if findings else "Nothing wrong was found."
    write_report(path, f"Check of {dataset.path.name}", sections, lead)


def _place(finding: Finding) -> str:
    if finding.episode is None:
        return "all episodes"
    return f"episode {finding.episode}" + ("" if finding.frame is None else f", frame {finding.frame}")


def _pictures(dataset: DemonstrationDataset, finding: Finding) -> PicturesSection:
    """What was seen in the frames before, at and after the place; of an episode as a whole, at its beginning, in its
    middle and at its end; and the beginning of the next episode to compare with.
    """
    number = finding.episode or 0
    length = dataset.records[number].length
    if finding.frame is None or finding.frame == 0:
        frames = [0, length // 2, length - 1]
    else:
        frames = [frame for frame in range(finding.frame - 2, finding.frame + 3) if 0 <= frame < length]
    cameras = [finding.camera] if finding.camera and finding.frame else list(dataset.embodiment.camera_names)
    shown = [(number, frame, camera) for camera in cameras for frame in dict.fromkeys(frames)]
    if finding.frame is None or finding.frame == 0:
        shown += [((number + ANOTHER) % len(dataset), 0, camera) for camera in cameras]
    return PicturesSection(
        title=f"{finding.check}: {_place(finding)}",
        note=f"{finding.what}. {finding.remedy[:1].upper()}{finding.remedy[1:]}.",
        pictures=[
            (_picture(dataset, episode, frame, camera), f"episode {episode}, frame {frame}, {camera}")
            for episode, frame, camera in shown
        ],
    )


def _picture(dataset: DemonstrationDataset, episode: int, frame: int, camera: str) -> np.ndarray:
    first = int(dataset.end_frames[episode]) - dataset.records[episode].length
    return dataset.read(image_key(camera), np.array([first + frame]))[0]
