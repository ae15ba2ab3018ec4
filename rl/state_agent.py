"""A small policy of numbers that learns from reward: no pictures, no pretrained network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from envs.specs import ENVIRONMENT_STATE_KEY, STATE_KEY, EmbodimentSpec, VectorEnv
from policies.state_policy import StateNetwork, StateNetworkConfig, StatePolicy
from rl.agent import Agent, Looked
from vla.distribution import Distribution
from vla.observation import ActionChunk

NUMBERS = "numbers"


class StateAgent(Agent[Tensor]):
    """The network of ``policy``. Inputs are scaled by what it has seen, which changes between iterations alone."""

    def __init__(self, policy: StatePolicy) -> None:
        super().__init__()
        self.embodiment, self.horizon, self.execute = policy.embodiment, policy.horizon, policy.replan_interval
        self.network, self.policy = policy.network, policy

    def look(self, observation: Mapping[str, Any]) -> Looked:
        return {NUMBERS: self.policy.numbers(observation)}

    def see(self, looked: Looked) -> Float[Tensor, "b s"]:
        return self.network.scaled(looked[NUMBERS])

    def distribution(self, seen: Float[Tensor, "b s"]) -> Distribution:
        return self.network.distribution(seen)

    def summary(self, seen: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
        return seen

    def loss(self, seen: Float[Tensor, "b s"], target: ActionChunk) -> Float[Tensor, ""]:
        """The negative log-likelihood of each number."""
        surprise = -self.network.distribution(seen).log_prob(target.actions).mean(dim=-1)
        return surprise.masked_fill(~target.valid, 0.0).sum() / target.valid.sum().clamp(min=1)

    @torch.no_grad()
    def executable(self, actions: Float[Tensor, "n h a"]) -> Float[Tensor, "n h a"]:
        return self.policy.executable(actions)

    def acting(self) -> StatePolicy:
        return self.policy

    def save(self, directory: Path) -> None:
        self.policy.save(directory)

    def settings(self) -> dict[str, Any]:
        about = {"keys": list(self.policy.keys), "size": self.network.size, "execute": self.execute}
        return {**about, "network": asdict(self.network.config)}

    def absorb(self, looked: Looked) -> dict[str, Tensor]:
        numbers = looked[NUMBERS].flatten(0, 1).double()
        count = torch.tensor(len(numbers), device=numbers.device)
        return {"count": count, "total": numbers.sum(dim=0), "squares": numbers.square().sum(dim=0)}

    def take_in(self, sums: Mapping[str, Tensor]) -> None:
        self.network.take_in(**sums)


def fresh_policy(
    config: StateNetworkConfig, env: VectorEnv, keys: Sequence[str] = (), device: torch.device | None = None
) -> StatePolicy:
    """One that has learned nothing, for the robot of ``env``, which is started to see what it shows; on ``device``, by
    default that of the worlds.

    ``keys`` are by default what the robot feels, and what the simulator knows where the environment shows it. Weights
    are drawn from torch's random state. It is for the robot with whatever cameras.
    """
    observation = env.reset(list(range(env.num_envs)))
    there = tuple(keys) or tuple(key for key in (STATE_KEY, ENVIRONMENT_STATE_KEY) if key in observation)
    if missing := [key for key in there if key not in observation]:
        raise ValueError(f"the environment shows no {', '.join(missing)}; it shows {sorted(observation)}")
    size = sum(observation[key].shape[1] for key in there)
    embodiment: EmbodimentSpec = replace(env.embodiment, cameras=())
    network = StateNetwork(config, size, embodiment.action_dim).to(env.device if device is None else device)
    return StatePolicy(network, there, embodiment)
