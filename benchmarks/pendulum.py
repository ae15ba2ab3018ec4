"""The pendulum of gymnasium's Pendulum-v1, many at once in torch: for our learner, and for stable-baselines3's."""

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Bool, Float, Int
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvStepReturn
from torch import Tensor

from envs.specs import DETERMINISTIC, STATE_KEY, TASK_KEY, Dimension, EmbodimentSpec, Stream, Transition

NAME = "pendulum"
LENGTH = 200
GRAVITY, STEP_S, TORQUE_NM, SPEED_RAD_S = 10.0, 0.05, 2.0, 8.0


def robot() -> EmbodimentSpec:
    """A joint that is seen as cosine, sine and speed."""
    seen = [("cos", "1", 1.0), ("sin", "1", 1.0), ("speed", "rad/s", SPEED_RAD_S)]
    return EmbodimentSpec(
        name=NAME,
        control_rate_hz=1 / STEP_S,
        state=tuple(Dimension(name=name, unit=unit, low=-most, high=most) for name, unit, most in seen),
        action=(Dimension(name="torque", unit="Nm", low=-TORQUE_NM, high=TORQUE_NM),),
        cameras=(),
    )


class Pendulums:
    """Fulfils ``envs.specs.VectorEnv``: n pendulums without friction, episodes of 200 steps, none of which succeeds."""

    capabilities = frozenset({DETERMINISTIC})

    def __init__(self, num_envs: int, stream: Stream = "learn") -> None:
        self.num_envs, self.stream, self.device = num_envs, stream, torch.device("cpu")
        self.embodiment, self.max_episode_steps, self.task_name = robot(), LENGTH, NAME
        self.task_names = self.goals = [NAME] * num_envs
        self.angle, self.speed = torch.zeros(num_envs), torch.zeros(num_envs)
        self.elapsed = torch.full((num_envs,), LENGTH)

    @property
    def stages_done(self) -> Bool[Tensor, "n 1"]:
        return torch.zeros(self.num_envs, 1, dtype=torch.bool)

    def reset(self, seeds: Int[Tensor, " n"] | list[int], mask: Bool[Tensor, " n"] | None = None) -> dict[str, object]:
        where = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else mask
        worlds = where.nonzero()[:, 0].tolist()
        drawn = np.array([_start(self.stream, int(seeds[world])) for world in worlds])
        self.angle[worlds], self.speed[worlds] = torch.tensor(drawn, dtype=torch.float32).T
        self.elapsed[worlds] = 0
        return self._observe()

    def step(self, actions: Float[Tensor, "n 1"]) -> Transition:
        return self.step_chunk(actions[:, None])

    def step_chunk(self, actions: Float[Tensor, "n h 1"]) -> Transition:
        """One step: chunks are of a single action."""
        if actions.shape[1:] != (1, 1):
            raise ValueError(f"expected actions ({self.num_envs}, 1, 1), got {tuple(actions.shape)}")
        running = self.elapsed < LENGTH
        torque = actions[:, 0, 0].clamp(-TORQUE_NM, TORQUE_NM)
        away = torch.remainder(self.angle + torch.pi, 2 * torch.pi) - torch.pi
        reward = -(away.square() + 0.1 * self.speed.square() + 0.001 * torque.square()) * running
        speed = self.speed + (1.5 * GRAVITY * self.angle.sin() + 3.0 * torque) * STEP_S
        self.speed = torch.where(running, speed.clamp(-SPEED_RAD_S, SPEED_RAD_S), self.speed)
        self.angle = torch.where(running, self.angle + self.speed * STEP_S, self.angle)
        self.elapsed = self.elapsed + running
        over = self.elapsed >= LENGTH
        never = torch.zeros_like(over)
        ended = (over & running).nonzero()[:, 0].tolist()
        return Transition(self._observe(), reward, reward[:, None], never, over, never, running.long(), ended)

    def close(self) -> None:
        pass

    def _observe(self) -> dict[str, object]:
        seen = torch.stack((self.angle.cos(), self.angle.sin(), self.speed), dim=1)
        return {STATE_KEY: seen, TASK_KEY: self.goals}


class PendulumsForBaselines(VecEnv):
    """The same for stable-baselines3, with the spaces of Pendulum-v1."""

    def __init__(self, num_envs: int, seed: int = 0) -> None:
        self._worlds, self._next = Pendulums(num_envs), torch.arange(num_envs) + seed * 10**9
        seen = np.array([1.0, 1.0, SPEED_RAD_S], dtype=np.float32)
        bounds = spaces.Box(-TORQUE_NM, TORQUE_NM, (1,), np.float32)
        super().__init__(num_envs, spaces.Box(-seen, seen, dtype=np.float32), bounds)

    def reset(self) -> np.ndarray:
        return self._begin(None)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = torch.from_numpy(actions)

    def step_wait(self) -> VecEnvStepReturn:
        moved = self._worlds.step(self._actions)
        seen = moved.observation[STATE_KEY].numpy()
        infos: list[dict[str, object]] = [{} for _ in range(self.num_envs)]
        if moved.ended:
            for world in moved.ended:
                infos[world] = {"terminal_observation": seen[world], "TimeLimit.truncated": True}
            seen = self._begin(moved.truncated)
        return seen, moved.reward.numpy(), moved.truncated.numpy(), infos

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: object = None) -> list[object]:
        return [getattr(self._worlds, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: object, indices: object = None) -> None:
        raise NotImplementedError("the worlds are one object")

    def env_method(self, method_name: str, *args: object, indices: object = None, **kwargs: object) -> list[object]:
        raise NotImplementedError("the worlds are one object")

    def env_is_wrapped(self, wrapper_class: type, indices: object = None) -> list[bool]:
        return [False] * self.num_envs

    def _begin(self, mask: Bool[Tensor, " n"] | None) -> np.ndarray:
        observation = self._worlds.reset(self._next, mask)
        self._next = self._next + self.num_envs
        return observation[STATE_KEY].numpy()  # type: ignore[attr-defined]


def check_against_gymnasium(steps: int = LENGTH) -> None:
    """``RuntimeError`` unless a pendulum moves and is paid as gymnasium's, under random torques."""
    theirs, ours = gymnasium.make("Pendulum-v1").unwrapped, Pendulums(1)
    theirs.reset(seed=0)
    ours.reset([0])
    theirs.state = np.array([float(ours.angle), float(ours.speed)])  # type: ignore[attr-defined]
    draws = np.random.default_rng(0)
    for step in range(steps):
        ours.angle[:], ours.speed[:] = (torch.tensor(float(x)) for x in theirs.state)  # type: ignore[attr-defined]
        torque = draws.uniform(-2.5, 2.5, size=1).astype(np.float32)
        seen, reward, *_ = theirs.step(torque)
        moved = ours.step(torch.from_numpy(torque)[None])
        close = np.allclose(moved.observation[STATE_KEY][0], seen, atol=1e-4)
        if not close or abs(float(moved.reward) - float(reward)) > 1e-3:
            raise RuntimeError(f"step {step}: gymnasium's pendulum gives {seen} and {reward}, ours {moved}")


def _start(stream: str, seed: int) -> np.ndarray:
    """Angle and speed, uniform as in gymnasium."""
    draws = np.random.default_rng([0 if stream == "learn" else 1, seed])
    return draws.uniform((-np.pi, -1.0), (np.pi, 1.0))
