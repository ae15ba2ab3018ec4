"""A head that says where to go next as heatmaps: BridgeVLA (arXiv 2506.07961), on the features of a small backbone.

What depth cameras see becomes one coloured point cloud, and that three orthographic pictures of a cube, which are what
the backbone sees. In each it says where the tool is to be at the next keyframe, as a heatmap, and the point of the
world that the three agree on is the answer; then it looks again at a smaller cube about that point, with the same
weights. How the tool is turned there, the gripper, and whether the way is straight is read off at the answer.

Departures: heatmaps are those that the backbone looks with, which pre-training shapes (:mod:`vla.objectives.looking`),
mixed by weights of the sample's own and sent through a trunk (:mod:`vla.heads.heat_trunk`), and a place relative to the
tool (:mod:`vla.heads.beside_tool`), for motions such as lifting, which no thing in the pictures says the end of; angles
are not decoded one after the other; the gripper's command on the way is answered too, so that a policy need remember
nothing; numbers of the state may be told, and where the tool is relative to what is looked at. With ``answer``
``point`` the same network says the point as three numbers instead, which the paper compares itself with.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vla.backbone import Backbone
from vla.features import Features, Sight, TokenRole
from vla.head import Head
from vla.heads.beside_tool import BesideTool
from vla.heads.euler_bins import AXES, BINS, euler_rad, of_bins, soft_bins
from vla.heads.heat_trunk import HeatTrunk
from vla.heads.heatmap_config import HeatmapConfig
from vla.observation import ActionChunk, Keyframe, Observation
from vla.spatial.cloud import Cloud, fuse
from vla.spatial.heatmaps import best_point, point_targets, soft_cross_entropy
from vla.spatial.projection import CubeViews
from vla.spatial.renderer import render
from vla.spatial.upsampling import ConvexUpsampler

BITS = 3
"""The gripper on the way and after it, and clearance."""
FIRST_GATE = 4.0
"""How much more, in logits, the keypoint counts at first that pre-training makes the referent's."""
NEAR_M, FARTHEST = 0.1, 3.0
"""The tool's way to the point is told in this unit, and no more of it than that."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What cameras saw, as a cloud in the world, with all else of the observation, and what looks at it."""

    backbone: Backbone
    observation: Observation
    cloud: Cloud

    @property
    def waypoint(self) -> None:
        """A keyframe is answered instead."""
        return None


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was made of a cube: the logarithm of a heatmap in each of its pictures or, of a head that says it as
    numbers, the point; and what the rest is read off.
    """

    cube: CubeViews
    log_heatmaps: Float[Tensor, "b v s s"] | None
    point_m: Float[Tensor, "b 3"] | None
    maps: Float[Tensor, "b v c h w"]
    thought: Float[Tensor, "b t"]

    @property
    def answer_m(self) -> Float[Tensor, "b 3"]:
        """The point that the pictures agree on, or that was said."""
        if self.log_heatmaps is not None:
            return best_point(self.log_heatmaps, self.cube)[0]
        assert self.point_m is not None
        off = (self.point_m - self.cube.centre_m) / self.cube.half_m[:, None]
        return self.cube.centre_m + off.clamp(-1, 1) * self.cube.half_m[:, None]


class HeatmapHead(Head[Surroundings]):
    """Of a backbone with heatmaps; see the module. ``ValueError`` for another, and for more than one action a chunk."""

    aims = True

    def __init__(
        self, config: HeatmapConfig, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int
    ) -> None:
        super().__init__()
        if horizon != 1:
            raise ValueError(f"a heatmap head answers one keyframe, not chunks: expected a horizon of 1, got {horizon}")
        if backbone.config.needs_cameras or backbone.config.needs:
            raise ValueError("the backbone of a heatmap head sees colour pictures alone: leave its other inputs out")
        try:
            channels, keypoints, stride = backbone.heatmap_shape
        except TypeError as error:
            raise ValueError(f"a heatmap head needs a backbone with heatmaps, such as nano: {error}") from error
        self.config, self.horizon, self.action_dim = config, horizon, action_dim
        told = torch.zeros(state_dim)
        told[list(config.state_dims or ())] = 1.0
        self.told: Tensor
        self.register_buffer("told", told, persistent=False)
        self.norm = nn.LayerNorm(backbone.width)
        thought, views = backbone.width + state_dim + 3, len(config.views)
        self.gates = nn.Linear(thought, keypoints)
        with torch.no_grad():
            self.gates.weight.mul_(0.1)
            self.gates.bias.zero_()
            self.gates.bias[0] = FIRST_GATE
        width = config.upsampler_width
        self.trunk = HeatTrunk(channels, keypoints, views=views, thought=thought, width=width)
        self.upsampler = ConvexUpsampler(width, stride, width=width)
        self.beside_tool = BesideTool(thought, sigma_px=config.sigma_px)
        self.point = None
        if config.answer == "point":
            self.point = _perceptron(2 * views * channels + thought, config.width, 3)
        self.rest = _perceptron(views * channels + thought + 3, config.width, AXES * BINS + BITS)

    def perceive(self, backbone: Backbone, observation: Observation) -> Surroundings:
        """The cloud of the present's RGB-D; ``ValueError`` where there is no depth or calibration, and for a tool whose
        place is not told.
        """
        depth_m, intrinsics, T_world_cam = observation.depth, observation.intrinsics, observation.T_world_cam
        if depth_m is None or intrinsics is None or T_world_cam is None:
            raise ValueError("a heatmap head needs depth images and calibrated cameras, got none")
        if observation.tool_m is None:
            raise ValueError("a heatmap head must be told where the tool is (tool_m)")
        cloud = fuse(
            observation.images[:, -1],
            depth_m[:, -1],
            intrinsics[:, -1],
            T_world_cam[:, -1],
            observation.view_mask[:, -1],
        )
        cloud = self._without_hand(cloud, observation.tool_m)
        observation = replace(observation, state=observation.state * self.told)
        return Surroundings(backbone=backbone, observation=observation, cloud=cloud)

    def _without_hand(self, cloud: Cloud, tool_m: Float[Tensor, "b 3"]) -> Cloud:
        """The cloud without the hand above the fingers, which would hide from above what they are at."""
        off_m = cloud.points - tool_m[:, None]
        hand = (off_m[..., 2] > self.config.fingers_m) & (off_m[..., :2].norm(dim=-1) < self.config.hand_m)
        return replace(cloud, mask=cloud.mask & ~hand)

    def features(self, seen: Surroundings) -> Features:
        """Those of the first look."""
        return seen.backbone(self.drawn(seen, self.workspace(seen.cloud)))

    def workspace(self, cloud: Cloud) -> CubeViews:
        """The cube that is looked at first, for each scene."""
        centre_m = cloud.points.new_tensor(self.config.centre_m).expand(len(cloud.points), 3)
        return CubeViews(centre_m=centre_m, half_m=centre_m.new_full((len(centre_m),), self.config.half_m))

    def loss(self, seen: Surroundings, target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The cross-entropies of heatmaps, angles and bits, all of weight 1; a mean over samples.

        ``ValueError`` for a target without keyframes.
        """
        if target.keyframe is None:
            raise ValueError("a heatmap head learns from keyframes, the target has none")
        keyframe = target.keyframe
        if self.training:
            T = self._moves(len(keyframe.position_m), keyframe.position_m.device)
            seen, keyframe = _moved(seen, T), keyframe.transformed(T)
        workspace = self.workspace(seen.cloud)
        centre_m = keyframe.position_m
        if self.training:
            reach_m = self.config.noise * self.config.half_m
            centre_m = centre_m + reach_m * (2 * torch.rand_like(centre_m) - 1)
        coarse, fine = self._looks(seen, workspace, workspace.magnified(centre_m, self.config.magnification))
        losses = {
            self.config.answer: self._place_loss(coarse, keyframe),
            f"fine_{self.config.answer}": self._place_loss(fine, keyframe),
            **self._loss_of_the_rest(self._rest(seen, fine, keyframe.position_m), keyframe),
        }
        return torch.stack(list(losses.values())).sum(), {name: loss.detach() for name, loss in losses.items()}

    def act(self, seen: Surroundings) -> Float[Tensor, "b h a"]:
        raise TypeError("a heatmap head answers a keyframe and no actions: policies.keyframe_policy makes a plan of it")

    def aim(self, seen: Surroundings) -> Keyframe:
        """The keyframe to go to next; its bits are probabilities."""
        _, fine = self.looks(seen)
        point_m = fine.answer_m
        angles, bits = self._rest(seen, fine, point_m)
        gripper, gripper_after, clearance = bits.sigmoid().unbind(-1)
        return Keyframe(
            position_m=point_m,
            rotation=of_bins(angles.argmax(dim=-1)),
            gripper=gripper,
            gripper_after=gripper_after,
            clearance=clearance,
        )

    def looks(self, seen: Surroundings) -> tuple[Look, Look]:
        """What the backbone makes of the whole cube in each scene, and of the smaller one about its answer."""
        cube = self.workspace(seen.cloud)
        coarse = self._look(seen.backbone, self.drawn(seen, cube), cube)
        cube = cube.magnified(coarse.answer_m, self.config.magnification)
        return coarse, self._look(seen.backbone, self.drawn(seen, cube, self.config.fine_radius_px), cube)

    def _looks(self, seen: Surroundings, coarse: CubeViews, fine: CubeViews) -> tuple[Look, Look]:
        """At two cubes, in one pass through the backbone."""
        first, second = self.drawn(seen, coarse), self.drawn(seen, fine, self.config.fine_radius_px)
        both = {
            name: torch.cat([value, getattr(second, name)]) for name, value in vars(first).items() if value is not None
        }
        cubes = CubeViews(
            centre_m=torch.cat([coarse.centre_m, fine.centre_m]), half_m=torch.cat([coarse.half_m, fine.half_m])
        )
        look = self._look(seen.backbone, Observation(**both), cubes)
        return _part(look, coarse, slice(None, len(coarse.half_m))), _part(look, fine, slice(len(coarse.half_m), None))

    def _look(self, backbone: Backbone, pictures: Observation, cube: CubeViews) -> Look:
        features = backbone(pictures)
        sight, tool_m = features.sight, pictures.tool_m
        assert sight is not None and sight.maps is not None and tool_m is not None
        queries, _ = features.select(TokenRole.QUERY)
        place = ((tool_m - cube.centre_m) / cube.half_m[:, None]).clamp(-FARTHEST, FARTHEST)
        thought = torch.cat([self.norm(queries[-1]).mean(dim=1), pictures.state, place], dim=-1)
        log_heatmaps = point_m = None
        if self.point is None:
            log_heatmaps = self.beside_tool(self._heatmaps(sight, thought), thought, tool_m, cube)
        else:
            pooled = torch.cat([sight.maps.mean(dim=(-2, -1)), sight.maps.amax(dim=(-2, -1))], dim=-1)
            relative = self.point(torch.cat([pooled.flatten(1), thought], dim=-1)).float()
            point_m = cube.centre_m + cube.half_m[:, None] * relative
        return Look(cube=cube, log_heatmaps=log_heatmaps, point_m=point_m, maps=sight.maps, thought=thought)

    def _heatmaps(self, sight: Sight, thought: Float[Tensor, "b t"]) -> Float[Tensor, "b v s s"]:
        """One for each picture: the keypoints' mixed, moved and refined."""
        with torch.autocast(thought.device.type, enabled=False):
            shares = self.gates(thought.float()).log_softmax(dim=-1)
            coarse = (sight.log_heatmap.float() + shares[:, None, :, None, None]).logsumexp(dim=2)
        fine = self.upsampler(*self.trunk(coarse, sight, thought))
        return fine.flatten(1).log_softmax(dim=-1).view(*coarse.shape[:2], *fine.shape[-2:])

    def _rest(
        self, seen: Surroundings, look: Look, point_m: Float[Tensor, "b 3"]
    ) -> tuple[Float[Tensor, "b 3 bins"], Float[Tensor, "b bits"]]:
        """Logits of angles' bins and of the bits, read off where a point appears."""
        b = len(look.maps)
        place = look.cube.project(point_m[:, None]).position.flatten(0, 1)[:, None]
        there = functional.grid_sample(look.maps.flatten(0, 1), place, padding_mode="border", align_corners=False)
        assert seen.observation.tool_m is not None
        way = ((point_m - seen.observation.tool_m) / NEAR_M).clamp(-FARTHEST, FARTHEST)
        answer = self.rest(torch.cat([there.view(b, -1), look.thought, way], dim=-1)).float()
        return answer[:, : AXES * BINS].unflatten(-1, (AXES, BINS)), answer[:, AXES * BINS :]

    def _place_loss(self, look: Look, keyframe: Keyframe) -> Float[Tensor, ""]:
        """Of heatmaps, pictures that the keyframe is outside of have a loss of 0; of points, pixels along each axis."""
        if look.log_heatmaps is None:
            assert look.point_m is not None
            off = (look.point_m - keyframe.position_m).abs() / look.cube.half_m[:, None]
            return off.mean() * self.config.side_px / 2
        targets, _ = point_targets(keyframe.position_m, look.cube, look.log_heatmaps.shape[-1], self.config.sigma_px)
        return soft_cross_entropy(look.log_heatmaps, targets).mean()

    def _loss_of_the_rest(
        self, answer: tuple[Float[Tensor, "b 3 bins"], Float[Tensor, "b bits"]], keyframe: Keyframe
    ) -> dict[str, Tensor]:
        angles, bits = answer
        surprise = -(soft_bins(euler_rad(keyframe.rotation)) * angles.log_softmax(dim=-1)).sum(dim=-1)
        names = ("gripper", "gripper_after", "clearance")
        losses = {
            name: functional.binary_cross_entropy_with_logits(bits[:, i], getattr(keyframe, name))
            for i, name in enumerate(names)
        }
        return {"rotation": surprise.sum(dim=-1).mean(), **losses}

    def drawn(self, seen: Surroundings, cube: CubeViews, radius_px: float | None = None) -> Observation:
        """The observation with pictures of a cube instead of the cameras'."""
        low_m, high_m = (cube.centre_m + sign * cube.half_m[:, None] for sign in (-1, 1))
        cloud = seen.cloud.crop(low_m, high_m)
        radius_px = self.config.radius_px if radius_px is None else radius_px
        pictures = render(without_gaps(cloud), cube, self.config.side_px, radius_px).features[:, None]
        return Observation(
            images=pictures,
            view_mask=torch.ones(pictures.shape[:3], dtype=torch.bool, device=pictures.device),
            text=seen.observation.text,
            text_mask=seen.observation.text_mask,
            state=seen.observation.state,
            tool_m=seen.observation.tool_m,
        )

    def _moves(self, b: int, device: torch.device) -> Float[Tensor, "b 4 4"]:
        """Turns about the vertical through the cube's middle, and shifts."""
        drawn = 2 * torch.rand(b, 4, device=device) - 1
        cosine, sine = (self.config.turn_rad * drawn[:, 0]).cos(), (self.config.turn_rad * drawn[:, 0]).sin()
        T = torch.eye(4, device=device).repeat(b, 1, 1)
        T[:, 0, 0], T[:, 0, 1], T[:, 1, 0], T[:, 1, 1] = cosine, -sine, sine, cosine
        centre_m = drawn.new_tensor(self.config.centre_m)
        shift_m = self.config.shift * 2 * self.config.half_m * drawn[:, 1:]
        T[:, :3, 3] = centre_m - T[:, :3, :3] @ centre_m + shift_m
        return T


