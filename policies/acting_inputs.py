"""From what a robot shows to what a network takes, and back; acting and learning from reward share it."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from envs.specs import STATE_KEY, TASK_KEY, EmbodimentSpec, depth_key, extrinsics_key, image_key, intrinsics_key
from policies.data.keyframes import tool_dims
from policies.described import described
from policies.network_input import InstructionTokens, checked_depth, network_depth, network_images, network_intrinsics
from policies.processors import Normalization
from vla.model import VLA
from vla.observation import Observation

TEXT, TEXT_MASK, TOOL = "text", "text_mask", "tool"


class ActingInputs:
    """Checks raw observations of a robot and makes network inputs of them; and chunks in the robot's units of actions.

    Images may have any size; they are resized on the network's device.
    """

    def __init__(self, vla: VLA, normalization: Normalization, embodiment: EmbodimentSpec) -> None:
        self.device = next(vla.parameters()).device
        self._config, self._normalization, self._embodiment = vla.config, normalization, embodiment
        self._tokens = InstructionTokens(vla.backbone)
        self._tool = list(tool_dims(embodiment)) if vla.head.aims else None
        self._low = torch.tensor(embodiment.action_low, device=self.device)
        self._high = torch.tensor(embodiment.action_high, device=self.device)

    def take(self, observation: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the network needs of it, as small as it is: images as they are with, where it heeds them, their cameras,
        text as tokens, the state normalised, and where the tool is, where it aims.

        Every tensor has one row per world. ``ValueError`` for an observation that does not fit.
        """
        state = self._state(observation)
        images = {
            image_key(camera): self._image(observation, camera, len(state)).to(self.device)
            for camera in self._config.cameras
        }
        texts = observation.get(TASK_KEY)
        if not isinstance(texts, list | tuple) or len(texts) != len(state):
            raise ValueError(f"{TASK_KEY}: expected a list of {len(state)} instructions, got {texts!r}")
        text, text_mask = self._tokens(texts, self.device)
        cameras = self._cameras(observation, len(state)) if self._config.needs_cameras else {}
        if self._config.needs_depth:
            cameras |= {depth_key(c): self._depth(observation, c, images[image_key(c)]) for c in self._config.cameras}
        tool = {} if self._tool is None else {TOOL: state[:, self._tool]}
        state = self._normalization.state.normalize(state)
        return {**images, **cameras, **tool, TEXT: text, TEXT_MASK: text_mask, STATE_KEY: state}

    def observation(self, taken: Mapping[str, Tensor]) -> Observation:
        """What :meth:`take` gave, or some rows of it, as the network's input."""
        of_times = {key: taken[key][:, None] for key in self.pictured}
        there = torch.ones(len(taken[STATE_KEY]), 1, dtype=torch.bool, device=self.device)
        return self.looking_back(taken, of_times, there, None)

    def looking_back(
        self,
        taken: Mapping[str, Tensor],
        of_times: Mapping[str, Tensor],
        there: Bool[Tensor, "n t"],
        age_s: Float[Tensor, "n t"] | None,
    ) -> Observation:
        """The network's input for several times: ``of_times`` has what is :attr:`pictured` ``(n, t, …)``, the present
        last; which times ``there`` are, and how long ago. The rest is as :meth:`take` gave it.
        """
        side, cameras = self._config.image_size_px, self._config.cameras
        images = torch.stack([network_images(of_times[image_key(camera)], side) for camera in cameras], 2)
        return Observation(
            images=images,
            view_mask=there[:, :, None].expand(-1, -1, len(cameras)).contiguous(),
            text=taken[TEXT],
            text_mask=taken[TEXT_MASK],
            state=taken[STATE_KEY],
            **(self._calibration(of_times) if self._config.needs_cameras else {}),
            depth=self._depths(of_times) if self._config.needs_depth else None,
            age_s=age_s,
            tool_m=taken.get(TOOL),
        )

    @property
    def pictured(self) -> tuple[str, ...]:
        """Keys of what cameras give, in what :meth:`take` gives."""
        keys = (image_key,)
        keys += (intrinsics_key, extrinsics_key) if self._config.needs_cameras else ()
        keys += (depth_key,) if self._config.needs_depth else ()
        return tuple(key(camera) for key in keys for camera in self._config.cameras)

    def executable(self, actions: Float[Tensor, "n h a"]) -> Float[Tensor, "n h a"]:
        """Normalised actions in the robot's units and within its bounds."""
        actions = self._normalization.action.unnormalize(actions.float())
        return torch.clamp(actions, self._low, self._high)

    def _cameras(self, observation: Mapping[str, Any], n: int) -> dict[str, Tensor]:
        """Where they stand and how they see, by the keys of the observation."""
        sides = {intrinsics_key: 3, extrinsics_key: 4}
        keys = {key(camera): side for camera in self._config.cameras for key, side in sides.items()}
        return {key: self._matrix(observation, key, n, side) for key, side in keys.items()}

    def _calibration(self, of_times: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of the pictures that the network sees, ``(n, t, v, …)``."""
        intrinsics, cameras = [], self._config.cameras
        for camera in cameras:
            height, width = of_times[image_key(camera)].shape[2:4]
            matrix = of_times[intrinsics_key(camera)]
            intrinsics.append(network_intrinsics(matrix, (height, width), self._config.image_size_px))
        poses = [of_times[extrinsics_key(camera)] for camera in cameras]
        return {"intrinsics": torch.stack(intrinsics, 2), "T_world_cam": torch.stack(poses, 2)}

    def _depths(self, of_times: Mapping[str, Tensor]) -> Float[Tensor, "n t v h w"]:
        side = self._config.image_size_px
        return torch.stack([network_depth(of_times[depth_key(c)], side) for c in self._config.cameras], 2)

    def _depth(self, observation: Mapping[str, Any], camera: str, image: Tensor) -> Float[Tensor, "n h w"]:
        """In metres, of the size of the camera's picture: see :func:`policies.network_input.checked_depth`."""
        key, shape = depth_key(camera), tuple(image.shape[:3])
        depth_m = observation.get(key)
        if not isinstance(depth_m, Tensor) or depth_m.shape != shape:
            raise ValueError(f"this policy sees in depth: expected {key!r} of shape {shape}, got {described(depth_m)}")
        return checked_depth(depth_m.to(self.device, torch.float32), key)

    def _matrix(self, observation: Mapping[str, Any], key: str, n: int, side: int) -> Float[Tensor, "n s s"]:
        matrix = observation.get(key)
        if not isinstance(matrix, Tensor) or matrix.shape != (n, side, side):
            raise ValueError(
                f"this policy must know its cameras: expected {key!r} of shape {(n, side, side)}, "
                f"got {described(matrix)}"
            )
        if not bool(matrix.isfinite().all()):
            raise ValueError(f"{key} is not finite")
        return matrix.to(self.device, torch.float32)

    def _state(self, observation: Mapping[str, Any]) -> Float[Tensor, "n d"]:
        state = observation.get(STATE_KEY)
        expected = ("n", self._embodiment.state_dim)
        if not isinstance(state, Tensor) or state.ndim != 2 or state.shape[1] != expected[1]:
            raise ValueError(f"{STATE_KEY}: expected a tensor of shape {expected}, got {described(state)}")
        broken = (~state.isfinite()).any(dim=0).nonzero()[:, 0].tolist()
        if broken:
            raise ValueError(f"{STATE_KEY} is not finite in {[self._embodiment.state[i].name for i in broken]}")
        return state.to(self.device, torch.float32)

    def _image(self, observation: Mapping[str, Any], camera: str, n: int) -> UInt8[Tensor, "n h w 3"]:
        key = image_key(camera)
        image: UInt8[Tensor, "n h w 3"] | None = observation.get(key)
        if image is None:
            given = sorted(k for k in observation if k.startswith(image_key("")))
            raise ValueError(f"this policy sees through camera {camera!r}: expected {key!r}, got the images {given}")
        if image.dtype != torch.uint8 or image.ndim != 4 or image.shape[0] != n or image.shape[3] != 3:
            raise ValueError(f"{key}: expected uint8 of shape ({n}, h, w, 3), got {described(image)}")
        return image
