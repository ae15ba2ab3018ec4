"""Training that goes on from what was learned before: a finished policy, or a backbone that has learned to look."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.specs import EmbodimentSpec
from policies.data.differences import differences
from policies.keyframe_policy import load_vla_policy
from policies.training.checkpoint import BACKBONE, find_product
from policies.vla_policy import VLAPolicy
from vla.adopting import check_base, extended
from vla.base import Base, load_base
from vla.config import VLAConfig
from vla.model import VLA
from vla.saving import WEIGHTS_FILE
from vla.shipped import shipped_for


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run starts from, at most one of the two: a run, checkpoint or policy directory, with everything in it; or
    those of a pre-training, whose backbone is taken over as far as it fits. ``ValueError`` for both. With neither, the
    config of the network's backbone says it.
    """

    policy: Path | None = None
    backbone: Path | None = None

    def __post_init__(self) -> None:
        if self.policy is not None and self.backbone is not None:
            raise ValueError(
                f"training starts from a whole policy or from a backbone, got both {self.policy} and {self.backbone}"
            )

    def load(self, vla_config: VLAConfig, embodiment: EmbodimentSpec) -> VLAPolicy | Base | None:
        """What there is to start from; None for fresh weights. ``ValueError`` where it does not fit,
        ``CheckpointError`` where there is nothing whole.
        """
        if self.policy is not None:
            return load_start(self.policy, vla_config, embodiment)
        if self.backbone is not None:
            base = load_base(find_product(self.backbone, BACKBONE, WEIGHTS_FILE))
            check_base(vla_config.backbone, base, VLA(vla_config).backbone.vocabulary)
            return base
        if vla_config.backbone.weights == "shipped":
            return shipped_for(vla_config.backbone, VLA(vla_config).backbone.vocabulary)
        return None


def load_start(path: Path, vla_config: VLAConfig, embodiment: EmbodimentSpec) -> VLAPolicy:
    """The policy of a run, checkpoint or policy directory, to start a network of ``vla_config`` from.

    ``ValueError`` says in what its network differs, but for what that of ``vla_config`` may have beyond it
    (:func:`vla.adopting.extended`), or its robot from that of the demonstrations;
    ``CheckpointError`` where there is no whole policy. Sizes of the cameras' pictures may differ, for they are resized.
    """
    policy = load_vla_policy(path)
    known, _ = extended(policy.vla.config, vla_config)
    there = {"network": known.to_dict(), "robot": _robot(policy.embodiment)}
    now = {"network": vla_config.to_dict(), "robot": _robot(embodiment)}
    if differing := differences(there, now):
        raise ValueError(f"training cannot start from {path}, which does not fit:\n{differing}")
    return policy


def check_robot(what: str, policy: VLAPolicy, embodiment: EmbodimentSpec) -> None:
    """``ValueError`` that begins with ``what`` unless the policy acts with the robot of the demonstrations."""
    if differing := differences(_robot(policy.embodiment), _robot(embodiment)):
        raise ValueError(f"{what}, its robot is another than that of the demonstrations:\n{differing}")


def _robot(embodiment: EmbodimentSpec) -> dict[str, Any]:
    """What a policy's numbers mean; its cameras are compared by the network's config."""
    about = embodiment.to_dict()
    return {name: about[name] for name in ("control_rate_hz", "state", "action")}
