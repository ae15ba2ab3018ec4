"""From what an evaluation measured to what a report shows."""

from configs.report.charts import SuccessBar
from configs.report.video import Video
from policies.evaluation import EvaluationResult


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
