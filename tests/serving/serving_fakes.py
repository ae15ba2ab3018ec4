"""A small robot, a real policy for it, and observations, shared by the serving tests."""

import threading
import time

import numpy as np
import torch

from envs.specs import (
    COMMAND_DIM,
    COMMAND_KEY,
    STATE_KEY,
    TASK_KEY,
    CameraSpec,
    Dimension,
    EmbodimentSpec,
    Transition,
    depth_key,
    extrinsics_key,
    image_key,
    intrinsics_key,
)
from policies.policy import ChunkPolicy

EMBODIMENT = EmbodimentSpec(
    name="testarm",
    control_rate_hz=20.0,
    state=tuple(Dimension(name=f"q{i}", unit="rad", low=-3.0, high=3.0) for i in range(4)),
    action=(
        Dimension(name="dx", unit="m", low=-0.5, high=0.5, relative=True),
        Dimension(name="dy", unit="m", low=-0.5, high=0.5, relative=True),
        Dimension(name="gripper", unit="1", low=0.0, high=1.0),
    ),
    cameras=(
        CameraSpec(name="front", height_px=8, width_px=12, depth=True),
        CameraSpec(name="wrist", height_px=6, width_px=6),
    ),
)
HORIZON = 5


class LinearPolicy(ChunkPolicy):
    """A torch policy that uses image, state and text, so that any mix-up of inputs changes its actions."""

    def __init__(self, embodiment: EmbodimentSpec = EMBODIMENT, horizon: int = HORIZON) -> None:
        super().__init__(embodiment, horizon=horizon, replan_interval=3)
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(embodiment.state_dim + 2, horizon * embodiment.action_dim, generator=generator)

    def predict_chunk(self, observation):
        image = observation[image_key(self.embodiment.camera_names[0])].float().mean(dim=(1, 2, 3), keepdim=False) / 255
        words = torch.tensor([len(text) / 100 for text in observation[TASK_KEY]])
        features = torch.cat([observation[STATE_KEY], image[:, None], words[:, None]], dim=1)
        unit = torch.sigmoid(features @ self.weight).reshape(-1, self.horizon, self.embodiment.action_dim)
        low, high = torch.tensor(self.embodiment.action_low), torch.tensor(self.embodiment.action_high)
        return low + unit * (high - low)


class ScriptedPolicy(LinearPolicy):
    """Answers the warm-up properly, then whatever the test puts into ``answers`` (a chunk or an exception)."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list = []

    def predict_chunk(self, observation):
        if not self.answers:
            return super().predict_chunk(observation)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return torch.as_tensor(answer)[None]


class BlockingPolicy(LinearPolicy):
    """Blocks ``block_s`` (cut short by ``release``) in every inference after the warm-up."""

    def __init__(self) -> None:
        super().__init__()
        self.block_s = 0.0
        self.release = threading.Event()
        self.entered = threading.Event()

    def predict_chunk(self, observation):
        self.entered.set()
        if self.block_s:
            self.release.wait(self.block_s)
        return super().predict_chunk(observation)


class DepthPolicy(LinearPolicy):
    """Needs depth, which clients may leave out."""

    def predict_chunk(self, observation):
        return super().predict_chunk(observation) + 0 * observation[depth_key("front")].mean()


def observation(rng: np.random.Generator, geometry: bool = True) -> dict:
    """A random valid unbatched observation in our keys; without ``geometry`` only what must be there."""
    values = {
        TASK_KEY: "pick up the red cube"[: rng.integers(1, 20)],
        STATE_KEY: rng.uniform(-1, 1, 4).astype(np.float32),
        image_key("front"): rng.integers(0, 256, (8, 12, 3)).astype(np.uint8),
        image_key("wrist"): rng.integers(0, 256, (6, 6, 3)).astype(np.uint8),
    }
    if geometry:
        values[COMMAND_KEY] = rng.uniform(-1, 1, COMMAND_DIM).astype(np.float32)
        values[depth_key("front")] = rng.uniform(0, 2, (8, 12)).astype(np.float32)
        values[intrinsics_key("front")] = np.eye(3, dtype=np.float32)
        values[extrinsics_key("front")] = np.eye(4, dtype=np.float32)
    return values


def wire_observation(rng: np.random.Generator) -> dict:
    """The same with the keys an ``openpi-client`` user would type."""
    return {
        "prompt": "open the drawer",
        "observation/state": rng.uniform(-1, 1, 4),
        "observation/images/front": rng.integers(0, 256, (8, 12, 3)).astype(np.uint8),
        "observation/images/wrist": rng.integers(0, 256, (6, 6, 3)).astype(np.uint8),
    }


def batched(observations: list[dict]) -> dict:
    """Stack observations into the torch batch that a policy takes; independent of the code under test."""
    keys = observations[0]
    return {
        key: [o[key] for o in observations]
        if key == TASK_KEY
        else torch.stack([torch.tensor(np.asarray(o[key])) for o in observations])
        for key in keys
    }


class PointEnv:
    """One world of the embodiment: ``dx, dy`` move a point; success after ``goal_steps`` moves."""

    num_envs = 1
    device = torch.device("cpu")
    embodiment = EMBODIMENT
    max_episode_steps = 30
    task_name = "point"
    stream = "evaluate"

    def __init__(self, goal_steps: int = 12, step_s: float = 0.0) -> None:
        self.goal_steps = goal_steps
        self.step_s = step_s
        self.actions: list[np.ndarray] = []

    def _observation(self) -> dict:
        rng = np.random.default_rng([self.seed, len(self.actions)])
        return batched([observation(rng)])

    def reset(self, seeds, mask=None):
        (self.seed,) = seeds
        self.actions = []
        return self._observation()

    def step(self, actions):
        time.sleep(self.step_s)
        self.actions.append(actions[0].numpy().copy())
        done = torch.tensor([len(self.actions) >= self.goal_steps])
        return Transition(
            observation=self._observation(),
            reward=torch.ones(1),
            rewards=torch.ones(1, 1),
            terminated=done,
            truncated=torch.tensor([False]),
            success=done,
            steps=torch.ones(1, dtype=torch.long),
            ended=[0] if done else [],
        )
