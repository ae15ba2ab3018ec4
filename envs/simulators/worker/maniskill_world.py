"""Tasks of ManiSkill 3, played in their own Python: one world on the CPU, drawn by Vulkan when somebody looks."""

import contextlib
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from .maniskill_expert import Plan, Planner, Progress, advance, towards
from .maniskill_robot import TOOL_MODE, Arm, Joints

STREAMS = ("demonstrate", "learn", "evaluate")
_SEEDS_OF_A_STREAM = 2**30
NOTHING = -1
"""In a segmentation: no thing was hit. ManiSkill says 0."""


class ManiSkillWorld:
    """One world of ``env_id``. ``cameras`` maps our names to ManiSkill's; ``sentences`` are what a policy may be told.

    ``control_mode`` is ManiSkill's, ``render_backend`` its word for what draws ("cpu" or "gpu").
    """

    def __init__(
        self,
        env_id: str,
        control_mode: str,
        cameras: Mapping[str, str],
        sentences: Sequence[str] = ("",),
        goal: str = "",
        image_size_px: int = 128,
        depth: bool = False,
        segmentation: bool = False,
        render: bool = True,
        render_backend: str = "cpu",
    ) -> None:
        import torch

        torch.set_num_threads(1)
        self._cameras, self._sentences, self.goal = dict(cameras), tuple(sentences), goal
        self._depth, self._segmentation, self._render = depth, segmentation, render
        make = partial(_make, env_id, render_backend=render_backend)
        self._env = make(control_mode, image_size_px=image_size_px)
        self._robots = _robots(self._env.agent)
        self._planner = Planner(env_id, partial(make, "pd_joint_pos", image_size_px=16)) if _plans(env_id) else None
        self.instruction, self._seed = self._sentences[0], 0
        self._plan: Plan | None = None
        self._progress = Progress()
        self._been: list[tuple[np.ndarray, np.ndarray]] = []

    @property
    def about(self) -> dict[str, Any]:
        """What the robot is, dimension by dimension, how often it is told something, and what sees it."""
        described = [robot.described() for robot in self._robots]
        theirs = {sensor: [int(camera.config.width), int(camera.config.height)] for sensor, camera in self._sensors()}
        return {
            "control_rate_hz": float(self._env.control_freq),
            "state": [dimension for each in described for dimension in each["state"]],
            "action": [dimension for each in described for dimension in each["action"]],
            "cameras": theirs,
            "expert": self._planner is not None,
        }

    def reset(self, stream: str, seed: int) -> None:
        """Start an episode in a scene made anew, as ManiSkill's evaluations do: it then depends on no earlier one.

        Of ``evaluate``, seed s is ManiSkill's own seed s; seeds of other streams are others.
        """
        self._seed = episode_seed(stream, seed)
        generator = np.random.default_rng([zlib.crc32(b"phrasing"), STREAMS.index(stream), seed])
        self.instruction = self._sentences[int(generator.random() * len(self._sentences))]
        self._env.reset(seed=self._seed, options={"reconfigure": True})
        self._robots = _robots(self._env.agent)
        self._plan, self._progress, self._been = None, Progress(), []
        self._remember()

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """One control step; over once ManiSkill says that it failed, for those tasks that can."""
        self._env.step(self._as_theirs(action))
        self._remember()
        info = self._env.get_info()
        solved, failed = (bool(info[name][0]) if name in info else False for name in ("success", "fail"))
        return float(solved), failed, solved

    def expert_action(self) -> np.ndarray:
        """What ManiSkill's motion planning, made when it is first asked for, would do now."""
        if self._planner is None:
            raise RuntimeError("there is no demonstrator for this task")
        if self._plan is None:
            self._plan = self._planner.plan(self._seed)
            for position, rotation in self._been:
                advance(self._plan, self._progress, position, rotation)
        return towards(self._plan, self._progress, self._arm())

    def observe(self) -> dict[str, np.ndarray]:
        """State, pictures, and how the cameras see and stand."""
        shown = {"observation.state": np.concatenate([robot.state() for robot in self._robots]).astype(np.float32)}
        if self._render:
            self._env.scene.update_render(update_sensors=True, update_human_render_cameras=False)
            for name, called in self._cameras.items():
                shown |= self._picture(name, self._env.scene.sensors[called])
        return shown

    def close(self) -> None:
        """Free the simulator."""
        with contextlib.suppress(Exception):
            self._env.close()

    def _sensors(self) -> list[tuple[str, Any]]:
        return list(self._env.scene.sensors.items())

    def _as_theirs(self, action: np.ndarray) -> Any:
        parts, at = [], 0
        for robot in self._robots:
            parts.append(robot.to_theirs(action[at : at + robot.action_dim]).astype(np.float32))
            at += robot.action_dim
        if len(parts) == 1:
            return parts[0]
        return dict(zip(self._env.agent.agents_dict, parts, strict=True))

    def _arm(self) -> Arm:
        """The one that motion planning is for."""
        robot = self._robots[0]
        if not isinstance(robot, Arm):
            raise RuntimeError("motion planning is for arms that are moved by their tool")
        return robot

    def _remember(self) -> None:
        """Note where the tool has been: how far a plan has come is a matter of that alone, whenever it is made."""
        if self._planner is None:
            return
        been = self._arm().tool_pose()
        self._been.append(been)
        if self._plan is not None:
            advance(self._plan, self._progress, *been)

    def _picture(self, name: str, sensor: Any) -> dict[str, np.ndarray]:
        sensor.capture()
        drawn = sensor.get_obs(rgb=True, depth=self._depth, position=False, segmentation=self._segmentation)
        shown = {f"observation.images.{name}": np.asarray(drawn["rgb"][0].cpu())}
        if self._depth:
            millimetres = np.asarray(drawn["depth"][0, ..., 0].cpu())
            shown[f"observation.depth.{name}"] = (millimetres / 1000).astype(np.float32)
        if self._segmentation:
            things = np.asarray(drawn["segmentation"][0, ..., 0].cpu()).astype(np.int32)
            shown[f"observation.segmentation.{name}"] = np.where(things == 0, NOTHING, things)
        parameters = sensor.get_params()
        T_cam_world = np.eye(4)
        T_cam_world[:3] = np.asarray(parameters["extrinsic_cv"][0].cpu())
        shown[f"observation.cameras.{name}.intrinsics"] = np.asarray(parameters["intrinsic_cv"][0].cpu(), np.float32)
        shown[f"observation.cameras.{name}.T_world_cam"] = np.linalg.inv(T_cam_world).astype(np.float32)
        return shown


