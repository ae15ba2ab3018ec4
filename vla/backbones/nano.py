"""``nano``: a small vision-language network whose tokens say *where* things are.

Convolutions turn each image into a feature map. It yields patch tokens on a coarse grid, and keypoint tokens: the
instruction asks the map where its words are, and each answer, a heatmap, is reduced to its expected position, so that
"the red cube" becomes a coordinate. A prefix-LM transformer mixes them with the text and the state; learned queries
come last. Half-way through, one token per view, which by then knows where what the words may mean is, looks at the map
again: so "the red cube left of the bin" becomes a coordinate too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla.backbone import Backbone
from vla.backbones.convolution import ImageEncoder
from vla.backbones.keypoints import DepthViews, KeypointEncoder
from vla.backbones.scene import Prefix, Scene
from vla.backbones.text import TextEncoder
from vla.backbones.tokenizer import NanoTokenizer
from vla.backbones.transformer import Block, prefix_bias
from vla.features import Features, Sight, TokenLayout, TokenRole
from vla.observation import Observation

TEXT_TOKENS = 256
"""Text window where nobody says which: enough for several sentences."""
TEXT_HEADROOM = 1.25
"""How much longer than the sentences it is made for a window is at least: people say more."""
_TEXT_STEP = 16

Weights = Literal["shipped", "fresh"]
DEFAULT_WEIGHTS: Weights = "shipped"
"""What a new network starts from where nobody says."""


@dataclass(frozen=True, kw_only=True)
class NanoConfig:
    """Sizes of :class:`Nano`.

    ``channels`` is the width of the image encoder and ``wide`` that of its coarser half. ``keypoints`` is the number of
    heatmaps per view at first sight, of which ``keypoints_per_token`` share a token, and ``second_keypoints`` that of
    the second look, which share one; ``patch_px`` is the side of the square that one patch token covers, a multiple of
    8. The second look comes after half of the ``depth`` blocks. ``max_text_tokens`` is the longest instruction that it
    can take in; where it is None, training asks :meth:`reading` for what the data and their tasks say, and
    ``TEXT_TOKENS`` stand for it elsewhere. ``frames`` is the most images per view that an observation may hold. With
    ``use_depth`` the network also needs depth images, and keypoint tokens carry points in the world where cameras are
    calibrated.

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
    use_depth: bool = False
    weights: Weights = field(default=DEFAULT_WEIGHTS, compare=False)

    def __post_init__(self) -> None:
        if self.second_keypoints < 2:
            raise ValueError(f"second_keypoints must be at least 2, got {self.second_keypoints}")
        if self.max_text_tokens is not None and self.max_text_tokens < 1:
            raise ValueError(f"max_text_tokens must be at least 1, got {self.max_text_tokens}")

    def reading(self, sentences: Sequence[str]) -> "NanoConfig":
        """This config with a window for all of ``sentences`` and a quarter more, if it does not say what window."""
        if self.max_text_tokens is not None or not sentences:
            return self
        wanted = TEXT_HEADROOM * NanoTokenizer().longest(sentences)
        return replace(self, max_text_tokens=_TEXT_STEP * math.ceil(wanted / _TEXT_STEP))

    @property
    def locates(self) -> bool:
        """It can predict a waypoint."""
        return True

    @property
    def needs(self) -> str:
        """What it must be fed beside colour images of the present, in the words of its fields; empty where nothing."""
        return "" if not self.use_depth and self.frames == 1 else "use_depth must be off and frames 1"

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


