"""``nano``: a small vision-language network, trained from scratch, whose tokens say *where* things are.

Convolutions turn each image into a feature map. It yields patch tokens on a coarse grid, and keypoint tokens: the
instruction asks the map where its words are, and each answer, a heatmap, is reduced to its expected position, so that
"the red cube" becomes a coordinate. A prefix-LM transformer mixes them with the text and the state; learned queries
come last.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla.backbone import Backbone
from vla.backbones.convolution import ImageEncoder
from vla.backbones.keypoints import DepthViews, KeypointEncoder
from vla.backbones.text import TextEncoder
from vla.backbones.tokenizer import NanoTokenizer
from vla.backbones.transformer import Block
from vla.features import Features, Sight, TokenLayout, TokenRole
from vla.observation import Observation

TEXT_TOKENS = 256
"""Text window where nobody says which: enough for several sentences."""
TEXT_HEADROOM = 1.25
"""How much longer than the sentences it is made for a window is at least: people say more."""
_TEXT_STEP = 16

Weights = Literal["shipped", "fresh"]
DEFAULT_WEIGHTS: Weights = "fresh"
"""What a new network starts from where nobody says."""


@dataclass(frozen=True, kw_only=True)
class NanoConfig:
    """Sizes of :class:`Nano`.

    ``channels`` is the width of the image encoder and ``keypoints`` the number of heatmaps per view, of which
    ``keypoints_per_token`` share a token; ``patch_px`` is the side of the square that one patch token covers, a
    multiple of 4. ``max_text_tokens`` is the longest instruction that it can take in; where it is None, training asks
    :meth:`reading` for what the data and their tasks say, and ``TEXT_TOKENS`` stand for it elsewhere. ``frames`` is
    the most images per view that an observation may hold. With ``use_depth`` the network also needs depth images, and
    keypoint tokens carry points in the world where cameras are calibrated.

    ``weights`` are what a new network starts from: "shipped" is what the package's own backbone has learned to look
    with (:mod:`vla.shipped`), which has the default sizes, "fresh" is torch's random state. They are no part of what
    the network is: they count for no equality, and no saved network has them.
    """

    width: int = 96
    depth: int = 3
    heads: int = 4
    n_queries: int = 8
    channels: int = 32
    blocks: int = 2
    keypoints: int = 64
    keypoints_per_token: int = 8
    patch_px: int = 32
    max_text_tokens: int | None = None
    frames: int = 1
    use_depth: bool = False
    weights: Weights = field(default=DEFAULT_WEIGHTS, compare=False)

    def __post_init__(self) -> None:
        if self.max_text_tokens is not None and self.max_text_tokens < 1:
            raise ValueError(f"max_text_tokens must be at least 1, got {self.max_text_tokens}")

    def reading(self, sentences: Sequence[str]) -> "NanoConfig":
        """This config with a window for all of ``sentences`` and a quarter more, if it does not say what window."""
        if self.max_text_tokens is not None or not sentences:
            return self
        wanted = TEXT_HEADROOM * NanoTokenizer().longest(sentences)
        return replace(self, max_text_tokens=_TEXT_STEP * math.ceil(wanted / _TEXT_STEP))

    def build(self, *, state_dim: int, views: int, image_size_px: tuple[int, int], waypoint_dim: int = 0) -> "Nano":
        """The network for these inputs; ``image_size_px`` is (height, width).

        Of the shipped weights it takes what does not depend on cameras and robot: words, pictures and heatmaps.
        ``ValueError`` where they are of other sizes, ``CheckpointError`` where the package lacks them.
        """
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


class TokenGroup(NamedTuple):
    """One kind of token: embeddings and which of them are real."""

    tokens: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]


class Nano(Backbone):
    """Sequence: patches (time, view, row, column), keypoints (time, view, index), text, state, queries.

    The prefix attends to itself in both directions; queries attend to everything. Raises
    ``ValueError`` for an observation whose shapes do not fit.
    """

    def __init__(
        self, config: NanoConfig, *, state_dim: int, views: int, image_size_px: tuple[int, int], waypoint_dim: int
    ) -> None:
        super().__init__()
        if config.patch_px % ImageEncoder.stride or any(side % config.patch_px for side in image_size_px):
            raise ValueError(
                f"patch_px must be a multiple of {ImageEncoder.stride} that divides the image size, "
                f"got {config.patch_px} for images of {image_size_px} px"
            )
        if config.width % config.heads:
            raise ValueError(f"heads must divide the width {config.width}, got {config.heads}")
        self.config = config
        self.width, self.depth, self.n_queries = config.width, config.depth, config.n_queries
        self.image_size_px = image_size_px
        self.views, self.state_dim, self.waypoint_dim = views, state_dim, waypoint_dim
        self.grid = (image_size_px[0] // config.patch_px, image_size_px[1] // config.patch_px)
        self.text_window = config.max_text_tokens or TEXT_TOKENS
        self._tokenizer = NanoTokenizer()
        self.vocabulary = self._tokenizer.fingerprint

        width, cells = config.width, config.patch_px // ImageEncoder.stride
        self.text_encoder = TextEncoder(self._tokenizer.vocabulary_size, self.text_window, width)
        self.image_encoder = ImageEncoder(4 if config.use_depth else 3, config.channels, config.blocks)
        self.patch_encoder = nn.Conv2d(config.channels, width, cells, stride=cells)
        self.keypoint_encoder = KeypointEncoder(
            config.channels, config.keypoints, width, per_token=config.keypoints_per_token, use_depth=config.use_depth
        )
        self.state_encoder = _perceptron(state_dim, width, width)
        self.camera_embedding = nn.Parameter(0.5 * torch.randn(views, width))  # each view asks its own questions
        self.view_embedding = _embedding(views, width)
        self.time_embedding = _embedding(config.frames, width)
        self.cell_embedding = _embedding(self.grid[0] * self.grid[1], width)
        self.keypoint_embedding = _embedding(self.keypoint_encoder.tokens, width)
        self.role_embedding = _embedding(len(TokenRole), width)
        self.queries = _embedding(config.n_queries, width)
        positions = views * config.keypoints * 2
        self.waypoint = _perceptron(positions + state_dim, 128, waypoint_dim) if waypoint_dim else None
        self.query_position = nn.Linear(positions + waypoint_dim, config.n_queries * width)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))

    def tokenize(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        return self._tokenizer.encode(texts)

    def lost_words(self, text: str) -> str:
        return self._tokenizer.beyond(text, self.text_window)

    def forward(self, observation: Observation) -> Features:
        self._check(observation)
        text, pooled = self.text_encoder(observation.text, observation.text_mask)
        patches, keypoints, positions = self._encode_images(observation, pooled)
        state = self.state_encoder(observation.state)[:, None]
        waypoint = self._waypoint(positions, observation.state)
        places = positions if waypoint is None else torch.cat([positions, waypoint], dim=-1)
        queries = self.queries + self.query_position(places).unflatten(-1, (self.n_queries, -1))
        always = observation.text_mask.new_ones(len(state), 1)
        parts = {
            TokenRole.IMAGE: patches,
            TokenRole.KEYPOINT: keypoints,
            TokenRole.TEXT: TokenGroup(text, observation.text_mask),
            TokenRole.STATE: TokenGroup(state, always),
            TokenRole.QUERY: TokenGroup(queries, always.expand(-1, self.n_queries)),
        }
        x = torch.cat([part.tokens + self.role_embedding[role] for role, part in parts.items()], dim=1)
        mask = torch.cat([part.mask for part in parts.values()], dim=1)
        bias = prefix_bias(mask, self.n_queries, x.dtype)
        hidden = []
        for block in self.blocks:
            x = block(x, bias)
            hidden.append(x)
        layout = self._layout(frames=observation.images.shape[1], text_tokens=text.shape[1])
        return Features(
            hidden=torch.stack(hidden), mask=mask, layout=layout, state=observation.state, waypoint=waypoint
        )

    def look(self, observation: Observation, about: Int[Tensor, " n"] | None = None) -> Sight:
        self._check(observation)
        _, pooled = self.text_encoder(observation.text, observation.text_mask)
        maps = self._maps(observation, self._depth_views(observation))
        maps = maps.unflatten(0, observation.view_mask.shape)[:, -1]
        present, state = observation.view_mask[:, -1], observation.state
        if about is not None:
            maps, present, state = maps[about], present[about], state[about]
        condition = pooled[:, None] + self.camera_embedding
        position, log_heatmap = self.keypoint_encoder.look(maps.flatten(0, 1), condition.flatten(0, 1))
        position = position.unflatten(0, present.shape) * present[..., None, None]
        return Sight(
            waypoint=self._waypoint(position.flatten(1), state),
            position=position,
            log_heatmap=log_heatmap.unflatten(0, present.shape),
        )

    def locate(self, observation: Observation) -> Float[Tensor, "b w"]:
        waypoint = self.look(observation).waypoint
        return super().locate(observation) if waypoint is None else waypoint

    def _waypoint(self, positions: Float[Tensor, "b p"], state: Float[Tensor, "b s"]) -> Float[Tensor, "b w"] | None:
        """Where the robot goes next, told from where things are and where it is."""
        return None if self.waypoint is None else self.waypoint(torch.cat([positions, state], dim=-1))

    def _encode_images(
        self, observation: Observation, text: Float[Tensor, "b d"]
    ) -> tuple[TokenGroup, TokenGroup, Float[Tensor, "b p"]]:
        """Patch and keypoint tokens of all frames and views, and the present keypoints' positions in one vector.

        Missing views are blanked and masked, their positions 0.
        """
        b, t, v = observation.view_mask.shape
        view_mask = observation.view_mask
        depth_views = self._depth_views(observation)
        condition = (text[:, None, None] + self.camera_embedding).expand(b, t, v, -1)
        maps = self._maps(observation, depth_views)

        place = self.view_embedding + self.time_embedding[-t:, None]  # (t, v, d)
        patches = self.patch_encoder(maps).flatten(2).mT + self.cell_embedding
        keypoints, positions = self.keypoint_encoder(maps, condition.flatten(0, 2), depth_views)
        keypoints = keypoints + self.keypoint_embedding
        present = positions.unflatten(0, (b, t, v))[:, -1] * view_mask[:, -1, :, None, None]

        def gather(tokens: Float[Tensor, "m n d"]) -> TokenGroup:
            tokens = tokens.unflatten(0, (b, t, v)) + place[:, :, None]
            return TokenGroup(tokens.flatten(1, 3), view_mask[..., None].expand(*tokens.shape[:-1]).flatten(1))

        return gather(patches), gather(keypoints), present.flatten(1)

    def _maps(self, observation: Observation, depth_views: DepthViews | None) -> Float[Tensor, "m c h w"]:
        """Feature maps of all frames and views, flattened."""
        view_mask = observation.view_mask
        images = observation.images.masked_fill(~view_mask[..., None, None, None], 0.0)
        if depth_views is not None:
            images = torch.cat([images, depth_views.depth_m.view(*view_mask.shape, 1, *self.image_size_px)], dim=3)
        return self.image_encoder(images.flatten(0, 2))

    def _depth_views(self, observation: Observation) -> DepthViews | None:
        """Depth and calibration of all frames and views, flattened; None when the network uses no depth."""
        if not self.config.use_depth or observation.depth is None:
            return None
        view_mask = observation.view_mask.flatten()
        depth_m = observation.depth.flatten(0, 2).masked_fill(~view_mask[:, None, None], 0.0)
        if observation.intrinsics is None or observation.T_world_cam is None:
            return DepthViews(depth_m=depth_m)
        identity = torch.eye(4, dtype=depth_m.dtype, device=depth_m.device)
        present = view_mask[:, None, None]
        intrinsics = torch.where(present, observation.intrinsics.flatten(0, 2), identity[:3, :3])
        T_world_cam = torch.where(present, observation.T_world_cam.flatten(0, 2), identity)
        return DepthViews(depth_m=depth_m, intrinsics=intrinsics, T_world_cam=T_world_cam)

    def _layout(self, *, frames: int, text_tokens: int) -> TokenLayout:
        """Role, view and patch cell of every token, in the order in which ``forward`` joins them."""
        rows, columns = self.grid
        device = self.queries.device
        cells = torch.cartesian_prod(torch.arange(rows, device=device), torch.arange(columns, device=device))
        views = torch.arange(self.views, device=device)
        counts = {
            TokenRole.IMAGE: frames * self.views * len(cells),
            TokenRole.KEYPOINT: frames * self.views * self.keypoint_encoder.tokens,
            TokenRole.TEXT: text_tokens,
            TokenRole.STATE: 1,
            TokenRole.QUERY: self.n_queries,
        }
        role = torch.cat([torch.full((n,), int(kind), device=device) for kind, n in counts.items()])
        view, cell = torch.full_like(role, -1), torch.full((len(role), 2), -1, device=device)
        view[role == TokenRole.IMAGE] = views.repeat_interleave(len(cells)).repeat(frames)
        view[role == TokenRole.KEYPOINT] = views.repeat_interleave(self.keypoint_encoder.tokens).repeat(frames)
        cell[role == TokenRole.IMAGE] = cells.repeat(frames * self.views, 1)
        return TokenLayout(role=role, view=view, cell=cell)

    def _check(self, observation: Observation) -> None:
        """Raise ``ValueError`` that says which shape was expected and which came."""
        b, t = observation.images.shape[:2]
        image = (b, t, self.views, 3, *self.image_size_px)
        expected = {"images": image, "view_mask": image[:3], "state": (b, self.state_dim)}
        if self.config.use_depth:
            if observation.depth is None:
                raise ValueError("expected depth images, because the network was built with use_depth; got none")
            expected["depth"] = (*image[:3], *self.image_size_px)
        for name, shape in expected.items():
            given = tuple(getattr(observation, name).shape)
            if given != shape:
                raise ValueError(f"expected {name} of shape {shape}, got {given}")
        if not 1 <= t <= self.config.frames:
            raise ValueError(f"expected 1…{self.config.frames} frames per view, got {t}")
        if observation.text.shape[1] > self.text_window:
            raise ValueError(f"expected at most {self.text_window} text tokens, got {observation.text.shape[1]}")


def prefix_bias(mask: Bool[Tensor, "b n"], n_queries: int, dtype: torch.dtype) -> Float[Tensor, "b 1 n n"]:
    """Attention bias of a prefix-LM: −inf on padding, and from the prefix to the last ``n_queries`` tokens."""
    n = mask.shape[1]
    allowed = mask[:, None, None, :].repeat(1, 1, n, 1)
    allowed[:, :, : n - n_queries, n - n_queries :] = False
    return torch.zeros(allowed.shape, dtype=dtype, device=mask.device).masked_fill(~allowed, float("-inf"))


def _embedding(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(0.02 * torch.randn(count, width))


def _perceptron(size_in: int, hidden: int, size_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size_in, hidden), nn.GELU(), nn.Linear(hidden, size_out))