def episode_seed(stream: str, seed: int) -> int:
    """ManiSkill's seed of an episode: those of two streams never meet."""
    return (STREAMS[::-1].index(stream)) * _SEEDS_OF_A_STREAM + seed % _SEEDS_OF_A_STREAM


def _robots(agent: Any) -> list[Arm] | list[Joints]:
    agents = list(getattr(agent, "agents", [agent]))
    if all(each.control_mode == TOOL_MODE for each in agents):
        return [Arm(each, f"arm{i}_" if len(agents) > 1 else "") for i, each in enumerate(agents)]
    return [Joints(each) for each in agents]


def _plans(env_id: str) -> bool:
    from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS

    return env_id in MP_SOLUTIONS


def _make(env_id: str, control_mode: str, image_size_px: int, render_backend: str) -> Any:
    """ManiSkill's environment, without wrappers, observations and rewards: those are taken from it when wanted."""
    import gymnasium
    import mani_skill.envs  # noqa: F401
    from mani_skill.utils.registration import REGISTERED_ENVS

    rewards = REGISTERED_ENVS[env_id].cls.SUPPORTED_REWARD_MODES
    made = gymnasium.make(
        env_id,
        obs_mode="none",
        reward_mode="none" if "none" in rewards else "sparse",
        control_mode=control_mode,
        sim_backend="physx_cpu",
        render_backend=render_backend,
        sensor_configs={"width": image_size_px, "height": image_size_px},
        num_envs=1,
    )
    return made.unwrapped


def make_world(**settings: Any) -> ManiSkillWorld:
    """A world, for a worker."""
    return ManiSkillWorld(**settings)
