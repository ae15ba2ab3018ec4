"""A network that starts from a backbone which has learned to look: what is taken over, and what cannot be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import torch
from torch import Tensor

from vla.backbone import Backbone
from vla.backbones.nano_config import TEXT_TOKENS, NanoConfig
from vla.backbones.nano_text import NanoTextConfig
from vla.base import Base
from vla.config import BACKBONES, BackboneConfig, VLAConfig, tagged
from vla.model import VLA
from vla.scaling import StateScale

_POSITIONS, _WAYPOINT, _STATE = "text_encoder.position", "waypoint", "state_encoder"
_TIMES = "time_embedding"
_CAMERAS = ("camera_embedding", "look_embedding", "view_embedding")
"""What has a row for each camera."""
_TEXT = "text_encoder"
_GATED = ("use_cameras", "use_points", "use_times")
"""What a network is told beside its pictures, through maps that are 0 at first."""
_HISTORY = ("frames", "frame_gap", "frame_sampling", "frame_memory")
_FREE = frozenset({*_GATED, *_HISTORY, "max_text_tokens", "image_budget", "merged_tokens", "position_prompt"})
"""What may differ in two backbones' configs: a longer or shorter text window, whether cameras and points are known,
what makes tokens of pictures fewer or frames them, and which moments are shown. There may also be fewer keypoints.
"""


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """What came of it: names of the backbone's parts that were taken over, and those of the base that were not, each
    with the reason.
    """

    taken: tuple[str, ...]
    left: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"taken over: {', '.join(self.taken) or 'nothing'}"]
        lines += [f"not taken over: {name}: {reason}" for name, reason in self.left.items()]
        return "\n".join(lines)


def extended(there: VLAConfig, now: VLAConfig) -> tuple[VLAConfig, tuple[str, ...]]:
    """``there`` with what ``now`` has beyond it that a learned network can be given, and the names of these fields.

    What it is told of cameras, points and times adds nothing at first. One that was shown the present alone may be
    shown a history, which it has to learn to heed. A text window may be shorter, which adds nothing either: the first
    positions are taken over. Nor does a pool of modulators before it has learned.
    """
    if there.pool is None and now.pool is not None:
        there = replace(there, pool=now.pool)
    old, new = there.backbone, now.backbone
    if not (isinstance(old, NanoConfig) and isinstance(new, NanoConfig)):
        return there, ()
    added = [name for name in _GATED if getattr(new, name) and not getattr(old, name)]
    added += _HISTORY if new.frames > old.frames == 1 else ()
    known = replace(old, **{name: getattr(new, name) for name in added})
    if (new.max_text_tokens or TEXT_TOKENS) < (old.max_text_tokens or TEXT_TOKENS):
        known = replace(known, max_text_tokens=new.max_text_tokens)
    return replace(there, backbone=known), tuple(name for name in added if getattr(old, name) != getattr(new, name))


@torch.no_grad()
def take_over(vla: VLA, weights: Mapping[str, Tensor]) -> None:
    """Give the network all ``weights`` of one that it extends: see :func:`extended`. ``ValueError`` for any that do not
    fit.
    """
    own = vla.state_dict()
    for name, weight in weights.items():
        if name not in own or not _fill(own[name], weight, name.removeprefix("backbone.")):
            raise ValueError(f"the network has no weights {name} of shape {tuple(weight.shape)}")


def check_base(config: BackboneConfig, base: Base, vocabulary: str) -> None:
    """``ValueError`` that names what differs, unless a backbone of ``config`` is of the base's kind.

    ``vocabulary`` is the backbone's. Robot and cameras may be others: see :func:`adopt`. So may words, where the
    backbone reads with a pretrained encoder instead.
    """
    if _reads_otherwise(config, base):
        config, vocabulary = config.plain, base.config.vocabulary
    there, now = (
        {**_compared(part), "vocabulary": v}
        for part, v in ((base.config.backbone, base.config.vocabulary), (config, vocabulary))
    )
    if _fewer_keypoints(base, config):
        there["keypoints"] = now["keypoints"]
    differing = [
        f"  {name}: {there.get(name)!r} there, {now.get(name)!r} now"
        for name in sorted(there.keys() | now.keys())
        if there.get(name) != now.get(name)
    ]
    if differing:
        raise ValueError("the backbone to start from is another one:\n" + "\n".join(differing))


@torch.no_grad()
def adopt_looks(backbone: Backbone, config: BackboneConfig, base: Base) -> None:
    """Give a backbone of ``config`` what it looks with whatever the cameras and the robot: words, pictures, heatmaps.

    ``ValueError`` where :func:`check_base` refuses.
    """
    check_base(config, base, backbone.vocabulary)
    own = dict(backbone.named_parameters())
    others = {*_CAMERAS, _WAYPOINT, _STATE} | ({_TEXT} if _reads_otherwise(config, base) else set())
    given = {name: weight for name, weight in _fitting(base, config).items() if _part(name) not in others}
    for name in given.keys() & own.keys():
        _fill(own[name], given[name], name)


@torch.no_grad()
def adopt(vla: VLA, base: Base, state_names: Sequence[str] = (), state: StateScale | None = None) -> Adoption:
    """Give the network's backbone what the base has learned, as far as it fits; the rest stays as it is.

    The positions of a text window are cut, or stay fresh beyond the base's. Cameras are known by their names. The way
    from keypoints to the waypoint is taken over where cameras, numbers of the state and waypoint are the same, and what
    reads the state where its numbers are; they are rewritten to the scale ``state`` of the network's numbers
    ``state_names``, so that they say the same in metres, and stay fresh where that is not known yet. Of more keypoints
    the first ones are taken over, and the way to the waypoint, which started from all of them, stays fresh.
    ``ValueError`` where :func:`check_base` refuses.
    """
    backbone, config = vla.backbone, vla.config
    check_base(config.backbone, base, backbone.vocabulary)
    own = dict(backbone.named_parameters())
    given, left = _fitting(base, config.backbone), dict[str, str]()
    unknown = "" if state else "the scale of the robot's state is not known"
    for part, reason in (
        (_STATE, unknown or _differing(base, config, state_names, "state")),
        (_WAYPOINT, unknown or _differing(base, config, state_names, "cameras", "state", "waypoint", "keypoints")),
    ):
        if reason or state is None:
            given = {name: weight for name, weight in given.items() if _part(name) != part}
            left[part] = reason
    if _reads_otherwise(config.backbone, base):
        given = {name: weight for name, weight in given.items() if _part(name) != _TEXT}
        left[_TEXT] = "its words are those of a pretrained encoder"
    if state:
        given |= rescaled(given, base.config.state, state, config.waypoint_dims)
    taken: dict[str, None] = {}
    for name, weight in given.items():
        if name in own and name in _CAMERAS:
            left |= _adopt_cameras(name, own[name], weight, config.views, base.config.cameras)
        elif name not in own or not _fill(own[name], weight, name):
            shape = tuple(own[name].shape) if name in own else None
            left[name] = f"shape {tuple(weight.shape)} there, {shape} now"
            continue
        taken[_part(name)] = None
    if config.view_size_px != base.config.image_size_px:
        left["size of things"] = f"pictures of {base.config.image_size_px} px there, {config.view_size_px} now"
    return Adoption(taken=tuple(taken), left=left)


def _reads_otherwise(config: BackboneConfig, base: Base) -> TypeGuard[NanoTextConfig]:
    """Whether it is the base's network but for words that are a pretrained encoder's."""
    return isinstance(config, NanoTextConfig) and not isinstance(base.config.backbone, NanoTextConfig)


def _compared(config: Any) -> dict[str, Any]:
    return {name: value for name, value in tagged(config, BACKBONES).items() if name not in _FREE}


def _fewer_keypoints(base: Base, config: BackboneConfig) -> bool:
    """Whether the base has more keypoints than a ``nano`` of ``config``, in tokens of as many."""
    there = base.config.backbone
    if not (isinstance(there, NanoConfig) and isinstance(config, NanoConfig)):
        return False
    return config.keypoints < there.keypoints and config.keypoints_per_token == there.keypoints_per_token


def _fitting(base: Base, config: BackboneConfig) -> dict[str, Tensor]:
    """The base's weights, those of its first keypoints alone where ``config`` has fewer."""
    weights = dict(base.weights)
    if isinstance(config, NanoConfig) and _fewer_keypoints(base, config):
        kept, tokens = config.keypoints, config.keypoints // config.keypoints_per_token
        last = "keypoint_encoder.query.2"
        rows = {
            f"{last}.weight": kept * config.channels,
            f"{last}.bias": kept * config.channels,
            "keypoint_encoder.log_sharpness": kept,
            "keypoint_embedding": tokens,
        }
        weights |= {name: weights[name][:many] for name, many in rows.items() if name in weights}
    return weights


