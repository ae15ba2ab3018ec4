"""A VLA as a policy: raw observations of a robot in, actions in the robot's units out."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.specs import EmbodimentSpec
from policies.acting_inputs import ActingInputs
from policies.blocks import BLOCK, in_blocks
from policies.device import resolve_device
from policies.network_input import check_depth
from policies.policy import ChunkPolicy, Plan, Underway, blank_remarks, seen_by
from policies.processors import Normalization
from policies.shipped import FOLDER, SHIPPED
from policies.training.checkpoint import POLICY, find_product
from vla.checkpoint import CheckpointError
from vla.durable import write_text_atomically
from vla.model import VLA
from vla.observation import Begun, Observation
from vla.saving import load_vla, save_vla
from vla.strict_json import strict_json

POLICY_FILE = "policy.json"
FORMAT_VERSION = 2
_SHOWN_CHARACTERS = 400


class VLAPolicy(ChunkPolicy):
    """A network with what it needs to act: normalisers, embodiment, cameras in the order of its views.

    Its directory holds the network's ``config.json`` and ``model.safetensors``, and ``policy.json`` for the
    rest. Images may have any size; they are resized on the network's device.
    """

    def __init__(
        self,
        vla: VLA,
        normalization: Normalization,
        embodiment: EmbodimentSpec,
        replan_interval: int | None = None,
        blocks: Sequence[int] = (BLOCK,),
        base: str | None = None,
        answer: bool = True,
    ) -> None:
        """``base`` is the hash of the backbone that its training started from, if from any (:mod:`vla.base`).
        ``replan_interval`` is by default half the horizon. ``blocks`` are the numbers of rows that may go through
        the network at once, ascending: 1 answers a single robot soonest, the default answers each of many alike
        (:mod:`policies.blocks`). Without ``answer`` a head that tells what it does acts at once instead, which is
        faster. ``ValueError`` where network and robot do not fit.
        """
        horizon = self.longest_plan(vla)
        interval = self.usual_interval(vla, horizon) if replan_interval is None else replan_interval
        super().__init__(embodiment, horizon, interval)
        if vla.config.history.looks_back and not self.remembers:
            raise ValueError(
                f"the network is shown {vla.config.history.frames} frames of a history; this would show it the present "
                "alone"
            )
        check_fit(vla, embodiment)
        self.vla = vla.eval()
        self.normalization = normalization
        self.device = next(vla.parameters()).device
        self.base = base
        self.continues, self.calibrated = self.vla.head.goes_on, vla.config.needs_cameras
        self.answers = answer and self.vla.head.tells
        self.rows_at_once = max(blocks)
        self._blocks = tuple(blocks)
        self.inputs = ActingInputs(vla, normalization, embodiment)

    @staticmethod
    def longest_plan(vla: VLA) -> int:
        """The actions of a plan."""
        return vla.config.horizon

    @classmethod
    def usual_interval(cls, vla: VLA, horizon: int) -> int:
        """How many actions of a plan are executed where nobody says it: half of them."""
        return (horizon + 1) // 2

    def predict_chunk(self, observation: Mapping[str, Any]) -> Float[Tensor, "n h a"]:
        """Actions within the embodiment's bounds; ``ValueError`` for an observation that does not fit.

        An instruction that is too long is cut, which :meth:`remarks` tells.
        """
        return self._decide(self._network_observation(observation))[0]

    def plan(self, state: Any, observation: Mapping[str, Any], mask: Bool[Tensor, " n"]) -> tuple[Any, Plan]:
        """With what the policy says of it, where it ``answers``."""
        state, seen = self._look(state, observation, mask)
        chunk, answers = self._decide(seen)
        plan = self.plan_of(chunk, mask)
        if not self.answers:
            return state, plan
        texts = iter(answers)
        return state, plan._replace(answers=tuple(next(texts) if asked else "" for asked in mask.tolist()))

    def ask(
        self, observation: Mapping[str, Any], what: Callable[[Observation], Float[Tensor, "n ..."]]
    ) -> Float[Tensor, "n ..."]:
        """``what`` of the observation as the network gets it, asked in blocks; it carries no gradient."""
        with torch.no_grad():
            return in_blocks(what, self._network_observation(observation), self._blocks)

    def plan_on(
        self, state: Any, observation: Mapping[str, Any], mask: Bool[Tensor, " n"], underway: Underway
    ) -> tuple[Any, Plan]:
        """Real-time chunking (:mod:`vla.heads.real_time`) where the head can go on: the first ``delay`` actions are
        those under way, and the rest does not stray far from what was still planned.
        """
        if not self.continues:
            return self.plan(state, observation, mask)
        actions, length, delay = (each[mask.to(each.device)].to(self.device) for each in underway)
        known = torch.zeros(len(actions), self.horizon, self.embodiment.action_dim, device=self.device)
        kept = min(self.horizon, actions.shape[1])
        known[:, :kept] = actions[:, :kept]
        length = length.clamp(max=self.horizon)
        begun = Begun(
            actions=self.normalization.action.normalize(known), fixed=torch.minimum(delay, length), known=length
        )
        with torch.inference_mode():
            chunk = in_blocks(
                self.vla.go_on, self._network_observation(seen_by(observation, mask)), self._blocks, begun
            )
        return None, self.plan_of(self._executable(chunk), mask)

    def remarks(self, instructions: Sequence[str]) -> list[str]:
        """Which instructions are empty or longer than the network's text window, and what is cut off them."""
        window, found = self.vla.backbone.text_window, blank_remarks(instructions)
        for text in dict.fromkeys(instructions):
            if lost := self.vla.backbone.lost_words(text):
                found.append(
                    f"the instruction {_shortened(text)!r} is longer than the {window} tokens that the policy reads; "
                    f"it does not see {_shortened(lost)!r}"
                )
        return found

    def save(self, directory: Path | str) -> None:
        """Write the policy; :meth:`load` is the inverse."""
        directory = Path(directory)
        save_vla(self.vla, directory)
        content = {
            "format_version": FORMAT_VERSION,
            "embodiment": self.embodiment.to_dict(),
            "normalization": self.normalization.to_dict(),
            "replan_interval": self.replan_interval,
            "base": self.base,
        }
        write_text_atomically(directory / POLICY_FILE, strict_json(content, indent=2) + "\n")

    @classmethod
    def load(
        cls,
        directory: Path | str,
        device: torch.device | str = "cpu",
        replan_interval: int | None = None,
        blocks: Sequence[int] = (BLOCK,),
        answer: bool = True,
    ) -> "VLAPolicy":
        """The policy in ``directory``; a checkpoint or a run's directory stands for the policy inside.

        ``replan_interval`` replaces the saved one; ``blocks`` and ``answer`` are the constructor's. ``CheckpointError``
        where files are missing or damaged, ``ValueError`` for a device that torch cannot use here.
        """
        resolve_device(str(device))
        directory = find_policy(Path(directory))
        path = directory / POLICY_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format_version"] != FORMAT_VERSION:
                raise CheckpointError(
                    f"{path} has format {content['format_version']}, this version reads {FORMAT_VERSION} alone; "
                    "train the policy again, or act with the version that wrote it"
                )
            embodiment = EmbodimentSpec.from_dict(content["embodiment"])
            normalization = Normalization.from_dict(content["normalization"])
            interval = int(content["replan_interval"])
            base = content.get("base")
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{path} is damaged: {error!r}") from error
        interval = interval if replan_interval is None else replan_interval
        return cls(load_vla(directory, device), normalization, embodiment, interval, blocks, base, answer)

    def _look(self, state: Any, observation: Mapping[str, Any], mask: Bool[Tensor, " n"]) -> tuple[Any, Observation]:
        """What the network is shown of the worlds in ``mask``, and what to remember."""
        return state, self._network_observation(seen_by(observation, mask))

    def _decide(self, seen: Observation) -> tuple[Float[Tensor, "n h a"], list[str]]:
        """The actions of every world in the observation, and what is said of them, if anything."""
        told: list[str] = []

        def speak(block: Observation) -> Float[Tensor, "b h a"]:
            chunk, ids = self.vla.speak(block)
            told.extend(self.vla.backbone.read(ids))
            return chunk

        with torch.inference_mode():
            chunk = in_blocks(speak if self.answers else self.vla.act, seen, self._blocks)
        return self._executable(chunk), told[: len(chunk)]

    def _executable(self, actions: Float[Tensor, "n h a"]) -> Float[Tensor, "n h a"]:
        """In the robot's units and within its bounds."""
        with torch.inference_mode():
            actions = self.inputs.executable(actions)
        return actions.clone()

    def _network_observation(self, observation: Mapping[str, Any]) -> Observation:
        return self.inputs.observation(self.inputs.take(observation))


def check_fit(vla: VLA, embodiment: EmbodimentSpec) -> None:
    """``ValueError`` unless the network was built for the embodiment's state, action and cameras, with depth where it
    needs that.
    """
    config = vla.config
    for name, ours, theirs in (
        ("state", config.state_dim, embodiment.state_dim),
        ("action", config.action_dim, embodiment.action_dim),
    ):
        if ours != theirs:
            raise ValueError(f"the network has {ours} {name} dimensions, {embodiment.name} has {theirs}")
    missing = sorted(set(config.cameras) - set(embodiment.camera_names))
    if missing:
        raise ValueError(f"{embodiment.name} has no cameras {missing}; its cameras are {list(embodiment.camera_names)}")
    if config.needs_depth:
        check_depth(embodiment, config.cameras)


def find_policy(path: Path) -> Path:
    """The policy's directory in a policy, a checkpoint, or the newest whole checkpoint of a run's directory;
    :data:`~policies.shipped.SHIPPED`, unless there is a folder of that name, stands for the package's own.

    ``CheckpointError`` where there is none, and for a checkpoint that is damaged.
    """
    if path == Path(SHIPPED) and not path.exists():
        path = FOLDER
    return find_product(path, POLICY, POLICY_FILE)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
