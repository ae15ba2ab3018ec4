"""Training that goes on from a finished policy: its weights, a fresh optimiser and schedule."""

from pathlib import Path
from typing import Any

from envs.specs import EmbodimentSpec
from policies.data.differences import differences
from policies.vla_policy import VLAPolicy
from vla.config import VLAConfig


def load_start(path: Path, vla_config: VLAConfig, embodiment: EmbodimentSpec) -> VLAPolicy:
    """The policy of a run, checkpoint or policy directory, to start a network of ``vla_config`` from.

    ``ValueError`` says in what its network differs, or its robot from that of the demonstrations;
    ``CheckpointError`` where there is no whole policy. Sizes of the cameras' pictures may differ, for they are resized.
    """
    policy = VLAPolicy.load(path)
    there = {"network": policy.vla.config.to_dict(), "robot": _robot(policy.embodiment)}
    now = {"network": vla_config.to_dict(), "robot": _robot(embodiment)}
    if differing := differences(there, now):
        raise ValueError(f"training cannot start from {path}, which does not fit:\n{differing}")
    return policy


def _robot(embodiment: EmbodimentSpec) -> dict[str, Any]:
    """What a policy's numbers mean; its cameras are compared by the network's config."""
    about = embodiment.to_dict()
    return {name: about[name] for name in ("control_rate_hz", "state", "action")}
