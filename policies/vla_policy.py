"""A VLA as a policy: raw observations of a robot in, actions in the robot's units out."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from envs.specs import STATE_KEY, TASK_KEY, EmbodimentSpec, image_key
from policies.blocks import BLOCK, in_blocks
from policies.described import described
from policies.device import resolve_device
from policies.network_input import InstructionTokens, network_images
from policies.policy import ChunkPolicy, Plan, Underway, blank_remarks, seen_by
from policies.processors import Normalization
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
    ) -> None:
        """``base`` is the hash of the backbone that its training started from, if from any (:mod:`vla.base`).
        ``replan_interval`` is by default half the horizon. ``blocks`` are the numbers of rows that may go through
        the network at once, ascending: 1 answers a single robot soonest, the default answers each of many alike
        (:mod:`policies.blocks`). ``ValueError`` where network and robot do not fit.
        """
        horizon = vla.config.horizon
        super().__init__(embodiment, horizon, (horizon + 1) // 2 if replan_interval is None else replan_interval)
        check_fit(vla, embodiment)
        self.vla = vla.eval()
        self.normalization = normalization
        self.device = next(vla.parameters()).device
        self.base = base
        self.continues = self.vla.head.goes_on
        self.rows_at_once = max(blocks)
        self._blocks = tuple(blocks)
        self._tokens = InstructionTokens(vla.backbone)
        self._low = torch.tensor(embodiment.action_low, device=self.device)
        self._high = torch.tensor(embodiment.action_high, device=self.device)

    def predict_chunk(self, observation: Mapping[str, Any]) -> Float[Tensor, "n h a"]:
        """Actions within the embodiment's bounds; ``ValueError`` for an observation that does not fit.

        An instruction that is too long is cut, which :meth:`remarks` tells.
        """
        with torch.inference_mode():
            actions = in_blocks(self.vla.act, self._network_observation(observation), self._blocks)
        return self._executable(actions)

    def ask(
        self, observation: Mapping[str, Any], what: Callable[[Observation], Float[Tensor, "n ..."]]
    ) -> Float[Tensor, "n ..."]:
        """``what`` of the observation as the network gets it, asked in blocks; it carries no gradient."""
        with torch.no_grad():
            return in_blocks(what, self._network_observation(observation), self._blocks)

    def plan_on(
        self, state: None, observation: Mapping[str, Any], mask: Bool[Tensor, " n"], underway: Underway
    ) -> tuple[None, Plan]:
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
    ) -> "VLAPolicy":
        """The policy in ``directory``; a checkpoint or a run's directory stands for the policy inside.

        ``replan_interval`` replaces the saved one; ``blocks`` are the constructor's. ``CheckpointError`` where files
        are missing or damaged, ``ValueError`` for a device that torch cannot use here.
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
        return cls(load_vla(directory, device), normalization, embodiment, interval, blocks, base)

    def _executable(self, actions: Float[Tensor, "n h a"]) -> Float[Tensor, "n h a"]:
        """In the robot's units and within its bounds."""
        with torch.inference_mode():
            actions = self.normalization.action.unnormalize(actions.float())
            actions = torch.clamp(actions, self._low, self._high)
        return actions.clone()

    def _network_observation(self, observation: Mapping[str, Any]) -> Observation:
        state = self._state(observation)
        images = torch.stack([self._image(observation, camera, len(state)) for camera in self.vla.config.cameras], 1)
        texts = observation.get(TASK_KEY)
        if not isinstance(texts, list | tuple) or len(texts) != len(state):
            raise ValueError(f"{TASK_KEY}: expected a list of {len(state)} instructions, got {texts!r}")
        text, text_mask = self._tokens(texts, self.device)
        return Observation(
            images=images[:, None],
            view_mask=torch.ones(len(state), 1, images.shape[1], dtype=torch.bool, device=self.device),
            text=text,
            text_mask=text_mask,
            state=self.normalization.state.normalize(state),
        )

    def _state(self, observation: Mapping[str, Any]) -> Float[Tensor, "n d"]:
        state = observation.get(STATE_KEY)
        expected = ("n", self.embodiment.state_dim)
        if not isinstance(state, Tensor) or state.ndim != 2 or state.shape[1] != expected[1]:
            raise ValueError(f"{STATE_KEY}: expected a tensor of shape {expected}, got {described(state)}")
        broken = (~state.isfinite()).any(dim=0).nonzero()[:, 0].tolist()
        if broken:
            raise ValueError(f"{STATE_KEY} is not finite in {[self.embodiment.state[i].name for i in broken]}")
        return state.to(self.device, torch.float32)

    def _image(self, observation: Mapping[str, Any], camera: str, n: int) -> Float[Tensor, "n 3 h w"]:
        key = image_key(camera)
        image: UInt8[Tensor, "n h w 3"] | None = observation.get(key)
        if image is None:
            given = sorted(k for k in observation if k.startswith(image_key("")))
            raise ValueError(f"this policy sees through camera {camera!r}: expected {key!r}, got the images {given}")
        if image.dtype != torch.uint8 or image.ndim != 4 or image.shape[0] != n or image.shape[3] != 3:
            raise ValueError(f"{key}: expected uint8 of shape ({n}, h, w, 3), got {described(image)}")
        return network_images(image.to(self.device), self.vla.config.image_size_px)


def check_fit(vla: VLA, embodiment: EmbodimentSpec) -> None:
    """``ValueError`` unless the network was built for the embodiment's state, action and cameras."""
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


def find_policy(path: Path) -> Path:
    """The policy's directory in a policy, a checkpoint, or the newest whole checkpoint of a run's directory.

    ``CheckpointError`` where there is none, and for a checkpoint that is damaged.
    """
    return find_product(path, POLICY, POLICY_FILE)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
