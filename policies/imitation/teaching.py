"""What a run learns beside the demonstrations' actions: the teachers and objectives that its settings name."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from envs.specs import EmbodimentSpec
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.further import ALIGN, COSINE, LAYERS, TeachersConfig
from policies.imitation.taught import AskedAnew, AskedOnce, History, Sentences, Source, TaughtFrames
from policies.imitation.teachers import (
    EncoderPictures,
    HiddenStates,
    PolicyPictures,
    Teacher,
    TeacherPolicy,
    is_policy,
)
from policies.processors import Normalization
from policies.training.group import Group
from vla.backbones.vlm.locate import locate
from vla.backbones.vlm.pretrained import read_architecture
from vla.model import VLA
from vla.objectives.align import HIDDEN, Align, check_alignment
from vla.objectives.embedding import CELLS, PICTURE, SENTENCE, Cosine, Layers
from vla.objectives.further import FurtherObjective
from vla.objectives.surprise import HISTORY, Surprise
from vla.picture_encoder import PictureEncoder
from vla.sentence_encoder import SentenceEncoder


class Teaching:
    """The objectives ``names`` of a run, with the teachers that they need, on ``device``.

    Making it reads the teachers. ``ValueError`` where one is not named, is nothing of the kind (``CheckpointError``),
    or has not what is to be learned of it.
    """

    def __init__(
        self, config: TeachersConfig, names: Sequence[str], vla: VLA, device: torch.device | str = "cpu"
    ) -> None:
        self._config, self._device, self._cameras = config, device, vla.config.cameras
        self.policy = self._policy(config.policy, ALIGN) if ALIGN in names else None
        self._encoder = self._encoder_of(names) if {LAYERS, COSINE} & {*names} else None
        self._teachers: dict[str, Teacher] = {}
        self.objectives: dict[str, FurtherObjective] = {}
        for name in names:
            self.objectives[name] = self._objective(name, vla)

    def check(self, embodiment: EmbodimentSpec, instructions: Sequence[str]) -> None:
        """``ValueError`` unless the teachers fit the robot and the words of the demonstrations."""
        for teacher in (self.policy, self._encoder):
            if isinstance(teacher, TeacherPolicy):
                teacher.check(embodiment, instructions)

    @torch.no_grad()
    def hand_over(self, vla: VLA) -> Normalization | None:
        """Give the head the last layer of the policy whose hidden states are to be matched, where the shapes are the
        same; what the network's numbers must mean to go with it. None where there is no such policy.
        """
        if self.policy is None:
            return None
        ours, theirs = (each.head.last.state_dict() for each in (vla, self.policy.policy.vla))
        if {name: x.shape for name, x in ours.items()} == {name: x.shape for name, x in theirs.items()}:
            vla.head.last.load_state_dict(theirs)
        return self.policy.policy.normalization

    def about(self, demonstrations: Demonstrations) -> TaughtFrames:
        """What is taught about the demonstrations; where it is to be kept, all that is missing is made now."""
        sources = {name: self._source(name, demonstrations) for name in self._needed}
        needs = {name: objective.needs for name, objective in self.objectives.items()}
        return TaughtFrames(sources, needs, torch.device(self._device))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decides what is learned, JSON-ready: the teachers by what they are, not where they lie."""
        said = {name: teacher.about for name, teacher in self._teachers.items()}
        if SENTENCE in self._needed:
            said[SENTENCE] = {"teacher": self._reader.fingerprint}
        chosen = {name: asdict(getattr(self._config, name)) for name in self.objectives if name != ALIGN}
        return {"teachers": said, **chosen}

    @property
    def _needed(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for objective in self.objectives.values() for name in objective.needs))

    def _policy(self, path: Path | None, objective: str) -> TeacherPolicy:
        if path is None:
            raise ValueError(
                f"a stage weighs {objective}, which needs a policy as teacher: --train.teachers.policy RUN"
            )
        return TeacherPolicy.load(path, self._cameras, self._device)

    def _encoder_of(self, names: Sequence[str]) -> TeacherPolicy | PictureEncoder | SentenceEncoder:
        path = self._config.encoder
        if path is None:
            needing = " and ".join(name for name in names if name in (LAYERS, COSINE))
            raise ValueError(
                f"a stage weighs {needing}, which needs an encoder as teacher: --train.teachers.encoder FOLDER_OR_ID"
            )
        if is_policy(path):
            return TeacherPolicy.load(path, self._cameras, self._device)
        architecture = read_architecture(locate(str(path)))
        sees = any(hasattr(architecture, name) for name in ("vision_config", "patch_size", "num_channels"))
        return PictureEncoder(path, self._device) if sees else SentenceEncoder(path)

    def _objective(self, name: str, vla: VLA) -> FurtherObjective:
        config, backbone = self._config, vla.backbone
        if name == ALIGN:
            assert self.policy is not None
            self._teachers[HIDDEN] = hidden = HiddenStates(self.policy)
            check_alignment(vla, hidden.shape, self.policy.policy.horizon)
            return Align()
        if name == LAYERS:
            self._teachers[CELLS] = self._pictures(config.layers.grid)
            return Layers(config.layers, backbone, self._teachers[CELLS].shape)
        if name == COSINE:
            return self._cosine(backbone)
        sizes = {"state_dim": vla.config.state_dim, "horizon": vla.config.horizon, "action_dim": vla.config.action_dim}
        return Surprise(config.surprise, **sizes)

    def _cosine(self, backbone: Any) -> Cosine:
        share, dims = self._config.cosine.pictures, []
        if share > 0:
            self._teachers[PICTURE] = self._pictures(None)
            dims.append(self._teachers[PICTURE].shape[0])
        if share < 1:
            dims.append(self._reader.dim)
        return Cosine(self._config.cosine, backbone, dims[0])

    def _pictures(self, grid: int | None) -> Teacher:
        if isinstance(self._encoder, TeacherPolicy):
            return PolicyPictures(self._encoder, grid)
        if isinstance(self._encoder, PictureEncoder):
            return EncoderPictures(self._encoder, grid, self._cameras)
        raise ValueError(
            f"{self._config.encoder} sees no pictures, and cannot teach of them; "
            "of an encoder of texts take the objective cosine with --train.teachers.cosine.pictures 0"
        )

    @property
    def _reader(self) -> PictureEncoder | SentenceEncoder:
        """The encoder, as one of texts."""
        encoder = self._encoder
        if isinstance(encoder, SentenceEncoder) or (isinstance(encoder, PictureEncoder) and encoder.reads):
            return encoder
        raise ValueError(
            f"{self._config.encoder} has no embedding of texts: take --train.teachers.cosine.pictures 1, "
            "or an encoder of both, such as CLIP"
        )

    def _source(self, name: str, demonstrations: Demonstrations) -> Source:
        if name == HISTORY:
            return History(demonstrations, self._config.surprise.history)
        if name == SENTENCE:
            reader, texts = self._reader, demonstrations.instructions
            return Sentences(reader.embed(texts) if isinstance(reader, SentenceEncoder) else reader.embed_texts(texts))
        teacher = self._teachers[name]
        if self._config.online:
            return AskedAnew(teacher, demonstrations)
        group = Group.here()
        with group.one_first() if group.size > 1 else nullcontext():
            kept = AskedOnce(teacher, demonstrations)
            try:
                kept.ask(teacher, show_progress=group.leads)
            except OSError as error:
                raise ValueError(f"{error}; --train.teachers.online keeps nothing beside the data") from error
        return kept
