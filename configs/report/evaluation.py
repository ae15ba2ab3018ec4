"""The report of an evaluation, and its results as they are saved."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.eval_record import EvalRecord
from configs.machine import describe_run
from configs.report.document import FactsSection, SettingsSection, SuccessSection, VideosSection, write_report
from configs.report.results import agreement_sections, remarks_sections, shuffling_note, success_bar
from configs.report.tables import UNPERTURBED
from configs.serialization import to_json
from configs.worker_suites import phrasings_of
from policies.evaluation import EvaluationResult

if TYPE_CHECKING:
    from configs.commands.eval import Config


def entries(results: Mapping[str, Sequence[EvaluationResult]], made_by: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What ``results.json`` holds of the ``results`` under each axis; ``made_by`` is what they depend on."""
    return [
        {"axis": axis, **result.to_dict(), "provenance": made_by} for axis, found in results.items() for result in found
    ]


def write_evaluation_report(
    path: Path, config: "Config", results: Mapping[str, Sequence[EvaluationResult]], record: EvalRecord
) -> None:
    """Bars, films, machine and settings; the films are those that ``record`` keeps."""
    last_seed = config.first_seed + config.episodes - 1

    def condition(axis: str, result: EvaluationResult) -> str:
        words = "no instruction" if result.instructions == "none" else f"{result.instructions} instruction"
        words += ", black pictures" if "pictures" in result.without else ""
        return words if axis == UNPERTURBED else f"{words}, {axis}"

    bars = [success_bar(result, condition(axis, result)) for axis, found in results.items() for result in found]
    write_report(
        path,
        f"Evaluation of {config.policy}",
        [
            SuccessSection(bars=tuple(bars), note=shuffling_note([r for found in results.values() for r in found])),
            *remarks_sections([r for found in results.values() for r in found]),
            *agreement_sections([r for found in results.values() for r in found]),
            VideosSection(
                videos=tuple(video for found in results.values() for r in found for video in record.videos_of(r))
            ),
            FactsSection(title="Machine and versions", facts=describe_run()),
            SettingsSection(config=to_json(config)),
        ],
        lead=f"{config.episodes} episodes per task, seeds {config.first_seed} … {last_seed} of the stream evaluate, "
        f"{phrasings_of(config.tasks, config.split)}.",
    )
