"""What acts in an evaluation: a checkpoint, a policy server, or the simulator's scripted expert."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.environments import EnvConfig, Split, make_env, seen_as
from configs.machine import check_device
from policies.serving.client import ClientConfig

if TYPE_CHECKING:
    from envs.vector import TaskEnv
    from policies.policy import Policy

EXPERT = "expert"
SERVER_SCHEMES = ("ws://", "wss://")
_CAMERAS = ("image_size_px", "depth", "segmentation")


def is_server(source: str | Path) -> bool:
    """Whether ``source`` is a policy server's address."""
    return str(source).startswith(SERVER_SCHEMES)


def load_policy(
    source: str | Path,
    *,
    device: str = "cpu",
    threads: int = 0,
    replan_interval: int | None = None,
    client: ClientConfig | None = None,
) -> "Policy":
    """The policy of a run's folder, of one of its checkpoints, or behind a server's ``ws://`` address.

    ``replan_interval`` replaces the policy's own; ``client`` says how to talk to a server. ``CheckpointError`` (a
    ``ValueError``) says what is wrong with a folder, ``ServerUnavailableError`` that nobody answers.
    """
    if is_server(source):
        from policies.remote import RemotePolicy
        from policies.serving.client import PolicyClient

        return RemotePolicy([PolicyClient(replace(client or ClientConfig(), url=str(source)))], replan_interval)

    import torch

    from policies.vla_policy import VLAPolicy

    if threads:
        torch.set_num_threads(threads)
    check_device(device)
    return VLAPolicy.load(source, device, replan_interval)


class Actor:
    """Makes the environment and the policy that belong together, task by task.

    A checkpoint or a server serves every task and decides what the cameras must look like; the expert is made
    anew for each environment, from which it reads the simulator.
    """

    def __init__(
        self,
        source: str | Path,
        env: EnvConfig,
        *,
        device: str = "cpu",
        threads: int = 0,
        replan_interval: int | None = None,
        client: ClientConfig | None = None,
    ) -> None:
        self.is_expert = str(source) == EXPERT
        self._policy: Policy | None = None
        self._env = env
        if not self.is_expert:
            self._policy = load_policy(
                source, device=device, threads=threads, replan_interval=replan_interval, client=client
            )
            self._env = seen_as(self._policy.embodiment, env)
            check_cameras(env, self._env)

    def enter(
        self, task: str, num_envs: int, split: Split, perturbation: str | None = None
    ) -> "tuple[TaskEnv, Policy]":
        """Worlds of ``task``, of the stream ``evaluate``, and what acts in them; the caller closes the environment.

        ``perturbation`` (PRESET:AXIS) replaces the one of the settings.
        """
        from policies.expert import ExpertPolicy

        config = replace(self._env, perturbation=perturbation or self._env.perturbation)
        env = make_env(task, num_envs, stream="evaluate", split=split, config=config)
        return env, self._policy or ExpertPolicy(env)


def check_cameras(asked: EnvConfig, seen: EnvConfig) -> None:
    """``ValueError`` if cameras were asked for (other than the usual ones) that the policy does not see through."""
    usual = {field.name: field.default for field in fields(EnvConfig)}
    for name in _CAMERAS:
        given, needed = getattr(asked, name), getattr(seen, name)
        if given not in (usual[name], needed):
            raise ValueError(f"the policy's cameras have {name} {needed}, and env.{name} {given} would change nothing")
