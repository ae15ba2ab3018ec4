"""The settings of ``nano``: its sizes, its text window, and what a new network starts from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vla.backbones.text_window import window_for
from vla.backbones.tokenizer import NanoTokenizer
from vla.history import History, Sampling

if TYPE_CHECKING:
    from vla.backbones.nano import Nano

TEXT_TOKENS = 256
"""Text window where nobody says which: enough for several sentences."""

Weights = Literal["shipped", "fresh"]
DEFAULT_WEIGHTS: Weights = "shipped"
"""What a new network starts from where nobody says."""


@dataclass(frozen=True, kw_only=True)
class NanoConfig:
    """Sizes of :class:`vla.backbones.nano.Nano`.

    ``channels`` is the width of the image encoder and ``wide`` that of its coarser half. ``keypoints`` is the number of
    heatmaps per view at first sight, of which ``keypoints_per_token`` share a token, and ``second_keypoints`` that of
    the second look, which share one; ``patch_px`` is the side of the square that one patch token covers, a multiple of
    8. The second look comes after half of the ``depth`` blocks. ``max_text_tokens`` is the longest instruction that it
    can take in; where it is None, training asks :meth:`reading` for what the data and their tasks say, and
    ``TEXT_TOKENS`` stand for it elsewhere. With ``use_depth`` the network also needs depth images, and keypoint tokens
    carry points in the world where cameras are calibrated; its eye then differs from one that sees colours alone.

    With ``use_cameras`` it needs calibrated cameras, and is told the line of sight of every keypoint in the world
    (:mod:`vla.backbones.sightlines`), so that it knows where things are wherever a camera stands. With ``use_points``
    it needs depth images as well, and is told the points in the world of its patches and keypoints
    (:mod:`vla.backbones.points`), with an eye that sees colours alone.

    ``frames`` is the most images per view that an observation may hold, and with ``frame_gap``, ``frame_sampling`` and
    ``frame_memory`` which moments those are: see :class:`vla.history.History`. With ``use_times`` it is told how long
    before the present each was taken (:mod:`vla.backbones.moments`).

    Fewer tokens (:mod:`vla.backbones.token_reduction`): ``image_budget`` is the most patch tokens that all views of a
    moment may have together, to which each view's grid is averaged down, and ``merged_tokens`` to how many similar ones
    of a view are merged after that. ``position_prompt`` puts a learned frame around each picture
    (:mod:`vla.backbones.position_prompt`). All are off by default.

    ``weights`` are what a new network starts from: "shipped" is what the package's own backbone has learned to look
    with (:mod:`vla.shipped`), which has the default sizes, "fresh" is torch's random state. They are no part of what
    the network is: they count for no equality, and no saved network has them.
    """

    width: int = 96
    depth: int = 4
    heads: int = 4
    n_queries: int = 8
    channels: int = 32
    blocks: int = 2
    wide: int = 64
    keypoints: int = 32
    keypoints_per_token: int = 8
    second_keypoints: int = 16
    patch_px: int = 32
    max_text_tokens: int | None = None
    frames: int = 1
    frame_gap: int = 1
    frame_sampling: Sampling = "last"
    frame_memory: int = 0
    use_depth: bool = False
    use_cameras: bool = False
    use_points: bool = False
    use_times: bool = False
    image_budget: int | None = None
    merged_tokens: int | None = None
    position_prompt: bool = False
    weights: Weights = field(default=DEFAULT_WEIGHTS, compare=False)

    def __post_init__(self) -> None:
        if self.second_keypoints < 2:
            raise ValueError(f"second_keypoints must be at least 2, got {self.second_keypoints}")
        if self.max_text_tokens is not None and self.max_text_tokens < 1:
            raise ValueError(f"max_text_tokens must be at least 1, got {self.max_text_tokens}")
        _ = self.history

    def reading(self, sentences: Sequence[str]) -> "NanoConfig":
        """This config with a window for all of ``sentences`` and a quarter more, if it does not say what window."""
        if self.max_text_tokens is not None or not sentences:
            return self
        return replace(self, max_text_tokens=window_for(NanoTokenizer().longest(sentences)))

    @property
    def locates(self) -> bool:
        """It can predict a waypoint."""
        return True

    @property
    def needs_cameras(self) -> bool:
        """It must be told where cameras stand and how they see."""
        return self.use_cameras or self.use_points

    @property
    def needs_depth(self) -> bool:
        """It must be given depth images."""
        return self.use_depth or self.use_points

    @property
    def history(self) -> History:
        """Which moments it is shown."""
        return History(frames=self.frames, gap=self.frame_gap, sampling=self.frame_sampling, memory=self.frame_memory)

    @property
    def needs(self) -> str:
        """What it must be fed beside colour images of the present, in the words of its fields; empty where nothing."""
        return (
            "" if not self.needs_depth and self.frames == 1 else "use_depth must be off, use_points too, and frames 1"
        )

    def build(
        self,
        *,
        state_dim: int,
        views: int,
        image_size_px: tuple[int, int],
        waypoint_dim: int = 0,
        saved: Path | None = None,
    ) -> "Nano":
        """The network for these inputs; ``image_size_px`` is (height, width). What it needs of a ``saved`` policy's
        folder is in its config and weights.

        Of the shipped weights it takes what does not depend on cameras and robot: words, pictures and heatmaps.
        ``ValueError`` where they are of other sizes, ``CheckpointError`` where the package lacks them.
        """
        from vla.backbones.nano import Nano

        nano = Nano(self, state_dim=state_dim, views=views, image_size_px=image_size_px, waypoint_dim=waypoint_dim)
        if self.weights == "shipped":
            from vla.adopting import adopt_looks
            from vla.shipped import shipped_for

            adopt_looks(nano, self, shipped_for(self, nano.vocabulary))
        return nano

    @property
    def fresh(self) -> "NanoConfig":
        """This config with fresh weights: the architecture alone."""
        return replace(self, weights="fresh")
