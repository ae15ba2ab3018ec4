"""Who teaches beside the demonstrations: policies of ours and encoders of transformers, and what each says of a frame.

A teacher sees pictures as they were recorded. What it says of a frame depends on nothing else, so that it can be asked
once for a whole data set; the network is to get it out of the disturbed pictures that it learns from.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from envs.specs import STATE_KEY, TASK_KEY, EmbodimentSpec, image_key
from policies.data.windows import WindowBatch
from policies.imitation.starting import check_robot
from policies.keyframe_policy import load_vla_policy
from policies.training.checkpoint import CHECKPOINTS, MANIFEST
from policies.vla_policy import POLICY_FILE, VLAPolicy, find_policy
from vla.backbone import Backbone
from vla.features import TokenRole
from vla.observation import Observation
from vla.picture_encoder import PictureEncoder


class Teacher(Protocol):
    """Says something of one ``shape`` about every frame; ``about`` tells teachers apart, JSON-ready."""

    about: dict[str, Any]
    shape: tuple[int, ...]

    def teach(self, batch: WindowBatch, instructions: Sequence[str]) -> Float[Tensor, "b ..."]:
        """What it says of samples whose ``text`` counts in ``instructions``."""
        ...


@dataclass(frozen=True, kw_only=True)
class TeacherPolicy:
    """A trained policy that teaches networks with these ``cameras``, whose windows have them in this order."""

    path: Path
    policy: VLAPolicy
    cameras: tuple[str, ...]
    fingerprint: str

    @classmethod
    def load(cls, path: Path, cameras: tuple[str, ...], device: torch.device | str) -> "TeacherPolicy":
        """That of a run, checkpoint or policy directory; ``CheckpointError`` where there is none that is whole."""
        folder = find_policy(path)
        digest = hashlib.sha256()
        for file in sorted(each for each in folder.rglob("*") if each.is_file()):
            digest.update(f"{file.relative_to(folder).as_posix()}\0".encode() + file.read_bytes())
        return cls(path=path, policy=load_vla_policy(folder, device), cameras=cameras, fingerprint=digest.hexdigest())

    def check(self, embodiment: EmbodimentSpec, instructions: Sequence[str]) -> None:
        """``ValueError`` unless it acts with the robot of the data, sees what the network sees and reads all texts."""
        check_robot(f"{self.path} cannot teach", self.policy, embodiment)
        config = self.policy.vla.config
        if config.needs_depth or config.needs_cameras:
            raise ValueError(f"{self.path} cannot teach: it needs depth or calibrated cameras, and is shown neither")
        if config.history.looks_back:
            raise ValueError(f"{self.path} cannot teach: it needs moments of the past, and is shown the present alone")
        if missing := sorted(set(config.cameras) - set(self.cameras)):
            raise ValueError(f"{self.path} cannot teach: it has the cameras {missing}, the network {self.cameras}")
        try:
            self.policy.vla.backbone.check_texts(instructions)
        except ValueError as error:
            raise ValueError(f"{self.path} cannot teach: {error}") from error

    def ask(
        self, batch: WindowBatch, instructions: Sequence[str], what: Callable[[Observation], Tensor]
    ) -> Float[Tensor, "b ..."]:
        """``what`` of the samples, as the policy would see them if it were to act."""
        views = {image_key(camera): batch.images[:, -1, view] for view, camera in enumerate(self.cameras)}
        texts = [instructions[index] for index in batch.text.tolist()]
        return self.policy.ask({STATE_KEY: batch.state, TASK_KEY: texts, **views}, what)


class HiddenStates:
    """What a policy's head reads its chunk off. ``ValueError`` for a head that has no such states."""

    def __init__(self, teacher: TeacherPolicy) -> None:
        self._teacher = teacher
        try:
            self.shape = teacher.policy.vla.head.hidden_shape
        except TypeError as error:
            raise ValueError(f"{teacher.path} cannot teach hidden states: {error}") from error
        self.about = {"says": "hidden", "teacher": teacher.fingerprint, "cameras": list(teacher.cameras)}

    def teach(self, batch: WindowBatch, instructions: Sequence[str]) -> Float[Tensor, "b k d"]:
        return self._teacher.ask(batch, instructions, self._teacher.policy.vla.hidden)


