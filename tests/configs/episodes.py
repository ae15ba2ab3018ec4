"""An episode that has ended, for what is told of evaluations."""

from policies.episode_log import EpisodeResult

GOAL = "reach the red dot"


def one_episode(task="reach", seed=0, **fields):
    """One that was won in its only step; ``fields`` are what is to be otherwise."""
    ended = {"success": True, "steps": 1, "reward": 0.0, "stages_done": 1, "stages": 1}
    told = {"instruction": GOAL, "goal": GOAL, "same_goal": True}
    return EpisodeResult(task=task, seed=seed, **{**told, **ended, **fields})
