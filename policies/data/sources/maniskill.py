"""ManiSkill's HDF5: ``traj_0``, … with ``actions[T]``, ``success[T]``, ``obs[T + 1]``, and a JSON file beside it."""

import json
import re
from pathlib import Path
from typing import Any

import h5py

from policies.data.layout import DatasetError
from policies.data.sources.hdf5 import EpisodeGroups, arrays_in, feature_of, group_in, length_of, open_file
from policies.data.sources.robomimic import words_of
from policies.data.sources.source import Feature, Proposal, Told

TRAJECTORY = re.compile(r"traj_\d+")
ACTIONS = "actions"
STATE = ("obs/agent/qpos", "obs/extra/tcp_pose")
RATE_HZ = 20.0
"""ManiSkill's control_freq where nobody sets another."""
ALONG = ("actions", "rewards", "success", "fail", "terminated", "truncated")


class ManiSkillFile(EpisodeGroups):
    """The trajectories of one file. The last of T + 1 observations, at which nothing was done, is left out.

    Depth (millimetres, int16) and poses of cameras are features like others; env_states are the simulator's and none.
    """

    format = "maniskill"
    rate_hz = None
    told_by = frozenset({"success", "fail", "terminated", "truncated"})

    def __init__(self, path: Path) -> None:
        file = open_file(path)
        names = sorted(filter(TRAJECTORY.fullmatch, map(str, file)), key=lambda name: int(name[5:]))
        if not names:
            raise DatasetError(f"{path} has no trajectories: expected groups traj_0, …, got {list(file)[:5]}")
        groups = [group_in(file, name) for name in names]
        super().__init__(path, file, names, [length_of(group, ACTIONS) for group in groups])
        self._json = path.with_suffix(".json")
        self._information, self._seeds = self._read_json()
        found = [
            feature_of(key, a) for key, a in arrays_in(groups[0]) if key in ALONG or key.partition("/")[0] == "obs"
        ]
        self.features: dict[str, Feature] = {feature.key: feature for feature in found if feature}
        if not any(key.partition("/")[0] == "obs" for key in self.features):
            raise DatasetError(
                f"{path} has no observations (obs_mode none): replay it with some, by ManiSkill's "
                "mani_skill.trajectory.replay_trajectory --obs-mode rgb --save-traj"
            )
        self.about: dict[str, Any] = {"env_info": self._information, "trajectories": len(names)}

    def told(self, number: int) -> Told:
        """A trajectory succeeds where ``success`` holds at its end; all do without it."""
        success = bool(self.numbers(number, "success")[-1]) if "success" in self.features else True
        id_ = int(self.names[number].removeprefix("traj_"))
        return Told(success=success, seed=self._seeds.get(id_, id_))

    def proposal(self) -> Proposal:
        state = tuple(key for key in STATE if key in self.features) or (("obs",) if "obs" in self.features else ())
        kwargs = self._information.get("env_kwargs", {})
        rate = kwargs.get("sim_config", {}).get("control_freq") if isinstance(kwargs.get("sim_config"), dict) else None
        name, robot = str(self._information.get("env_id", "")), kwargs.get("robot_uids", "")
        return Proposal(
            state=state,
            action=(ACTIONS,),
            name=robot if isinstance(robot, str) else "",
            control_rate_hz=float(rate or RATE_HZ),
            instruction=words_of(name) if name else None,
            why={
                "name": "env_kwargs: robot_uids" if robot else "guessed",
                "control_rate_hz": "sim_config: control_freq"
                if rate
                else "guessed: ManiSkill's own, where none is set",
                "instruction": f"guessed: the environment is called {name!r}",
                "keys.state": "joints, and the tool's pose (m, quaternion wxyz)" if len(state) > 1 else "guessed",
            },
        )

    def _read_json(self) -> tuple[dict[str, Any], dict[int, int]]:
        """What the file beside says of the environment, and every trajectory's seed; nothing where there is none."""
        if not self._json.is_file():
            return {}, {}
        try:
            content = json.loads(self._json.read_text(encoding="utf-8"))
            seeds = {int(e["episode_id"]): _seed(e) for e in content["episodes"]}
            return dict(content.get("env_info") or {}), {id_: seed for id_, seed in seeds.items() if seed is not None}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{self._json} is corrupt: {error!r}") from error


def _seed(episode: dict[str, Any]) -> int | None:
    """The one that it was reset with, or says itself; newer versions keep lists of one."""
    seed = episode.get("episode_seed", (episode.get("reset_kwargs") or {}).get("seed"))
    seed = seed[0] if isinstance(seed, list) and seed else seed
    return int(seed) if isinstance(seed, int) else None


def is_maniskill(file: h5py.File) -> bool:
    """Whether the file is laid out so."""
    return any(map(TRAJECTORY.fullmatch, map(str, file)))