class Nano(Backbone):
    """Sequence: looks (view), patches (time, view, row, column), keypoints (time, view, index), text, state, queries.

    The prefix attends to itself in both directions; queries attend to everything. Looks count as keypoints: after the
    first half of the blocks they carry what was found when looking again. Raises ``ValueError`` for an observation
    whose shapes do not fit.
    """

    def __init__(
        self, config: NanoConfig, *, state_dim: int, views: int, image_size_px: tuple[int, int], waypoint_dim: int
    ) -> None:
        super().__init__()
        if config.patch_px % ImageEncoder.multiple or any(side % config.patch_px for side in image_size_px):
            raise ValueError(
                f"patch_px must be a multiple of {ImageEncoder.multiple} that divides the image size, "
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
        self.image_encoder = ImageEncoder(4 if config.use_depth else 3, config.channels, config.blocks, config.wide)
        rows, columns = (side // ImageEncoder.stride for side in image_size_px)
        self.map_position = nn.Parameter(torch.zeros(config.channels, rows, columns))
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
        self.look_embedding = _embedding(views, width)
        self.second_question = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.second_look = KeypointEncoder(
            config.channels,
            config.second_keypoints,
            width,
            per_token=config.second_keypoints,
            use_depth=config.use_depth,
        )
        self.look_after = max(1, config.depth // 2)
        self.role_embedding = _embedding(len(TokenRole), width)
        self.queries = _embedding(config.n_queries, width)
        positions = views * (config.keypoints + config.second_keypoints) * 2
        self.waypoint = _perceptron(positions + state_dim, 128, waypoint_dim) if waypoint_dim else None
        self.query_position = nn.Linear(positions + waypoint_dim, config.n_queries * width)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))

    def tokenize(self, texts: Sequence[str], ended: bool = False) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        return self._tokenizer.encode(texts, ended=ended)

    @property
    def end_id(self) -> int:
        return self._tokenizer.end_id

    def read(self, ids: Int[Tensor, "n m"]) -> list[str]:
        return [self._tokenizer.decode(row) for row in ids.cpu()]

    def lost_words(self, text: str) -> str:
        return self._tokenizer.beyond(text, self.text_window)

    def forward(self, observation: Observation) -> Features:
        prefix = self._prefix(observation)
        n = len(prefix.tokens)
        queries = (self.queries + self.role_embedding[TokenRole.QUERY]).expand(n, -1, -1)
        mask = torch.cat([prefix.mask, prefix.mask.new_ones(n, self.n_queries)], dim=1)
        bias = prefix_bias(mask, self.n_queries, queries.dtype)
        hidden, sight = self._think(prefix, queries, bias, to_act=True)
        layout = self._layout(frames=observation.images.shape[1], text_tokens=observation.text.shape[1])
        return Features(
            hidden=torch.stack(hidden), mask=mask, layout=layout, state=observation.state, waypoint=sight.waypoint
        )

    def see(self, observation: Observation) -> Float[Tensor, "b t v c h w"]:
        """Feature maps of all frames and views."""
        self._check(observation)
        maps = self._maps(observation, self._depth_views(observation))
        return maps.unflatten(0, observation.view_mask.shape)

    def look(
        self, observation: Observation, about: Int[Tensor, " n"] | None = None, seen: Tensor | None = None
    ) -> Sight:
        prefix = self._prefix(observation, about, seen)
        x, bias = prefix.tokens, prefix_bias(prefix.mask, 0, prefix.tokens.dtype)
        for block in self.blocks[: self.look_after]:
            x = block(x, bias)
        return self._look_again(x[:, : self.views], prefix)[-1]

    def patches(
        self, observation: Observation, seen: Tensor | None = None
    ) -> tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"]]:
        scene = self._scene(observation, seen)
        tokens = scene.patches + self._place(scene.view_mask.shape[1])
        return tokens.flatten(1, 3), _per_token(scene.view_mask, tokens)

    def sentence(self, text: Int[Tensor, "n m"], text_mask: Bool[Tensor, "n m"]) -> Float[Tensor, "n d"]:
        return self.text_encoder(text, text_mask)[1]

    @property
    def words(self) -> Float[Tensor, "c d"]:
        return self.text_encoder.token.weight

    def tell(
        self,
        observation: Observation,
        about: Int[Tensor, " n"],
        told: Float[Tensor, "n m d"],
        told_mask: Bool[Tensor, "n m"],
        seen: Tensor | None = None,
    ) -> Float[Tensor, "n m d"]:
        prefix = self._prefix(observation, about, seen)
        mask = torch.cat([prefix.mask, told_mask], dim=1)
        bias = prefix_bias(mask, told.shape[1], told.dtype, causal=True)
        hidden, _ = self._think(prefix, told, bias, to_act=False)
        return hidden[-1][:, -told.shape[1] :]

    def locate(self, observation: Observation) -> Float[Tensor, "b w"]:
        waypoint = self.look(observation).waypoint
        return super().locate(observation) if waypoint is None else waypoint

    def _think(
        self, prefix: Prefix, last: Float[Tensor, "n q d"], bias: Float[Tensor, "n 1 m m"], *, to_act: bool
    ) -> tuple[list[Float[Tensor, "n m d"]], Sight]:
        """The hidden states of every block, of the prefix and of what comes ``last``; queries that are ``to_act`` are
        told all places when they are known.
        """
        x, hidden, sight, many = torch.cat([prefix.tokens, last], dim=1), [], None, last.shape[1]
        for index, block in enumerate(self.blocks, start=1):
            x = block(x, bias)
            if index == self.look_after:
                found, places, sight = self._look_again(x[:, : self.views], prefix)
                parts = [x[:, : self.views] + found, x[:, self.views : -many], x[:, -many:]]
                if to_act:
                    parts[-1] = parts[-1] + self.query_position(places).unflatten(-1, (self.n_queries, -1))
                x = torch.cat(parts, dim=1)
            hidden.append(x)
        assert sight is not None
        return hidden, sight

    def _prefix(
        self, observation: Observation, about: Int[Tensor, " n"] | None = None, seen: Tensor | None = None
    ) -> Prefix:
        """Everything but what comes last in the sequence; ``about`` and ``seen`` are as in :meth:`look`."""
        self._check(observation)
        text, pooled = self.text_encoder(observation.text, observation.text_mask)
        scene = self._scene(observation, seen)
        if about is not None:
            scene = scene.at(about)
        n, t, v = scene.view_mask.shape
        questions = pooled[:, None] + self.camera_embedding
        asked = questions[:, None].expand(n, t, v, -1)
        keypoints, position = self.keypoint_encoder(scene.maps.flatten(0, 2), asked.flatten(0, 2), scene.depth_views)
        position = position.unflatten(0, (n, t, v))[:, -1] * scene.view_mask[:, -1, :, None, None]
        keypoints = (keypoints + self.keypoint_embedding).unflatten(0, (n, t, v))
        place = self._place(t)
        always = observation.text_mask.new_ones(n, 1)
        looks = self.look_embedding + questions
        parts = (
            (TokenRole.KEYPOINT, looks, scene.view_mask[:, -1]),
            (TokenRole.IMAGE, (scene.patches + place).flatten(1, 3), _per_token(scene.view_mask, scene.patches)),
            (TokenRole.KEYPOINT, (keypoints + place).flatten(1, 3), _per_token(scene.view_mask, keypoints)),
            (TokenRole.TEXT, text, observation.text_mask),
            (TokenRole.STATE, self.state_encoder(scene.state)[:, None], always),
        )
        return Prefix(
            tokens=torch.cat([tokens + self.role_embedding[role] for role, tokens, _ in parts], dim=1),
            mask=torch.cat([mask for _, _, mask in parts], dim=1),
            scene=scene,
            questions=questions,
            position=position,
        )

    def _look_again(
        self, looks: Float[Tensor, "n v d"], prefix: Prefix
    ) -> tuple[Float[Tensor, "n v d"], Float[Tensor, "n p"], Sight]:
        """What each view's look finds, as a token to add to it, with all places so far, and as a :class:`Sight`."""
        scene = prefix.scene
        n, t, v = scene.view_mask.shape
        question = self.second_question(looks) + prefix.questions
        maps, question = scene.maps[:, -1].flatten(0, 1), question.flatten(0, 1)
        depth_views = None if scene.depth_views is None else scene.depth_views.of_the_present(n, t)
        tokens, position, log_heatmap = self.second_look.look(maps, question, depth_views)
        position = position.unflatten(0, (n, v)) * scene.view_mask[:, -1, :, None, None]
        places = torch.cat([prefix.position, position], dim=2).flatten(1)
        waypoint = None if self.waypoint is None else self.waypoint(torch.cat([places, scene.state], dim=-1))
        sight = Sight(waypoint=waypoint, position=position, log_heatmap=log_heatmap.unflatten(0, (n, v)))
        places = places if waypoint is None else torch.cat([places, waypoint], dim=-1)
        return tokens.unflatten(0, (n, v))[:, :, 0], places, sight

    def _place(self, t: int) -> Float[Tensor, "t v 1 d"]:
        """What tells the last t frames and the views apart."""
        return (self.view_embedding + self.time_embedding[-t:, None])[:, :, None]

    def _scene(self, observation: Observation, seen: Tensor | None) -> Scene:
        """What the pictures hold, whatever is asked; missing views are blanked."""
        maps = self.see(observation) if seen is None else seen
        patches = self.patch_encoder(maps.flatten(0, 2)).flatten(2).mT + self.cell_embedding
        return Scene(
            maps=maps,
            patches=patches.unflatten(0, observation.view_mask.shape),
            view_mask=observation.view_mask,
            state=observation.state,
            depth_views=self._depth_views(observation),
        )

    def _maps(self, observation: Observation, depth_views: DepthViews | None) -> Float[Tensor, "m c h w"]:
        """Feature maps of all frames and views, flattened."""
        view_mask = observation.view_mask
        images = observation.images.masked_fill(~view_mask[..., None, None, None], 0.0)
        if depth_views is not None:
            images = torch.cat([images, depth_views.depth_m.view(*view_mask.shape, 1, *self.image_size_px)], dim=3)
        return self.image_encoder(images.flatten(0, 2)) + self.map_position

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
        counts = (
            (TokenRole.KEYPOINT, self.views),
            (TokenRole.IMAGE, frames * self.views * len(cells)),
            (TokenRole.KEYPOINT, frames * self.views * self.keypoint_encoder.tokens),
            (TokenRole.TEXT, text_tokens),
            (TokenRole.STATE, 1),
            (TokenRole.QUERY, self.n_queries),
        )
        role = torch.cat([torch.full((n,), int(kind), device=device) for kind, n in counts])
        view, cell = torch.full_like(role, -1), torch.full((len(role), 2), -1, device=device)
        of_keypoints = views.repeat_interleave(self.keypoint_encoder.tokens).repeat(frames)
        view[role == TokenRole.KEYPOINT] = torch.cat([views, of_keypoints])
        view[role == TokenRole.IMAGE] = views.repeat_interleave(len(cells)).repeat(frames)
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


def _per_token(view_mask: Bool[Tensor, "n t v"], tokens: Float[Tensor, "n t v k d"]) -> Bool[Tensor, "n m"]:
    return view_mask[..., None].expand(*tokens.shape[:-1]).flatten(1)


def _embedding(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(0.02 * torch.randn(count, width))


def _perceptron(size_in: int, hidden: int, size_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size_in, hidden), nn.GELU(), nn.Linear(hidden, size_out))
