"""One demonstration in memory: what a recorder hands to the store and a reader gets back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from envs.specs import (
    ACTION_KEY,
    STATE_KEY,
    EmbodimentSpec,
    depth_key,
    extrinsics_key,
    image_key,
    intrinsics_key,
    segmentation_key,
)

PHASE_KEY = "phase"
TIME_KEY = "time_s"
ACTOR_KEY = "actor"
ACTORS = ("policy", "human", "held")
"""Who acted, by the number that a frame holds: the policy, a person who had taken over, or nobody, as the robot was
made to stand still."""


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """One per-frame quantity of an episode: its key, and the dtype and shape of one frame of it."""

    key: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def frame_bytes(self) -> int:
        """Size of one uncompressed frame."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


def episode_fields(
    embodiment: EmbodimentSpec, *, geometry: bool, phase: bool, actor: bool = False, times: bool = False
) -> tuple[FieldSpec, ...]:
    """Every field that an episode of this embodiment has, by the keys of ``envs.specs``.

    ``geometry`` adds the intrinsics and extrinsics of every camera, ``phase`` the expert's phase, ``actor`` who acted,
    ``times`` when each frame was taken.
    """
    fields = []
    for camera in embodiment.cameras:
        size = (camera.height_px, camera.width_px)
        fields.append(FieldSpec(key=image_key(camera.name), dtype="uint8", shape=(*size, 3)))
        if camera.depth:
            fields.append(FieldSpec(key=depth_key(camera.name), dtype="float32", shape=size))
        if camera.segmentation:
            fields.append(FieldSpec(key=segmentation_key(camera.name), dtype="int32", shape=size))
        if geometry:
            fields.append(FieldSpec(key=intrinsics_key(camera.name), dtype="float32", shape=(3, 3)))
            fields.append(FieldSpec(key=extrinsics_key(camera.name), dtype="float32", shape=(4, 4)))
    fields.append(FieldSpec(key=STATE_KEY, dtype="float32", shape=(embodiment.state_dim,)))
    fields.append(FieldSpec(key=ACTION_KEY, dtype="float32", shape=(embodiment.action_dim,)))
    if phase:
        fields.append(FieldSpec(key=PHASE_KEY, dtype="int32", shape=()))
    if actor:
        fields.append(FieldSpec(key=ACTOR_KEY, dtype="int32", shape=()))
    if times:
        fields.append(FieldSpec(key=TIME_KEY, dtype="float64", shape=()))
    return tuple(fields)


@dataclass(frozen=True, kw_only=True)
class CameraGeometry:
    """How one camera saw each frame: K in pixels ``(t, 3, 3)`` and ``T_world_cam`` ``(t, 4, 4)`` in
    metres (OpenCV camera frame), both float32."""

    intrinsics: np.ndarray
    T_world_cam: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """One demonstration of t frames; frame k holds what was seen and the action then taken.

    ``images`` uint8 RGB ``(t, h, w, 3)``, ``depth`` float32 metres and ``segmentation`` int32 geom indices
    ``(t, h, w)`` by camera name; ``cameras`` their geometry, where recorded; ``state`` float32 ``(t, d)``
    and ``actions`` float32 ``(t, a)`` in the embodiment's order and units; ``phase`` int32 ``(t,)``, the
    expert's phase, ``actor`` int32 ``(t,)``, who acted (its place in ``ACTORS``), and ``times_s`` float64 ``(t,)``,
    when each frame was taken by the robot's clock, in seconds from any moment on, where recorded. Nothing is checked
    here: :func:`validate_episode` compares with an embodiment.
    """

    images: Mapping[str, np.ndarray]
    state: np.ndarray
    actions: np.ndarray
    instruction: str
    task: str
    success: bool
    seed: int
    depth: Mapping[str, np.ndarray] = field(default_factory=dict)
    segmentation: Mapping[str, np.ndarray] = field(default_factory=dict)
    cameras: Mapping[str, CameraGeometry] = field(default_factory=dict)
    phase: np.ndarray | None = None
    actor: np.ndarray | None = None
    times_s: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.actions)

    def fields(self) -> dict[str, np.ndarray]:
        """The per-frame arrays by their keys; :meth:`from_fields` is the inverse."""
        arrays = {image_key(name): image for name, image in self.images.items()}
        arrays |= {depth_key(name): depth for name, depth in self.depth.items()}
        arrays |= {segmentation_key(name): geoms for name, geoms in self.segmentation.items()}
        for name, geometry in self.cameras.items():
            arrays[intrinsics_key(name)] = geometry.intrinsics
            arrays[extrinsics_key(name)] = geometry.T_world_cam
        arrays |= {STATE_KEY: self.state, ACTION_KEY: self.actions}
        if self.phase is not None:
            arrays[PHASE_KEY] = self.phase
        if self.actor is not None:
            arrays[ACTOR_KEY] = self.actor
        if self.times_s is not None:
            arrays[TIME_KEY] = self.times_s
        return arrays

    @classmethod
    def from_fields(
        cls,
        arrays: Mapping[str, np.ndarray],
        camera_names: Sequence[str],
        *,
        instruction: str,
        task: str,
        success: bool,
        seed: int,
    ) -> "Episode":
        """The episode whose per-frame arrays are ``arrays``, by the keys of ``envs.specs``."""
        return cls(
            images={name: arrays[image_key(name)] for name in camera_names},
            depth={name: arrays[depth_key(name)] for name in camera_names if depth_key(name) in arrays},
            segmentation={
                name: arrays[segmentation_key(name)] for name in camera_names if segmentation_key(name) in arrays
            },
            cameras={
                name: CameraGeometry(intrinsics=arrays[intrinsics_key(name)], T_world_cam=arrays[extrinsics_key(name)])
                for name in camera_names
                if intrinsics_key(name) in arrays
            },
            state=arrays[STATE_KEY],
            actions=arrays[ACTION_KEY],
            phase=arrays.get(PHASE_KEY),
            actor=arrays.get(ACTOR_KEY),
            times_s=arrays.get(TIME_KEY),
            instruction=instruction,
            task=task,
            success=success,
            seed=seed,
        )


def validate_episode(episode: Episode, specs: Sequence[FieldSpec]) -> None:
    """Refuse an episode that does not fit ``specs``.

    Raises ``ValueError`` that names the field and says what was expected and what came: missing or
    unknown fields, wrong dtype, shape or length, values that are not finite, no instruction.
    """
    arrays = episode.fields()
    expected = {spec.key for spec in specs}
    if expected != set(arrays):
        missing, unknown = sorted(expected - set(arrays)), sorted(set(arrays) - expected)
        raise ValueError(f"the episode's fields differ from the store's: missing {missing}, not expected {unknown}")
    if not episode.instruction or not episode.task:
        raise ValueError(f"an episode needs a task and an instruction, got {episode.task!r}, {episode.instruction!r}")
    length = len(episode.actions)
    if length == 0:
        raise ValueError("an episode needs at least one frame, got none")
    for spec in specs:
        _validate_field(spec, arrays[spec.key], length)


def _validate_field(spec: FieldSpec, array: np.ndarray, length: int) -> None:
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{spec.key}: expected a numpy array, got {type(array).__name__}")
    if array.dtype != spec.dtype:
        raise ValueError(f"{spec.key}: expected dtype {spec.dtype}, got {array.dtype}")
    if array.shape != (length, *spec.shape):
        raise ValueError(f"{spec.key}: expected shape {(length, *spec.shape)}, got {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        frame = int(np.argwhere(~np.isfinite(array))[0][0])
        raise ValueError(f"{spec.key}: frame {frame} holds a value that is not finite")
