"""From windows of demonstrations to what a network learns from."""

from collections.abc import Sequence
from dataclasses import replace

from envs.specs import EmbodimentSpec
from policies.data.keyframes import tool_dims
from policies.data.windows import WindowBatch
from policies.keyframe_targets import KeyframeTargets
from policies.narration import Narrator
from policies.network_input import checked_depth, network_depth, network_images, network_intrinsics
from policies.processors import Normalization
from policies.training.augment import AugmentConfig, Disturbance
from policies.training.group import Part
from vla.heads.chat import ChatHead
from vla.model import VLA
from vla.observation import ActionChunk, Observation


class TrainingInputs:
    """Puts batches on the network's device: resized, disturbed, tokenised, normalised.

    For a head that tells, with what is to be said of each chunk: ``ValueError`` where that cannot be said of actions of
    the ``embodiment``; for one that aims, with keyframes.
    """

    def __init__(
        self,
        vla: VLA,
        instructions: Sequence[str],
        augment: AugmentConfig,
        seed: int,
        embodiment: EmbodimentSpec,
    ) -> None:
        self.device = next(vla.parameters()).device
        self._config, self._augment, self._seed = vla.config, augment, seed
        self._rate_hz = embodiment.control_rate_hz
        vla.backbone.check_texts(instructions)
        text, text_mask = vla.backbone.tokenize(instructions)
        self._text, self._text_mask = text.to(self.device), text_mask.to(self.device)
        self._keyframes = KeyframeTargets(embodiment) if vla.head.aims else None
        self._tool = list(tool_dims(embodiment)) if vla.head.aims else None
        self._narrator = None
        if isinstance(vla.head, ChatHead):
            self._narrator = Narrator(embodiment)
            told, told_mask = vla.head.answer_tokens(vla.backbone, self._narrator.sentences)
            self._told, self._told_mask = told.to(self.device), told_mask.to(self.device)

    def __call__(
        self, batch: WindowBatch, step: int, normalization: Normalization, part: Part | None = None
    ) -> tuple[Observation, ActionChunk]:
        """The batch of optimiser step ``step``, or a ``part`` of it; the step decides the disturbance of its images,
        which is one for all times of a view.
        """
        images = network_images(batch.images.to(self.device, non_blocking=True), self._config.image_size_px)
        b, t, v = images.shape[:3]
        drawn = (part or Part(0, b, b)).of_each(v)
        disturbance = Disturbance.draw(self._augment, drawn.whole, self._seed, step).of(drawn.rows).over_times(b, t)
        images = disturbance.apply(images.flatten(0, 2)).reshape(images.shape)
        depth_m = intrinsics = T_world_cam = None
        if batch.depth is not None:
            depth_m = checked_depth(batch.depth, "the demonstrations' depth")
            depth_m = network_depth(depth_m.to(self.device), self._config.image_size_px)
            depth_m = disturbance.shifted(depth_m.flatten(0, 2)[:, None]).view(depth_m.shape)
        if batch.intrinsics is not None and batch.T_world_cam is not None:
            size_px, (height, width) = self._config.image_size_px, batch.images.shape[3:5]
            intrinsics = network_intrinsics(batch.intrinsics.to(self.device), (height, width), size_px)
            intrinsics = disturbance.of_cameras(intrinsics.flatten(0, 2), size_px).reshape(intrinsics.shape)
            T_world_cam = batch.T_world_cam.to(self.device)
        state, actions = batch.state.to(self.device), batch.actions.to(self.device)
        text = batch.text.to(self.device)
        observation = Observation(
            images=images,
            view_mask=batch.there.to(self.device)[:, :, None].expand(-1, -1, v).contiguous(),
            text=self._text[text],
            text_mask=self._text_mask[text],
            state=normalization.state.normalize(state),
            depth=depth_m,
            intrinsics=intrinsics,
            T_world_cam=T_world_cam,
            age_s=batch.age_steps.to(self.device) / self._rate_hz if self._config.history.looks_back else None,
            tool_m=None if self._tool is None else state[:, self._tool],
        )
        waypoint = None
        if self._config.waypoint_dims:
            keyframe = normalization.state.normalize(batch.keyframe_state.to(self.device))
            waypoint = keyframe[:, list(self._config.waypoint_dims)]
        normalized = normalization.action.normalize(actions)
        valid = batch.valid.to(self.device)
        target = ActionChunk(actions=normalized, valid=valid, waypoint=waypoint)
        if self._keyframes is not None:
            target = replace(target, keyframe=self._keyframes(batch, self.device))
        if self._narrator is not None:
            said = self._narrator.said_of(actions, valid)
            target = replace(target, told=self._told[said], told_mask=self._told_mask[said])
        return observation, target
