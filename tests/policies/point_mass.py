"""A small real environment in torch: a dot on a plane is to go to the dot of the named colour."""

import torch

from envs.specs import (
    CALIBRATED,
    DETERMINISTIC,
    EXPERT,
    SNAPSHOTS,
    STATE_KEY,
    STREAMS,
    TASK_KEY,
    CameraSpec,
    Dimension,
    EmbodimentSpec,
    Snapshot,
    Transition,
    extrinsics_key,
    image_key,
    intrinsics_key,
)

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
SPEED_M = 0.15
REACHED_M = 0.1
FROM_ABOVE = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 1], [0, 0, 0, 1]])
"""T_world_cam of a camera a metre above the plane: down the picture is along x, to the right along y."""
_STATE = ("position", "dots", "goal", "elapsed", "done")


def point_mass_embodiment(size_px=16, cameras=("front",)):
    return EmbodimentSpec(
        name="point_mass",
        control_rate_hz=10.0,
        state=tuple(Dimension(name=axis, unit="m", low=-1.0, high=1.0) for axis in "xy"),
        action=tuple(Dimension(name=f"d{axis}", unit="1", low=-1.0, high=1.0) for axis in "xy"),
        cameras=tuple(CameraSpec(name=name, height_px=size_px, width_px=size_px) for name in cameras),
    )


class PointMassEnv:
    """Fulfils ``envs.specs.ExpertEnv`` and ``SnapshotEnv``.

    Success is judged by the named dot; touching the other does nothing.
    """

    capabilities = frozenset({EXPERT, SNAPSHOTS, DETERMINISTIC, CALIBRATED})

    def __init__(self, num_envs, max_episode_steps=25, size_px=16, stream="demonstrate"):
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self.embodiment = point_mass_embodiment(size_px)
        self.max_episode_steps = max_episode_steps
        self.task_name = "point"
        self.task_names = ["point"] * num_envs
        self.stream = stream
        self.size_px = size_px
        self.position = torch.zeros(num_envs, 2)
        self.dots = torch.zeros(num_envs, 2, 2)
        self.goal = torch.zeros(num_envs, dtype=torch.long)
        self.elapsed = torch.zeros(num_envs, dtype=torch.long)
        self.done = torch.ones(num_envs, dtype=torch.bool)
        self.closed = False

    @property
    def stages_done(self):
        return self._success()[:, None]

    @property
    def goals(self):
        return self._instructions()

    def reset(self, seeds, mask=None):
        for world, seed in enumerate(seeds):
            if mask is None or mask[world]:
                source = torch.Generator().manual_seed(int(seed) + (STREAMS.index(self.stream) << 24))
                self.position[world] = torch.rand(2, generator=source) * 0.4 - 0.2
                angle = torch.rand((), generator=source) * 2 * torch.pi
                direction = torch.stack([angle.cos(), angle.sin()])
                self.dots[world] = 0.7 * torch.stack([direction, -direction])
                self.goal[world] = int(torch.randint(2, (), generator=source))
                self.elapsed[world] = 0
                self.done[world] = False
        return self._observe()

    def step(self, actions):
        return self.step_chunk(actions[:, None])

    def step_chunk(self, actions):
        actions, finite = actions.detach(), actions.isfinite().flatten(1).all(1)
        began, running, rewards = self.elapsed.clone(), ~self.done, []
        for action in actions.unbind(1):
            alive = ~self.done & finite
            self.position[alive] += SPEED_M * action[alive].clamp(-1, 1)
            self.elapsed += alive
            rewards.append((alive & self._success()).float())
            self.done |= self._success() | (self.elapsed >= self.max_episode_steps)
        if not finite.all():
            raise ValueError(f"actions of worlds {(~finite).nonzero()[:, 0].tolist()} are not finite")
        success, rewards = self._success(), torch.stack(rewards, 1)
        return Transition(
            observation=self._observe(),
            reward=rewards.sum(1),
            rewards=rewards,
            terminated=success,
            truncated=(self.elapsed >= self.max_episode_steps) & ~success,
            success=success,
            steps=self.elapsed - began,
            ended=(running & self.done).nonzero()[:, 0].tolist(),
        )

    def expert_action(self):
        return ((self._target() - self.position) / SPEED_M).clamp(-1, 1)

    def snapshot(self):
        return Snapshot({name: getattr(self, name).clone() for name in _STATE}, self._instructions())

    def restore(self, snapshot):
        for name in _STATE:
            setattr(self, name, snapshot.tensors[name].clone())
        return self._observe()

    def close(self):
        self.closed = True

    def _target(self):
        return self.dots[torch.arange(self.num_envs), self.goal]

    def _success(self):
        return (self._target() - self.position).norm(dim=1) < REACHED_M

    def _observe(self):
        return {
            image_key("front"): self._render(),
            STATE_KEY: self.position.clone(),
            TASK_KEY: self._instructions(),
            intrinsics_key("front"): self._intrinsics().repeat(self.num_envs, 1, 1),
            extrinsics_key("front"): FROM_ABOVE.repeat(self.num_envs, 1, 1),
        }

    def _intrinsics(self):
        half = self.size_px / 2
        return torch.tensor([[half, 0, half], [0, half, half], [0, 0, 1]])

    def _instructions(self):
        return [f"go to the {list(COLOURS)[goal]} dot" for goal in self.goal]

    def _render(self):
        pixel = (torch.arange(self.size_px) + 0.5) / self.size_px * 2 - 1
        grid = torch.stack(torch.meshgrid(pixel, pixel, indexing="ij"), dim=-1)
        image = torch.full((self.num_envs, self.size_px, self.size_px, 3), 90, dtype=torch.uint8)
        dots = [*zip(self.dots.unbind(1), COLOURS.values(), strict=True), (self.position, (240, 240, 240))]
        for centre, colour in dots:
            near = (grid[None] - centre[:, None, None]).norm(dim=-1) < 2.5 / self.size_px
            image[near] = torch.tensor(colour, dtype=torch.uint8)
        return image
