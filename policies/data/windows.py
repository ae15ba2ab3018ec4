"""Training samples from a demonstration store: what was seen at a frame and the actions that followed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from envs.specs import ACTION_KEY, STATE_KEY, depth_key, extrinsics_key, image_key, intrinsics_key
from policies.data.dataset import DemonstrationDataset
from policies.data.decoded import decoded_views
from policies.data.keyframes import Goals, goals, leads_over, next_keyframe, since_segment_start, tool_dims
from policies.data.sampling import batch_indices
from vla.history import PRESENT, History
from vla.spatial.memory_bank import picture_features, sample_frames

log = logging.getLogger(__name__)

_FEATURES_AT_ONCE = 256

CameraKey = Callable[[str], str]
"""From a camera's name to the key of one of its fields; one of the functions of ``envs.specs``."""


@dataclass(frozen=True, kw_only=True)
class WindowBatch:
    """A batch of samples, raw as recorded; axes: b batch, t time (the last is the present), v view.

    ``images`` are RGB 0…255, views in the order of ``WindowConfig.cameras``, taken ``age_steps`` control steps before
    the present; where ``there`` is False, a memory bank holds no frame, and any stands in. ``actions`` are those of
    the present step and the ``h − 1`` after it; past the episode's end the last one is repeated and
    ``valid`` is False. ``text`` indexes ``Windows.instructions``. ``depth`` is metres; ``intrinsics``
    pixels; ``T_world_cam`` metres, OpenCV camera frame. ``keyframe_state`` and ``keyframe_action`` are the state and
    the action at the next keyframe, ``way_action`` that which says how the gripper is on the way, and ``leads_over``
    whether the tool's way there is not straight.
    """

    images: UInt8[Tensor, "b t v h w 3"]
    state: Float[Tensor, "b d"]
    actions: Float[Tensor, "b h a"]
    valid: Bool[Tensor, "b h"]
    text: Int[Tensor, " b"]
    keyframe_state: Float[Tensor, "b d"]
    keyframe_action: Float[Tensor, "b a"]
    way_action: Float[Tensor, "b a"]
    leads_over: Bool[Tensor, " b"]
    age_steps: Int[Tensor, "b t"]
    there: Bool[Tensor, "b t"]
    depth: Float[Tensor, "b t v h w"] | None = None
    intrinsics: Float[Tensor, "b t v 3 3"] | None = None
    T_world_cam: Float[Tensor, "b t v 4 4"] | None = None


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """What a sample holds.

    ``horizon`` actions; the frames of ``history``, the episode's first frame standing in for the ``last`` ones before
    its start, while a memory bank chooses among those that there are; ``cameras`` in this order (empty: all of the
    embodiment's), which must have one image size. ``cache`` says where pictures are read from:
    decoded once into ``memory``; from ``disk`` as needed; ``decoded`` once into a file in the store's
    folder (``policies.data.decoded``; from disk as needed where it cannot be written); or ``auto``: memory where
    they fit ``memory_budget_bytes``, which all stores of a run share (:func:`build_windows`), else disk.

    With ``aims`` keyframes are those that a policy which aims learns from (:func:`policies.data.keyframes.goals`), the
    state there is that in which the tool stands, and that at an episode's end says where its last action was to lead.
    """

    horizon: int = 8
    history: History = PRESENT
    cameras: tuple[str, ...] = ()
    depth: bool = False
    geometry: bool = False
    aims: bool = False
    cache: Literal["auto", "memory", "decoded", "disk"] = "auto"
    memory_budget_bytes: int = 4 * 1024**3

    def build(self, dataset: DemonstrationDataset) -> "Windows":
        return Windows(dataset, self)


def build_windows(datasets: Sequence[DemonstrationDataset], config: WindowConfig) -> "list[Windows]":
    """The windows of the stores of one run, which keep to one memory budget together: first come, first served."""
    built, left_bytes = [], config.memory_budget_bytes
    for dataset in datasets:
        windows = replace(config, memory_budget_bytes=left_bytes).build(dataset)
        if windows.in_memory:
            left_bytes = max(left_bytes - windows.picture_bytes, 0)
        elif config.cache == "auto":
            log.warning(
                "%s: its pictures, %.1f GB decoded, are read from disk: %.1f of %.1f GB of memory are left for them",
                *(dataset.path, windows.picture_bytes / 1e9, left_bytes / 1e9, config.memory_budget_bytes / 1e9),
            )
        built.append(windows)
    return built