def _fill(own: Tensor, given: Tensor, name: str) -> bool:
    """Copy what was learned; of a text window's positions as many as there are in both, and of moments, the last of
    which is the present. Whether it fits.
    """
    if name in (_POSITIONS, _TIMES):
        rows = min(len(given), len(own))
        chosen = slice(rows) if name == _POSITIONS else slice(-rows, None)
        own, given = own[chosen], given[chosen]
    if own.shape != given.shape:
        return False
    own.copy_(given)
    return True


def _part(name: str) -> str:
    return name.partition(".")[0]


def _adopt_cameras(
    name: str, own: Tensor, given: Tensor, cameras: Sequence[str], known: Sequence[str]
) -> dict[str, str]:
    """Copy the rows of the cameras that are known; the others, with the reason."""
    for row, camera in enumerate(cameras):
        if camera in known:
            own[row].copy_(given[known.index(camera)])
    new = [camera for camera in cameras if camera not in known]
    return {f"{name} of {', '.join(new)}": f"its cameras are {', '.join(known)}"} if new else {}


def _differing(base: Base, config: VLAConfig, state_names: Sequence[str], *names: str) -> str:
    """In which of the named respects the base's robot is another; empty where in none."""
    there: dict[str, Any] = {
        "cameras": list(base.config.cameras),
        "state": list(base.config.state_names),
        "waypoint": list(base.config.waypoint_dims),
        "keypoints": getattr(base.config.backbone, "keypoints", None),
    }
    now: dict[str, Any] = {
        "cameras": list(config.views),
        "state": list(state_names),
        "waypoint": list(config.waypoint_dims),
        "keypoints": getattr(config.backbone, "keypoints", None),
    }
    differing = [f"{name} {there[name]} there, {now[name]} now" for name in names if there[name] != now[name]]
    return "; ".join(differing)


