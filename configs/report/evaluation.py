"""The report of an evaluation, and its results as they are saved."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.eval_record import EvalRecord
from configs.machine import describe_run
from configs.report.document import FactsSection, SettingsSection, SuccessSection, VideosSection, write_report
from configs.report.results import agreement_sections, remarks_sections, shuffling_note, success_bar
from configs.report.tables import UNPERTURBED
from policies.evaluation import EvaluationResult


def entries(results: Mapping[str, Sequence[EvaluationResult]], made_by: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What ``results.json`` holds of the ``results`` under each axis; ``made_by`` is what they depend on."""
    return [
        {"axis": axis, **result.to_dict(), "provenance": made_by} for axis, found in results.items() for result in found
    ]


def write_evaluation_report(
    path: Path,
    results: Mapping[str, Sequence[EvaluationResult]],
    record: EvalRecord,
    *,
    title: str,
    lead: str,
    settings: Mapping[str, Any],
) -> None:
    """Bars, films, machine and settings; the films are those that ``record`` keeps."""

    def condition(axis: str, result: EvaluationResult) -> str:
        words = "no instruction" if result.instructions == "none" else f"{result.instructions} instruction"
        words += ", black pictures" if "pictures" in result.without else ""
        return words if axis == UNPERTURBED else f"{words}, {axis}"

    bars = [success_bar(result, condition(axis, result)) for axis, found in results.items() for result in found]
    every = [result for found in results.values() for result in found]
    write_report(
        path,
        title,
        [
            SuccessSection(bars=tuple(bars), note=shuffling_note(every)),
            *remarks_sections(every),
            *agreement_sections(every),
            VideosSection(videos=tuple(video for result in every for video in record.videos_of(result))),
            FactsSection(title="Machine and versions", facts=describe_run()),
            SettingsSection(config=settings),
        ],
        lead=lead,
    )