class PolicyPictures:
    """The image tokens of a policy's last layer: their mean in each of grid × grid cells of each view (v, k, e), scaled
    to zero mean and unit variance, or without ``grid`` over all views, as a unit vector (e). ``ValueError`` for a
    policy whose image tokens were made fewer.

    A layer's states are sums over all layers before it, most of which is the same in every picture and large: as they
    are, they are best predicted by a constant.
    """

    def __init__(self, teacher: TeacherPolicy, grid: int | None) -> None:
        self._teacher, self._grid = teacher, grid
        if teacher.policy.vla.backbone.reduction is not None:
            raise ValueError(
                f"{teacher.path} cannot teach pictures: its tokens of them were made fewer, and are in no grid"
            )
        config, width = teacher.policy.vla.config, teacher.policy.vla.backbone.width
        self.shape = (width,) if grid is None else (len(config.cameras), grid * grid, width)
        self.about = {
            "says": "pictures" if grid is None else "normalised pictures",
            "grid": grid,
            "teacher": teacher.fingerprint,
            "cameras": list(teacher.cameras),
        }

    def teach(self, batch: WindowBatch, instructions: Sequence[str]) -> Float[Tensor, "b ..."]:
        backbone = self._teacher.policy.vla.backbone
        cells = self._teacher.ask(batch, instructions, lambda seen: image_cells(backbone, seen, self._grid or 1))
        if self._grid is None:
            return functional.normalize(cells.mean(dim=(1, 2)), dim=-1)
        return functional.layer_norm(cells, cells.shape[-1:])


class EncoderPictures:
    """The same of an encoder of transformers, which has one vector of its own for each view."""

    def __init__(self, encoder: PictureEncoder, grid: int | None, cameras: tuple[str, ...]) -> None:
        self._encoder, self._grid = encoder, grid
        self.shape = (encoder.dim,) if grid is None else (len(cameras), grid * grid, encoder.cell_dim)
        self.about = {"says": "pictures", "grid": grid, "teacher": encoder.fingerprint, "cameras": list(cameras)}

    def teach(self, batch: WindowBatch, instructions: Sequence[str]) -> Float[Tensor, "b ..."]:
        images = batch.images[:, -1].permute(0, 1, 4, 2, 3).float() / 255
        b, v = images.shape[:2]
        if self._grid is not None:
            return self._encoder.cells(images.flatten(0, 1), self._grid).unflatten(0, (b, v))
        return functional.normalize(self._encoder.embed(images.flatten(0, 1)).unflatten(0, (b, v)).mean(dim=1), dim=-1)


def image_cells(backbone: Backbone, observation: Observation, grid: int) -> Float[Tensor, "b v k d"]:
    """The mean of the last layer's image tokens in each of grid × grid cells of every view, row by row; tokens of a
    whole image are in none.
    """
    features = backbone(observation)
    index = features.layout.where(TokenRole.IMAGE)
    index = index[features.layout.cell[index, 0] >= 0]
    view, cell = features.layout.view[index], features.layout.cell[index]
    rows, columns = (int(side) + 1 for side in cell.amax(dim=0))
    hidden = features.hidden[-1][:, index]
    views = []
    for each in range(int(view.max()) + 1):
        patches = hidden[:, view == each].mT.unflatten(2, (rows, columns))
        views.append(functional.adaptive_avg_pool2d(patches, grid).flatten(2).mT)
    return torch.stack(views, dim=1).float()


def is_policy(path: Path) -> bool:
    """Whether ``path`` is a run, checkpoint or policy directory of ours."""
    return (path / CHECKPOINTS).is_dir() or any((path / name).is_file() for name in (MANIFEST, POLICY_FILE))