def _moved(seen: Surroundings, T: Float[Tensor, "b 4 4"]) -> Surroundings:
    """The same in a world that was moved by T."""
    tool_m = seen.observation.tool_m
    assert tool_m is not None
    tool_m = (T[:, :3, :3] @ tool_m[..., None])[..., 0] + T[:, :3, 3]
    return replace(seen, cloud=seen.cloud.transformed(T), observation=replace(seen.observation, tool_m=tool_m))


def _part(look: Look, cube: CubeViews, rows: slice) -> Look:
    """Of a look at several cubes, that at one."""
    return Look(
        cube=cube,
        log_heatmaps=None if look.log_heatmaps is None else look.log_heatmaps[rows],
        point_m=None if look.point_m is None else look.point_m[rows],
        maps=look.maps[rows],
        thought=look.thought[rows],
    )


def _perceptron(size_in: int, hidden: int, size_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size_in, hidden), nn.GELU(), nn.Linear(hidden, size_out))


def without_gaps(cloud: Cloud) -> Cloud:
    """The same points in the same order with as few others between them as the fullest scene allows."""
    most = max(1, int(cloud.mask.sum(dim=1).max()))
    order = cloud.mask.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    points, features = (torch.take_along_dim(x, order[..., None], dim=1) for x in (cloud.points, cloud.features))
    return Cloud(points=points, features=features, mask=cloud.mask.gather(1, order))
