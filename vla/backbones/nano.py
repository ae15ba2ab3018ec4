"""``nano``: a small vision-language network whose tokens say *where* things are.

Convolutions turn each image into a feature map. It yields patch tokens on a coarse grid, and keypoint tokens: the
instruction asks the map where its words are, and each answer, a heatmap, is reduced to its expected position, so that
"the red cube" becomes a coordinate. A prefix-LM transformer mixes them with the text and the state; learned queries
come last. Half-way through, one token per view, which by then knows where what the words may mean is, looks at the map
again: so "the red cube left of the bin" becomes a coordinate too.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla.backbone import Backbone
from vla.backbones.convolution import ImageEncoder
from vla.backbones.keypoints import KeypointEncoder
from vla.backbones.merging import counted
from vla.backbones.moments import Moments
from vla.backbones.nano_config import TEXT_TOKENS, NanoConfig
from vla.backbones.nano_inputs import check_shapes, views_of
from vla.backbones.nano_layout import nano_layout, placed
from vla.backbones.points import Points, point_map, points_under
from vla.backbones.position_prompt import PositionPrompt
from vla.backbones.scene import PrefixTokens, Scene
from vla.backbones.sightlines import Sightlines
from vla.backbones.text import TextEncoder
from vla.backbones.token_reduction import token_reduction
from vla.backbones.tokenizer import NanoTokenizer
from vla.backbones.transformer import Block, BlockCache, KeysValues, prefix_bias, suffix_bias
from vla.backbones.views import Views
from vla.features import Features, Prefix, Sight, TokenRole, mean_picture
from vla.observation import Observation

if TYPE_CHECKING:
    from vla.backbones.pretrained_text import PretrainedText
    from vla.backbones.vlm.words import PromptTokenizer


class Nano(Backbone):
    """Sequence: looks (view), patches (time, view, row, column), keypoints (time, view, index), text, state, queries.

    The prefix attends to itself in both directions; queries attend to everything. Looks count as keypoints: after the
    first half of the blocks they carry what was found when looking again. Raises ``ValueError`` for an observation
    whose shapes do not fit. It reads with words of its own, or with the ``reader``, if there is one.
    """

    def __init__(
        self,
        config: NanoConfig,
        *,
        state_dim: int,
        views: int,
        image_size_px: tuple[int, int],
        waypoint_dim: int,
        reader: "tuple[PromptTokenizer, PretrainedText] | None" = None,
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
        self.reduction = token_reduction(self.grid, views, budget=config.image_budget, merged=config.merged_tokens)
        self.text_window = config.max_text_tokens or TEXT_TOKENS
        self._tokenizer: Any = NanoTokenizer() if reader is None else reader[0]
        self.vocabulary = self._tokenizer.fingerprint

        width, cells = config.width, config.patch_px // ImageEncoder.stride
        self.text_encoder = (
            TextEncoder(self._tokenizer.vocabulary_size, self.text_window, width) if reader is None else reader[1]
        )
        self.image_encoder = ImageEncoder(4 if config.use_depth else 3, config.channels, config.blocks, config.wide)
        self.position_prompt = PositionPrompt(image_size_px) if config.position_prompt else None
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
        self.sightlines = Sightlines(config, views=views, waypoint_dim=waypoint_dim) if config.use_cameras else None
        self.points = Points(config, views=views, waypoint_dim=waypoint_dim) if config.use_points else None
        self.moments = Moments(width) if config.use_times else None

    def tokenize(self, texts: Sequence[str], ended: bool = False) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        return self._tokenizer.encode(texts, ended=ended)

    @property
    def end_id(self) -> int:
        return self._tokenizer.end_id

    def read(self, ids: Int[Tensor, "n m"]) -> list[str]:
        return [self._tokenizer.decode(row) for row in ids.tolist()]

    def lost_words(self, text: str) -> str:
        return self._tokenizer.beyond(text, self.text_window)

    def forward(self, observation: Observation) -> Features:
        prefix = self._prefix(observation)
        queries = (self.queries + self.role_embedding[TokenRole.QUERY]).expand(len(prefix.tokens), -1, -1)
        mask = torch.cat([prefix.mask, prefix.mask.new_ones(len(prefix.tokens), self.n_queries)], dim=1)
        bias = counted(prefix_bias(mask, self.n_queries, queries.dtype), prefix.size)
        hidden, sight, _ = self._think(prefix, queries, bias)
        return self._features(observation, hidden, mask, sight, self.n_queries, prefix)

    def encode(self, observation: Observation) -> Prefix:
        tokens = self._prefix(observation)
        hidden, sight, cache = self._remember(tokens)
        features = self._features(observation, hidden, tokens.mask, sight, 0, tokens)
        return Prefix(features=features, cache=cache)

    def decode(
        self, prefix: Prefix, embedded: Float[Tensor, "n m d"], mask: Bool[Tensor, "n m"], *, causal: bool
    ) -> tuple[Float[Tensor, "l n m d"], Prefix]:
        hidden, cache = self._go_on(prefix.cache, embedded, mask, causal=causal)
        return torch.stack(hidden), Prefix(features=prefix.features, cache=cache)

    def see(self, observation: Observation) -> Float[Tensor, "b t v c h w"]:
        """Feature maps of all frames and views."""
        self._check(observation)
        maps = self._maps(observation, views_of(observation, self.config))
        return maps.unflatten(0, observation.view_mask.shape)

    def look(
        self, observation: Observation, about: Int[Tensor, " n"] | None = None, seen: Tensor | None = None
    ) -> Sight:
        prefix = self._prefix(observation, about, seen)
        x, bias = prefix.tokens, counted(prefix_bias(prefix.mask, 0, prefix.tokens.dtype), prefix.size)
        for block in self.blocks[: self.look_after]:
            x = block(x, bias)
        return self._look_again(x[:, : self.views], prefix)[-1]

    @property
    def heatmap_shape(self) -> tuple[int, int, int]:
        return self.config.channels, self.config.second_keypoints, ImageEncoder.stride

    def patches(
        self, observation: Observation, seen: Tensor | None = None
    ) -> tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"]]:
        scene = self._scene(observation, seen)
        tokens = scene.patches + self._place(scene)
        return tokens.flatten(1, 3), _per_token(scene.view_mask, tokens)

    def sentence(self, text: Int[Tensor, "n m"], text_mask: Bool[Tensor, "n m"]) -> Float[Tensor, "n d"]:
        return self.text_encoder(text, text_mask)[1]

    @property
    def words(self) -> Float[Tensor, "c d"]:
        return self.text_encoder.words

    def tell(
        self,
        observation: Observation,
        about: Int[Tensor, " n"],
        told: Float[Tensor, "n m d"],
        told_mask: Bool[Tensor, "n m"],
        seen: Tensor | None = None,
    ) -> Float[Tensor, "n m d"]:
        *_, cache = self._remember(self._prefix(observation, about, seen))
        return self._go_on(cache, told, told_mask, causal=True)[0][-1]

    def locate(self, observation: Observation) -> Float[Tensor, "b w"]:
        waypoint = self.look(observation).waypoint
        return super().locate(observation) if waypoint is None else waypoint

    def _think(
        self, prefix: PrefixTokens, queries: Float[Tensor, "n q d"], bias: Float[Tensor, "n 1 m m"]
    ) -> tuple[list[Float[Tensor, "n m d"]], Sight, list[KeysValues]]:
        """The hidden states of every block, of the prefix and of the queries, if any, which are told all places when
        they are known; what was seen then, and keys and values of every block.
        """
        x, hidden, kept, sight = torch.cat([prefix.tokens, queries], dim=1), [], [], None
        for index, block in enumerate(self._each_block(), start=1):
            x, keys_values = block.extend(x, bias)
            if index == self.look_after:
                found, told, sight = self._look_again(x[:, : self.views], prefix)
                looks, others, acting = x.split(
                    [self.views, prefix.tokens.shape[1] - self.views, queries.shape[1]], dim=1
                )
                if queries.shape[1]:
                    acting = acting + told
                x = torch.cat([looks + found, others, acting], dim=1)
            hidden.append(x)
            kept.append(keys_values)
        assert sight is not None
        return hidden, sight, kept

    def _remember(self, prefix: PrefixTokens) -> tuple[list[Float[Tensor, "n m d"]], Sight, BlockCache]:
        """As :meth:`_think` without queries, with what is kept of it."""
        bias = counted(prefix_bias(prefix.mask, 0, prefix.tokens.dtype), prefix.size)
        hidden, sight, kept = self._think(prefix, prefix.tokens[:, :0], bias)
        return hidden, sight, BlockCache(keys_values=tuple(kept), mask=prefix.mask, size=prefix.size)

    def _go_on(
        self, cache: BlockCache, x: Float[Tensor, "n m d"], mask: Bool[Tensor, "n m"], *, causal: bool
    ) -> tuple[list[Float[Tensor, "n m d"]], BlockCache]:
        """The hidden states of every block of tokens after those of ``cache``, and the cache with them."""
        mask, hidden, kept = torch.cat([cache.mask, mask], dim=1), [], []
        bias = counted(suffix_bias(mask, x.shape[1], x.dtype, causal=causal), cache.size)
        for block, past in zip(self._each_block(), cache.keys_values, strict=True):
            x, keys_values = block.extend(x, bias, past)
            hidden.append(x)
            kept.append(keys_values)
        return hidden, BlockCache(keys_values=tuple(kept), mask=mask, size=cache.size)

    def _each_block(self) -> list[Block]:
        return list(self.blocks)  # pyright: ignore[reportReturnType]

    def _features(
        self,
        observation: Observation,
        hidden: list[Tensor],
        mask: Bool[Tensor, "n m"],
        sight: Sight,
        queries: int,
        prefix: PrefixTokens,
    ) -> Features:
        layout = nano_layout(
            frames=observation.images.shape[1],
            views=self.views,
            grid=self.grid if self.reduction is None else None,
            patches=self.grid[0] * self.grid[1] if self.reduction is None else self.reduction.tokens,
            keypoint_tokens=self.keypoint_encoder.tokens,
            text_tokens=observation.text.shape[1],
            queries=queries,
            device=mask.device,
        )
        layout = layout if prefix.cells is None else placed(layout, prefix.cells)
        return Features(
            hidden=torch.stack(hidden),
            mask=mask,
            layout=layout,
            state=observation.state,
            waypoint=sight.waypoint,
            sight=sight,
            picture=mean_picture(prefix.tokens, prefix.mask, layout),
        )

    def _prefix(
        self, observation: Observation, about: Int[Tensor, " n"] | None = None, seen: Tensor | None = None
    ) -> PrefixTokens:
        """Everything but what comes last in the sequence; ``about`` and ``seen`` are as in :meth:`look`."""
        self._check(observation)
        text, pooled = self.text_encoder(observation.text, observation.text_mask)
        scene = self._scene(observation, seen)
        if about is not None:
            scene = scene.at(about)
        n, t, v = scene.view_mask.shape
        questions = pooled[:, None] + self.camera_embedding
        asked = questions[:, None].expand(n, t, v, -1)
        seen_as = scene.maps.flatten(0, 2), asked.flatten(0, 2), scene.views
        rays = points = None
        if self.points is None:
            keypoints, position = self.keypoint_encoder(*seen_as)
        else:
            assert scene.points is not None
            keypoints, position, log_heatmap = self.keypoint_encoder.look(*seen_as)
            points = points_under(log_heatmap, scene.points.flatten(0, 2))
            keypoints = keypoints + self.points.of_tokens(points)
            points = _of_the_present(points, scene.view_mask)
        if self.sightlines is not None:
            assert scene.views is not None
            rays = scene.views.rays(position)
            keypoints = keypoints + self.sightlines.of_tokens(rays)
            rays = _of_the_present(rays, scene.view_mask)
        position = _of_the_present(position, scene.view_mask)
        keypoints = (keypoints + self.keypoint_embedding).unflatten(0, (n, t, v))
        place = self._place(scene)
        always = observation.text_mask.new_ones(n, 1)
        looks = self.look_embedding + questions
        patches, size, cells = self._fewer(scene)
        parts = (
            (TokenRole.KEYPOINT, looks, scene.view_mask[:, -1]),
            (TokenRole.IMAGE, (patches + place).flatten(1, 3), _per_token(scene.view_mask, patches)),
            (TokenRole.KEYPOINT, (keypoints + place).flatten(1, 3), _per_token(scene.view_mask, keypoints)),
            (TokenRole.TEXT, text, observation.text_mask),
            (TokenRole.STATE, self.state_encoder(scene.state)[:, None], always),
        )
        return PrefixTokens(
            tokens=torch.cat([tokens + self.role_embedding[role] for role, tokens, _ in parts], dim=1),
            mask=torch.cat([mask for _, _, mask in parts], dim=1),
            scene=scene,
            questions=questions,
            position=position,
            rays=rays,
            points=points,
            size=None if size is None else nn.functional.pad(size, (self.views, 0), value=1.0),
            cells=cells,
        )

    def _fewer(
        self, scene: Scene
    ) -> tuple[Float[Tensor, "n t v p d"], Float[Tensor, "n m"] | None, Float[Tensor, "n t v p 2"] | None]:
        """Patches after averaging and merging, if any, with what they count for and the cells that they stand for."""
        if self.reduction is None:
            return scene.patches, None, None
        shape, tokens = scene.view_mask.shape, scene.patches.flatten(0, 2)
        reduced = self.reduction.reduced(tokens, scene.view_mask.flatten())
        patches, cells = (x.unflatten(0, shape) for x in (reduced.of(tokens), self.reduction.cells(reduced)))
        return patches, reduced.size.reshape(len(scene.state), -1), cells

    def _look_again(
        self, looks: Float[Tensor, "n v d"], prefix: PrefixTokens
    ) -> tuple[Float[Tensor, "n v d"], Float[Tensor, "n q d"], Sight]:
        """What each view's look finds, as a token to add to it and as a :class:`Sight`; and what all places so far tell
        the queries.
        """
        scene = prefix.scene
        n, t, v = scene.view_mask.shape
        question = self.second_question(looks) + prefix.questions
        maps, question = scene.maps[:, -1].flatten(0, 1), question.flatten(0, 1)
        views = None if scene.views is None else scene.views.of_the_present(n, t)
        tokens, position, log_heatmap = self.second_look.look(maps, question, views)
        rays, lines = None, self.sightlines
        if lines is not None:
            assert views is not None and prefix.rays is not None
            second = views.rays(position)
            tokens = tokens + lines.second(second.flatten(1))[:, None]
            rays = torch.cat([prefix.rays, _of_the_present(second, scene.view_mask[:, -1:])], dim=2).flatten(1)
        points = None
        if self.points is not None:
            assert scene.points is not None and prefix.points is not None
            second = points_under(log_heatmap, scene.points[:, -1].flatten(0, 1))
            tokens = tokens + self.points.second(second.flatten(1))[:, None]
            points = torch.cat([prefix.points, _of_the_present(second, scene.view_mask[:, -1:])], dim=2).flatten(1)
        position = _of_the_present(position, scene.view_mask[:, -1:])
        places = torch.cat([prefix.position, position], dim=2).flatten(1)
        waypoint = None if self.waypoint is None else self.waypoint(torch.cat([places, scene.state], dim=-1))
        if waypoint is not None and lines is not None and lines.waypoint is not None:
            waypoint = waypoint + lines.waypoint(rays)
        if waypoint is not None and self.points is not None and self.points.waypoint is not None:
            waypoint = waypoint + self.points.waypoint(points)
        heat = log_heatmap.unflatten(0, (n, v))
        sight = Sight(waypoint=waypoint, position=position, log_heatmap=heat, maps=scene.maps[:, -1])
        told = self.query_position(places if waypoint is None else torch.cat([places, waypoint], dim=-1))
        told = told if lines is None else told + lines.queries(rays)
        told = told if self.points is None else told + self.points.queries(points)
        return tokens.unflatten(0, (n, v))[:, :, 0], told.unflatten(-1, (self.n_queries, -1)), sight

    def _place(self, scene: Scene) -> Float[Tensor, "*n t v 1 d"]:
        """What tells the last t frames and the views apart, and says how old they are."""
        t = scene.view_mask.shape[1]
        place = (self.view_embedding + self.time_embedding[-t:, None])[:, :, None]
        return (
            place
            if scene.age_s is None or self.moments is None
            else place + self.moments(scene.age_s)[:, :, None, None]
        )

    def _scene(self, observation: Observation, seen: Tensor | None) -> Scene:
        """What the pictures hold, whatever is asked; missing views are blanked."""
        maps = self.see(observation) if seen is None else seen
        patches = self.patch_encoder(maps.flatten(0, 2)).flatten(2).mT + self.cell_embedding
        views, points, there = views_of(observation, self.config), None, observation.view_mask.shape
        if self.points is not None:
            assert views is not None
            points = point_map(views, ImageEncoder.stride)
            patches = patches + self.points.of_patches(points, self.grid)
            points = points.unflatten(0, there)
        return Scene(
            maps=maps,
            patches=patches.unflatten(0, there),
            view_mask=observation.view_mask,
            state=observation.state,
            views=views,
            points=points,
            age_s=observation.age_s if self.config.use_times else None,
        )

    def _maps(self, observation: Observation, views: Views | None) -> Float[Tensor, "m c h w"]:
        """Feature maps of all frames and views, flattened."""
        view_mask = observation.view_mask
        images = observation.images.masked_fill(~view_mask[..., None, None, None], 0.0)
        images = images if self.position_prompt is None else self.position_prompt(images)
        if self.config.use_depth and views is not None and views.depth_m is not None:
            images = torch.cat([images, views.depth_m.view(*view_mask.shape, 1, *self.image_size_px)], dim=3)
        return self.image_encoder(images.flatten(0, 2)) + self.map_position

    def _check(self, observation: Observation) -> None:
        check_shapes(
            observation,
            self.config,
            views=self.views,
            image_size_px=self.image_size_px,
            state_dim=self.state_dim,
            text_window=self.text_window,
        )


def _of_the_present(numbers: Float[Tensor, "m k r"], view_mask: Bool[Tensor, "n t v"]) -> Float[Tensor, "n v k r"]:
    """Those of the last time, of all times and views in a row; 0 in a view that is missing."""
    return numbers.unflatten(0, tuple(view_mask.shape))[:, -1] * view_mask[:, -1, :, None, None]


def _per_token(view_mask: Bool[Tensor, "n t v"], tokens: Float[Tensor, "n t v k d"]) -> Bool[Tensor, "n m"]:
    return view_mask[..., None].expand(*tokens.shape[:-1]).flatten(1)


def _embedding(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(0.02 * torch.randn(count, width))


def _perceptron(size_in: int, hidden: int, size_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size_in, hidden), nn.GELU(), nn.Linear(hidden, size_out))
