"""Episodes that a reward is judged on: those of the expert, and failures that a script makes on purpose.

Success is always the environment's own; a script that happens to succeed makes no failure.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.specs import EXPERT, STATE_KEY, TASK_KEY, EmbodimentSpec, ExpertEnv, image_key
from policies.data.keyframes import GRIPPER_FRAME
from rl.rewards.traces import Trace

Script = Callable[[int], Float[Tensor, "n a"]]
"""What all worlds do at a control step, counted from 0."""
KINDS = ("expert", "half-way", "other goal", "random", "near miss")
LINGERING = 1.25
"""How long failures go on, in lengths of the expert's episode of the same seed."""
HOLD_STEPS = 5
NEAR_MISS_BIAS = 0.25
"""In half-ranges of an action; what a proportional controller makes of it is a distance that it never closes."""


def record_kinds(env: ExpertEnv, seeds: Sequence[int], every: int) -> list[Trace]:
    """One episode of each of ``KINDS`` for every seed, with the frames of every ``every`` control steps and the last.

    ``ValueError`` for an environment without an expert, or fewer than two seeds, which another goal takes.
    """
    if EXPERT not in env.capabilities:
        raise ValueError(f"{env.task_name} has no scripted expert; all it declares is {sorted(env.capabilities)}")
    if len(seeds) < 2 or every < 1:
        raise ValueError(f"expected at least two seeds and frames every 1 … steps, got {len(seeds)} and {every}")
    found: list[Trace] = []
    for first in range(0, len(seeds), env.num_envs):
        found += _wave(env, [int(seed) for seed in seeds[first : first + env.num_envs]], every)
    experts = [trace for trace in found if trace.kind == "expert"]
    others = [*experts[1:], experts[0]]
    return found + [own.told(other, "other goal") for own, other in zip(experts, others, strict=True)]


def _wave(env: ExpertEnv, seeds: list[int], every: int) -> list[Trace]:
    """All kinds that are acted out, in at most ``env.num_envs`` worlds at once."""
    endless = torch.full((env.num_envs,), env.max_episode_steps)
    experts = record(env, lambda step: env.expert_action(), seeds, every, endless, "expert")
    lengths = torch.tensor([int(trace.steps[-1]) for trace in experts])
    lengths = torch.cat([lengths, lengths[:1].expand(env.num_envs - len(seeds))])
    limit = (lengths * LINGERING).ceil().long().clamp(max=env.max_episode_steps)
    scripts = {
        "half-way": HalfWay(env, lengths // 2),
        "random": Random(env, seeds),
        "near miss": NearMiss(env),
    }
    return experts + [
        trace for kind, script in scripts.items() for trace in record(env, script, seeds, every, limit, kind)
    ]


def record(
    env: ExpertEnv, script: Script, seeds: list[int], every: int, limit: Int[Tensor, " n"], kind: str
) -> list[Trace]:
    """One episode of ``script`` for each seed, up to ``limit`` control steps; worlds without a seed repeat the
    first.
    """
    observation = env.reset(seeds + seeds[:1] * (env.num_envs - len(seeds)))
    goals, means = list(observation[TASK_KEY]), list(env.goals)
    keys = [image_key(camera) for camera in env.embodiment.camera_names] + [STATE_KEY]
    kept = [[(0, {key: observation[key][world].cpu().clone() for key in keys})] for world in range(len(seeds))]
    taken = torch.zeros(env.num_envs, dtype=torch.long)
    success = torch.zeros(env.num_envs, dtype=torch.bool)
    for step in range(int(limit.max())):
        moved = env.step(script(step))
        running = (moved.steps.cpu() > 0) & (step < limit)
        if not bool(running.any()):
            break
        taken, success = taken + running, torch.where(running, moved.success.cpu(), success)
        over = torch.zeros_like(running)
        over[moved.ended] = True
        for world in (running & (over | (taken == limit) | (taken % every == 0))).nonzero()[:, 0].tolist():
            if world < len(seeds):
                shown = {key: moved.observation[key][world].cpu().clone() for key in keys}
                kept[world].append((int(taken[world]), shown))
    names = env.task_names
    return [
        Trace(
            shown={key: torch.stack([shown[key] for _, shown in frames]) for key in keys},
            steps=torch.tensor([at for at, _ in frames]),
            goal=goals[world],
            means=means[world],
            task=names[world],
            seed=seeds[world],
            success=bool(success[world]),
            kind=kind,
        )
        for world, frames in enumerate(kept)
    ]


def standing(embodiment: EmbodimentSpec, last: Float[Tensor, "n a"]) -> Float[Tensor, "n a"]:
    """What keeps a robot where it is: no change, or the last command again where actions are no changes."""
    relative = torch.tensor([dim.relative for dim in embodiment.action], device=last.device)
    return last.masked_fill(relative, 0.0)


class HalfWay:
    """The expert, which stops after so many steps and stands still."""

    def __init__(self, env: ExpertEnv, after: Int[Tensor, " n"]) -> None:
        self._env, self._after = env, after
        self._last: Float[Tensor, "n a"] | None = None

    def __call__(self, step: int) -> Float[Tensor, "n a"]:
        action = self._env.expert_action()
        last = action if self._last is None else self._last
        goes_on = (step < self._after).to(action.device)[:, None]
        self._last = torch.where(goes_on, action, standing(self._env.embodiment, last))
        return self._last


class Random:
    """Actions drawn evenly from their range by the seed of each world, each held for ``HOLD_STEPS``."""

    def __init__(self, env: ExpertEnv, seeds: Sequence[int]) -> None:
        self._env = env
        self._draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._action: Float[Tensor, "n a"] | None = None

    def __call__(self, step: int) -> Float[Tensor, "n a"]:
        if self._action is None or step % HOLD_STEPS == 0:
            low, high = (torch.tensor(x) for x in (self._env.embodiment.action_low, self._env.embodiment.action_high))
            drawn = torch.stack([torch.rand(len(low), generator=draw) for draw in self._draws])
            padded = torch.cat([drawn, drawn[:1].expand(self._env.num_envs - len(drawn), -1)])
            self._action = (low + padded * (high - low)).to(self._env.device)
        return self._action


class NearMiss:
    """The expert beside the mark: it is pushed aside all along, so that it hovers where it means to be, with fingers
    that do not close.
    """

    def __init__(self, env: ExpertEnv) -> None:
        self._env = env
        dims = env.embodiment.action
        self._low, self._high = (
            torch.tensor(x, device=env.device) for x in (env.embodiment.action_low, env.embodiment.action_high)
        )
        push = [NEAR_MISS_BIAS * (dim.high - dim.low) / 2 if i == 0 else 0.0 for i, dim in enumerate(dims)]
        self._push = torch.tensor(push, device=env.device)
        self._grips = torch.tensor([dim.frame == GRIPPER_FRAME for dim in dims], device=env.device)

    def __call__(self, step: int) -> Float[Tensor, "n a"]:
        action = (self._env.expert_action() + self._push).clamp(self._low, self._high)
        return torch.where(self._grips, self._low, action)