def rescaled(
    weights: Mapping[str, Tensor], there: StateScale, now: StateScale, waypoint_dims: Sequence[int]
) -> dict[str, Tensor]:
    """The layers that read the state or answer in its numbers, in the scale ``now`` instead of ``there``.

    With raw numbers x: ``x = n·scale_now + offset_now``, so a column that multiplied ``(x − offset_there)/scale_there``
    multiplies n by ``scale_now/scale_there``, and the rest goes into the bias; the answer's rows the other way round.
    """
    offset_there, scale_there, offset_now, scale_now = (
        torch.tensor(column, dtype=torch.double) for column in (there.offset, there.scale, now.offset, now.scale)
    )
    renewed: dict[str, Tensor] = {}

    def layer(name: str) -> tuple[Tensor, Tensor]:
        return weights[f"{name}.weight"].double(), weights[f"{name}.bias"].double()

    for name in (f"{part}.0" for part in (_STATE, _WAYPOINT) if f"{part}.0.weight" in weights):
        weight, bias = layer(name)
        others, columns = weight[:, : -len(offset_now)], weight[:, -len(offset_now) :]
        renewed[f"{name}.bias"] = bias + columns @ ((offset_now - offset_there) / scale_there)
        renewed[f"{name}.weight"] = torch.cat([others, columns * (scale_now / scale_there)], dim=1)
    last = f"{_WAYPOINT}.2"
    if f"{last}.weight" in weights:
        chosen, (weight, bias) = list(waypoint_dims), layer(last)
        moved = bias * scale_there[chosen] + (offset_there - offset_now)[chosen]
        renewed[f"{last}.weight"] = weight * (scale_there / scale_now)[chosen, None]
        renewed[f"{last}.bias"] = moved / scale_now[chosen]
    return {name: tensor.float() for name, tensor in renewed.items()}