class Windows:
    """Samples of a data set, one per frame; vectors lie in memory, pictures as the config says."""

    def __init__(self, dataset: DemonstrationDataset, config: WindowConfig) -> None:
        """Raises ``ValueError`` for an empty data set or a config that it cannot serve."""
        self.dataset = dataset
        self.config = config
        self.cameras = config.cameras or dataset.embodiment.camera_names
        _validate(dataset, config, self.cameras)
        self.instructions = tuple(dict.fromkeys(record.instruction for record in dataset.records))
        text_index = {text: index for index, text in enumerate(self.instructions)}
        self._text = np.array([text_index[record.instruction] for record in dataset.records])
        self._states = dataset.load(STATE_KEY)
        self._actions = dataset.load(ACTION_KEY)
        goals = self._find_goals()
        self._keyframes, self._reached, self._way = goals.keyframe, goals.reached, goals.way
        self._reached_states = self._states_at_ends() if config.aims else self._states
        self._leads_over = self._find_ways()
        kept = (intrinsics_key, extrinsics_key) if config.geometry else ()
        kept += self._picture_keys() if self.in_memory else ()
        self._kept: dict[CameraKey, Tensor] = {key: self._load_views(key) for key in kept}
        self._mapped: dict[CameraKey, Shaped[np.ndarray, "n v ..."]] = {}
        for key in self._picture_keys() if config.cache == "decoded" else ():
            views = decoded_views(dataset, [key(camera) for camera in self.cameras])
            if views is not None:
                self._mapped[key] = views
        bank = config.history.sampling == "memory_bank"
        self._features: Float[Tensor, "n d"] | None = self._picture_features() if bank else None

    def __len__(self) -> int:
        return self.dataset.num_frames

    def segment_starts(self, length: int) -> Int[np.ndarray, " m"]:
        """The first ``length`` frames of every motion from one keyframe to the next."""
        return np.flatnonzero(since_segment_start(self._keyframes) < length)

    @property
    def picture_bytes(self) -> int:
        """Size of all pictures that samples may need, decoded."""
        keys = [key(camera) for key in self._picture_keys() for camera in self.cameras]
        return len(self) * sum(self.dataset.field(key).frame_bytes for key in keys)

    @property
    def in_memory(self) -> bool:
        """Whether pictures are kept decoded in memory."""
        fits = self.picture_bytes <= self.config.memory_budget_bytes
        return self.config.cache == "memory" or (self.config.cache == "auto" and fits)

    def batch(self, seed: int, step: int, batch_size: int) -> WindowBatch:
        """The batch of training step ``step``, a pure function of the arguments and the data."""
        return self.sample(batch_indices(seed, step, batch_size, len(self)))

    def sample(self, frames: Int[np.ndarray, " b"]) -> WindowBatch:
        """The samples at these frames, in this order; ``IndexError`` outside the data set."""
        if len(frames) and not (frames.min() >= 0 and frames.max() < len(self)):
            raise IndexError(f"frames must lie in 0…{len(self) - 1}, got {frames.min()}…{frames.max()}")
        episode = self.dataset.episode_of(frames)
        actions, valid = self.chunks(frames)
        seen, there = self._moments(frames, episode)
        return WindowBatch(
            images=self._views(image_key, seen),
            state=torch.from_numpy(self._states[frames]),
            actions=actions,
            valid=valid,
            text=torch.from_numpy(self._text[episode]),
            keyframe_state=torch.from_numpy(self._reached_states[self._reached[frames]]),
            keyframe_action=torch.from_numpy(self._actions[self._keyframes[frames]]),
            way_action=torch.from_numpy(self._actions[self._way[frames]]),
            leads_over=torch.from_numpy(self._leads_over[frames]),
            age_steps=torch.from_numpy(frames[:, None] - seen),
            there=there,
            depth=self._views(depth_key, seen) if self.config.depth else None,
            intrinsics=self._views(intrinsics_key, seen) if self.config.geometry else None,
            T_world_cam=self._views(extrinsics_key, seen) if self.config.geometry else None,
        )

    def chunks(self, frames: Int[np.ndarray, " b"]) -> tuple[Float[Tensor, "b h a"], Bool[Tensor, "b h"]]:
        """Actions of the samples at these frames and which of them are valid, as in :class:`WindowBatch`."""
        last = self.dataset.end_frames[self.dataset.episode_of(frames)] - 1
        ahead = frames[:, None] + np.arange(self.config.horizon)
        actions = self._actions[np.minimum(ahead, last[:, None])]
        return torch.from_numpy(actions), torch.from_numpy(ahead <= last[:, None])

    def history(self, frames: Int[np.ndarray, " b"], before: int) -> Float[Tensor, "b t d"]:
        """States of the ``before`` frames before each and its own, the last; an episode's first frame stands in for
        those before its start.
        """
        first = self._first_frames(self.dataset.episode_of(frames))
        seen = np.maximum(frames[:, None] + np.arange(-before, 1), first[:, None])
        return torch.from_numpy(self._states[seen])

    def _first_frames(self, episode: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        return np.where(episode > 0, self.dataset.end_frames[episode - 1], 0)

    def _moments(
        self, frames: Int[np.ndarray, " b"], episode: Int[np.ndarray, " b"]
    ) -> tuple[Int[np.ndarray, "b t"], Bool[Tensor, "b t"]]:
        """The frames to show for each of ``frames``, and which of them there are."""
        first = self._first_frames(episode)[:, None]
        wanted = frames[:, None] - np.array(self.config.history.ages)
        seen = np.maximum(wanted, first)
        if self._features is None:
            return seen, torch.ones(seen.shape, dtype=torch.bool)
        found = sample_frames(self._features[seen], torch.from_numpy(wanted >= first), self.config.history.frames)
        return np.take_along_axis(seen, found.times.numpy(), axis=1), found.mask

    def _picture_features(self) -> Float[Tensor, "n d"]:
        """What a memory bank compares, of every frame."""
        blocks = np.split(np.arange(len(self)), range(_FEATURES_AT_ONCE, len(self), _FEATURES_AT_ONCE))
        return torch.cat([picture_features(self._views(image_key, block[:, None])[:, 0]) for block in blocks])

    def _find_goals(self) -> Goals:
        dataset = self.dataset
        if self.config.aims:
            tool_m = self._states[:, tool_dims(dataset.embodiment)]
            return goals(self._actions, tool_m, dataset.end_frames, dataset.embodiment)
        keyframe = next_keyframe(self._actions, dataset.end_frames, dataset.embodiment)
        return Goals(keyframe=keyframe, reached=keyframe, way=np.arange(len(self)))

    def _states_at_ends(self) -> Float[np.ndarray, "n d"]:
        """The states, those of last frames with the tool where their actions, which begin with its move, lead."""
        states, last = self._states.copy(), self.dataset.end_frames - 1
        tool = np.array(tool_dims(self.dataset.embodiment))
        states[last[:, None], tool] += self._actions[last, :3]
        return states

    def _find_ways(self) -> Bool[np.ndarray, " n"]:
        """Whether the way to each frame's next keyframe leads over something; no way of a robot without a tool does."""
        tool = tool_dims(self.dataset.embodiment)
        return leads_over(self._states[:, tool], self._reached) if len(tool) == 3 else np.zeros(len(self), bool)

    def _picture_keys(self) -> tuple[CameraKey, ...]:
        return (image_key, depth_key) if self.config.depth else (image_key,)

    def _load_views(self, key: CameraKey) -> Shaped[Tensor, "n v ..."]:
        """A per-camera field at every frame, the views side by side."""
        spec = self.dataset.field(key(self.cameras[0]))
        views = np.empty((len(self), len(self.cameras), *spec.shape), spec.dtype)
        for index, camera in enumerate(self.cameras):
            self.dataset.load(key(camera), out=views[:, index])
        return torch.from_numpy(views)

    def _views(self, key: CameraKey, frames: Int[np.ndarray, "b t"]) -> Shaped[Tensor, "b t v ..."]:
        """A per-camera field at these frames, from memory, a decoded file or the store."""
        flat = frames.reshape(-1)
        if key in self._kept:  # index_select copies whole frames; indexing goes element by element
            views = self._kept[key].index_select(0, torch.from_numpy(flat))
        elif key in self._mapped:
            views = torch.from_numpy(self._mapped[key][flat])
        else:
            views = torch.stack([torch.from_numpy(self.dataset.read(key(camera), flat)) for camera in self.cameras], 1)
        return views.unflatten(0, frames.shape)


def _validate(dataset: DemonstrationDataset, config: WindowConfig, cameras: tuple[str, ...]) -> None:
    if dataset.num_frames == 0:
        failures = f": its {dataset.without} failures are left out" if dataset.without else ""
        raise ValueError(f"{dataset.path} has no episodes to sample{failures}")
    if config.horizon < 1:
        raise ValueError(f"horizon must be ≥ 1, got {config.horizon}")
    sizes = {}
    for name in cameras:
        camera = dataset.embodiment.camera(name)
        sizes[name] = (camera.height_px, camera.width_px)
        if config.depth and not camera.depth:
            raise ValueError(f"depth was asked for, but camera {name!r} of {dataset.path} has none")
    if len(set(sizes.values())) != 1:
        raise ValueError(f"cameras sampled together must have one image size (height, width), got {sizes}")
    if config.geometry and not dataset.header.geometry:
        raise ValueError(
            f"the network is to know its cameras (intrinsics and T_world_cam), but {dataset.path} has none: record anew"
        )
