"""From what an evaluation measured to what a report shows."""

from collections.abc import Sequence

from configs.report.charts import SuccessBar
from configs.report.video import Video
from policies.evaluation import EvaluationResult
from policies.intervals import wilson


def success_bar(result: EvaluationResult, condition: str) -> SuccessBar:
    """The result's success rate and interval, labelled ``condition``."""
    rate = result.success
    return SuccessBar(
        task=result.task,
        condition=condition,
        value=rate.value,
        lo=rate.lo,
        hi=rate.hi,
        episodes=len(result.episodes),
    )


def pooled_bar(results: Sequence[EvaluationResult], condition: str) -> SuccessBar:
    """The success rate over the episodes of all ``results``, and its interval."""
    outcomes = [outcome for result in results for outcome in result.outcomes]
    rate = wilson(sum(outcomes), len(outcomes))
    return SuccessBar(
        task="all tasks", condition=condition, value=rate.value, lo=rate.lo, hi=rate.hi, episodes=len(outcomes)
    )


def videos_of(result: EvaluationResult) -> list[Video]:
    """The filmed episodes; the instruction is what the policy read."""
    return [
        Video(
            frames=video.frames,
            seconds_per_frame=video.seconds_per_frame,
            task=video.episode.task,
            instruction=video.episode.instruction,
            seed=video.episode.seed,
            success=video.episode.success,
        )
        for video in result.videos
    ]
