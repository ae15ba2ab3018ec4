"""Who demonstrates in a recording: the scripted expert, a policy of ours, or an actor of stable-baselines3."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.acting import EXPERT, is_server, load_policy
from configs.environments import seen_as
from configs.serialization import at_home
from configs.worlds import EnvConfig

if TYPE_CHECKING:
    from configs.environments import AnyEnv
    from policies.policy import Policy

SCRIPTED, BASELINES = "scripted", "sb3:"


@dataclass(frozen=True, kw_only=True)
class Demonstrator:
    """Who demonstrates.

    ``name`` tells one from another, wherever it lies; ``env`` are the settings of the worlds that it can see, which
    show what the simulator knows where it is ``privileged``; ``policy_in`` gives the policy that acts in such worlds.
    """

    name: str
    env: EnvConfig
    policy_in: "Callable[[AnyEnv], Policy]"
    privileged: bool = False


def find_demonstrator(source: str, env: EnvConfig) -> Demonstrator:
    """What ``scripted``, a policy's folder or ``sb3:FILE.zip`` means, for worlds of ``env``.

    ``ValueError`` (``CheckpointError``) where there is none, it is damaged, or its cameras are others.
    """
    if source == SCRIPTED:
        from policies.expert import ExpertPolicy

        return Demonstrator(name=EXPERT, env=env, policy_in=ExpertPolicy)
    if is_server(source):
        raise ValueError(f"expected {SCRIPTED}, a policy's folder or {BASELINES}FILE.zip, got the server {source}")
    if source.startswith(BASELINES):
        from policies.stable_baselines import read_actor

        path = at_home(Path(source.removeprefix(BASELINES)))
        actor = read_actor(path)
        name = f"sb3 {content_digest(path)}"
        return Demonstrator(
            name=name, env=env, privileged=actor.privileged, policy_in=lambda worlds: actor.acting(worlds.embodiment)
        )
    return _of_folder(at_home(Path(source)), env)


def try_out(demonstrator: Demonstrator, env: "AnyEnv", seed: int) -> None:
    """Let it act once; ``ValueError`` where the robot, or what there is to see, is not what it expects."""
    from policies.evaluation import check_robot
    from policies.execution import Execution

    policy = demonstrator.policy_in(env)
    check_robot(policy.embodiment, env)
    Execution(policy, env.num_envs).act(env.reset([seed] * env.num_envs))


def _of_folder(path: Path, env: EnvConfig) -> Demonstrator:
    from policies.vla_policy import find_policy

    folder = find_policy(path)
    policy = load_policy(folder, device=env.device or "cpu")
    return Demonstrator(
        name=f"policy {content_digest(folder)}",
        env=seen_as(policy.embodiment, env) if policy.embodiment.cameras else env,
        privileged=policy.privileged,
        policy_in=lambda _: policy,
    )


def content_digest(path: Path) -> str:
    """The SHA-256 of a file, or of the names and contents of a folder's files."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        whole.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode())
    return whole.hexdigest()
