"""Training that goes on from a finished policy: its weights, a fresh optimiser and schedule."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from envs.specs import EmbodimentSpec
from policies.vla_policy import VLAPolicy
from vla.config import VLAConfig


def load_start(path: Path, vla_config: VLAConfig, embodiment: EmbodimentSpec) -> VLAPolicy:
    """The policy of a run, checkpoint or policy directory, to start a network of ``vla_config`` from.

    ``ValueError`` lists all in which its network differs, or its robot from that of the demonstrations;
    ``CheckpointError`` where there is no whole policy. Sizes of the cameras' pictures may differ, for they are resized.
    """
    policy = VLAPolicy.load(path)
    differences = [
        *_differences(policy.vla.config.to_dict(), vla_config.to_dict(), "network"),
        *_differences(_robot(policy.embodiment), _robot(embodiment), "robot"),
    ]
    if differences:
        raise ValueError(f"training cannot start from {path}, which does not fit:\n  " + "\n  ".join(differences))
    return policy


def _robot(embodiment: EmbodimentSpec) -> dict[str, Any]:
    """What a policy's numbers mean; its cameras are compared by the network's config."""
    about = embodiment.to_dict()
    return {
        "control_rate_hz": about["control_rate_hz"],
        **{name: {str(index): dim for index, dim in enumerate(about[name])} for name in ("state", "action")},
    }


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], where: str) -> Iterator[str]:
    for name in sorted(theirs.keys() | ours.keys()):
        a, b, place = theirs.get(name), ours.get(name), f"{where}.{name}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _differences(a, b, place)
        elif a != b:
            yield f"{place}: {a!r} there, {b!r} here"
