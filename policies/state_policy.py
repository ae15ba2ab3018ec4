"""A small policy without pictures: numbers of the robot, or of the simulator, in, actions in the robot's units out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from envs.specs import ENVIRONMENT_STATE_KEY, EmbodimentSpec
from policies.described import described
from policies.policy import ChunkPolicy
from vla.checkpoint import CheckpointError, read_weights, write_weights
from vla.durable import write_text_atomically
from vla.heads.gaussian import GaussianChunks, check_std, freely, log_std_of
from vla.strict_json import strict_json

POLICY_FILE, WEIGHTS_FILE = "policy.json", "model.safetensors"
KIND, FORMAT_VERSION = "state", 2
SPREAD, LOG_STD = "spread", "log_std"
"""What the spread is called, and was in version 1, which kept its logarithm itself."""
CLIP = 10.0
"""Beyond so many standard deviations a number looks as if it were there."""


@dataclass(frozen=True, kw_only=True)
class StateNetworkConfig:
    """Sizes of :class:`StateNetwork`; ``std`` is its first spread, in actions scaled to −1 … 1, within the bounds of
    :mod:`vla.heads.gaussian`.
    """

    horizon: int = 1
    width: int = 64
    layers: int = 2
    std: float = 0.6

    def __post_init__(self) -> None:
        if min(self.horizon, self.width, self.layers) < 1:
            raise ValueError(f"expected positive horizon, width and layers, got {self}")
        check_std(self.std)


class StateNetwork(nn.Module):
    """A Gaussian over chunks of ``horizon`` actions, whose mean an MLP says and whose spread depends on nothing.

    It scales its ``size`` inputs by the mean and deviation of all that it has learned from.
    """

    mean: Tensor
    squares: Tensor
    count: Tensor

    def __init__(self, config: StateNetworkConfig, size: int, action_dim: int) -> None:
        super().__init__()
        self.config, self.size, self.action_dim = config, size, action_dim
        layers: list[nn.Module] = []
        width_in = size
        for _ in range(config.layers):
            layers += [nn.Linear(width_in, config.width), nn.Tanh()]
            width_in = config.width
        last = nn.Linear(width_in, config.horizon * action_dim)
        with torch.no_grad():
            last.weight *= 0.01
            last.bias.zero_()
        self.layers = nn.Sequential(*layers, last)
        self.spread = nn.Parameter(freely(torch.full((config.horizon, action_dim), config.std).log()))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))

    def scaled(self, numbers: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
        """To about zero mean and unit deviation; as they are before anything was learned from."""
        if not bool(self.count > 0):
            return numbers
        deviation = (self.squares / self.count).sqrt().float().clamp(min=1e-3)
        return ((numbers - self.mean.float()) / deviation).clamp(-CLIP, CLIP)

    def distribution(self, scaled: Float[Tensor, "b s"]) -> GaussianChunks:
        """Over chunks of actions scaled to −1 … 1."""
        mean = self.layers(scaled).unflatten(-1, (self.config.horizon, self.action_dim))
        return GaussianChunks(mean.float(), log_std_of(self.spread), squash=False)

    @torch.no_grad()
    def take_in(self, count: Int[Tensor, ""], total: Float[Tensor, " s"], squares: Float[Tensor, " s"]) -> None:
        """Update mean and deviation by count, sum and sum of squares of further inputs (Chan et al. 1979)."""
        if not bool(count > 0):
            return
        mean = total / count
        away = mean - self.mean
        whole = self.count + count
        self.squares += squares - count * mean.square() + away.square() * self.count * count / whole
        self.mean += away * count / whole
        self.count.copy_(whole)


class StatePolicy(ChunkPolicy):
    """Acts with the mean of ``network``, on the observation's ``keys`` side by side."""

    calibrated = False

    def __init__(
        self, network: StateNetwork, keys: Sequence[str], embodiment: EmbodimentSpec, replan_interval: int | None = None
    ) -> None:
        horizon = network.config.horizon
        super().__init__(embodiment, horizon, horizon if replan_interval is None else replan_interval)
        self.network, self.keys = network.eval(), tuple(keys)
        self.privileged = ENVIRONMENT_STATE_KEY in self.keys
        self.device = network.mean.device
        low, high = (torch.tensor(x, device=self.device) for x in (embodiment.action_low, embodiment.action_high))
        self._middle, self._half = (high + low) / 2, (high - low) / 2

    def numbers(self, observation: Mapping[str, Any]) -> Float[Tensor, "n s"]:
        """What it sees; ``ValueError`` for an observation that does not fit."""
        columns = []
        for key in self.keys:
            value = observation.get(key)
            if not isinstance(value, Tensor) or value.ndim != 2:
                raise ValueError(f"{key}: expected a tensor (n, s), got {described(value)}")
            columns.append(value.to(self.device, torch.float32))
        numbers = torch.cat(columns, dim=1)
        if numbers.shape[1] != self.network.size:
            raise ValueError(f"expected {self.network.size} numbers in {list(self.keys)}, got {numbers.shape[1]}")
        return numbers

    def executable(self, actions: Float[Tensor, "n h a"]) -> Float[Tensor, "n h a"]:
        """Actions of −1 … 1 in the robot's units; what lies beyond is cut off."""
        return self._middle + self._half * actions.clamp(-1, 1)

    @torch.no_grad()
    def predict_chunk(self, observation: Mapping[str, Any]) -> Float[Tensor, "n h a"]:
        mode = self.network.distribution(self.network.scaled(self.numbers(observation))).mode()
        return self.executable(mode.actions)

    def save(self, directory: Path | str) -> None:
        """Write the policy; :meth:`load` is the inverse."""
        directory = Path(directory)
        content = {
            "format_version": FORMAT_VERSION,
            "kind": KIND,
            "embodiment": self.embodiment.to_dict(),
            "keys": list(self.keys),
            "size": self.network.size,
            "network": asdict(self.network.config),
            "replan_interval": self.replan_interval,
        }
        write_weights(directory / WEIGHTS_FILE, self.network.state_dict())
        write_text_atomically(directory / POLICY_FILE, strict_json(content, indent=2) + "\n")

    @classmethod
    def load(
        cls, directory: Path, device: torch.device | str = "cpu", replan_interval: int | None = None
    ) -> "StatePolicy":
        """The policy in ``directory``; ``CheckpointError`` where files are missing or damaged."""
        path = directory / POLICY_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            embodiment = EmbodimentSpec.from_dict(content["embodiment"])
            config = StateNetworkConfig(**content["network"])
            network = StateNetwork(config, int(content["size"]), embodiment.action_dim)
            keys, interval = tuple(content["keys"]), int(content["replan_interval"])
            expected = network.state_dict()
            if content["format_version"] == 1:
                expected[LOG_STD] = expected.pop(SPREAD)
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{path} is damaged: {error!r}") from error
        weights = read_weights(directory / WEIGHTS_FILE, expected)
        if LOG_STD in weights:
            weights[SPREAD] = freely(weights.pop(LOG_STD))
        network.load_state_dict(weights)
        return cls(network.to(device), keys, embodiment, interval if replan_interval is None else replan_interval)


def is_state_policy(directory: Path) -> bool:
    """Whether a policy's folder holds one of this kind."""
    try:
        return json.loads((directory / POLICY_FILE).read_text(encoding="utf-8")).get("kind") == KIND
    except (OSError, AttributeError, json.JSONDecodeError):
        return False
