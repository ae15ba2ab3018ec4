"""From what an evaluation measured to what a report shows."""

from collections.abc import Sequence

from configs.report.charts import SuccessBar
from configs.report.document import FactsSection
from configs.report.video import Video
from policies.episode_log import EpisodeVideo
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
    """The success rate over the episodes of all ``results``, and its interval.

    ``ValueError`` if they are of different kinds of instructions, which are no one figure.
    """
    if len(kinds := {result.instructions for result in results}) > 1:
        raise ValueError(f"expected results with one kind of instructions, got {sorted(kinds)}")
    outcomes = [outcome for result in results for outcome in result.outcomes]
    rate = wilson(sum(outcomes), len(outcomes))
    return SuccessBar(
        task="all tasks", condition=condition, value=rate.value, lo=rate.lo, hi=rate.hi, episodes=len(outcomes)
    )


def shuffling_note(results: Sequence[EvaluationResult]) -> str:
    """What success with shuffled instructions is to be compared with; nothing where there are none."""
    shares = {
        result.task: f"{result.task} {result.same_goal_share:.1%}"
        for result in results
        if result.instructions == "shuffled"
    }
    if not shares:
        return ""
    return (
        "A shuffled instruction is that of the next episode, and success is judged by the episode's own. The two ask "
        f"for the same in {', '.join(shares.values())} of the episodes: there a policy that does what it is told "
        "succeeds, beside what it meets by accident."
    )


def remarks_sections(results: Sequence[EvaluationResult]) -> list[FactsSection]:
    """What the policy could not take in of what it was told, by task; no section where there is nothing to say."""
    remarks: dict[str, dict[str, None]] = {}
    for result in results:
        for remark in result.remarks:
            remarks.setdefault(result.task, {})[remark] = None
    facts = {task: "; ".join(said) for task, said in remarks.items()}
    return [FactsSection(title="What the policy could not take in", facts=facts)] if facts else []


def agreement_sections(results: Sequence[EvaluationResult]) -> list[FactsSection]:
    """Whether what a policy said agrees with what it did, by task; no section for one that does not speak."""
    facts = {}
    for result in results:
        if result.agreement is not None:
            changed = f", {result.perturbation}" if result.perturbation else ""
            facts[f"{result.task}, {result.instructions} instruction{changed}"] = str(result.agreement)
    return [FactsSection(title="What it says and what it does", facts=facts)] if facts else []


def videos_of(result: EvaluationResult) -> list[Video]:
    """The filmed episodes; the instruction is what the policy read."""
    return [video_of(film) for film in result.videos]


def video_of(film: EpisodeVideo) -> Video:
    """One filmed episode."""
    return Video(
        frames=film.frames,
        seconds_per_frame=film.seconds_per_frame,
        task=film.episode.task,
        instruction=film.episode.instruction,
        seed=film.episode.seed,
        success=film.episode.success,
    )
