"""A head that says where to go next as heatmaps: BridgeVLA (arXiv 2506.07961), on the features of a small backbone.

What depth cameras see becomes one coloured point cloud, and that three orthographic pictures of a cube, which are what
the backbone sees. In each it says where the tool is to be at the next keyframe, as a heatmap, and the point of the
world that the three agree on is the answer; then it looks again at a smaller cube about that point, with the same
weights. How the tool is turned there, the gripper, and whether the way is straight is read off at the answer.

Departures: heatmaps are those that the backbone looks with, which pre-training shapes (:mod:`vla.objectives.looking`),
mixed by weights of the sample's own; angles are not decoded one after the other; the gripper's command on the way is
answered too, so that a policy need remember nothing; numbers of the state may be told.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vla.backbone import Backbone
from vla.features import Features, Sight, TokenRole
from vla.head import Head
from vla.heads.euler_bins import AXES, BINS, euler_rad, of_bins, soft_bins
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
    """What was made of a cube: the logarithm of a heatmap in each of its pictures, and what the rest is read off."""

    cube: CubeViews
    log_heatmaps: Float[Tensor, "b v s s"]
    maps: Float[Tensor, "b v c h w"]
    thought: Float[Tensor, "b d"]


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
        self.gates = nn.Linear(backbone.width, keypoints)
        with torch.no_grad():
            self.gates.weight.mul_(0.1)
            self.gates.bias.zero_()
            self.gates.bias[0] = FIRST_GATE
        self.upsampler = ConvexUpsampler(channels, stride, width=config.upsampler_width)
        self.rest = nn.Sequential(
            nn.Linear(len(config.views) * channels + backbone.width + state_dim, config.width),
            nn.GELU(),
            nn.Linear(config.width, AXES * BINS + BITS),
        )

    def perceive(self, backbone: Backbone, observation: Observation) -> Surroundings:
        """The cloud of the present's RGB-D; ``ValueError`` where there is no depth or calibration."""
        depth_m, intrinsics, T_world_cam = observation.depth, observation.intrinsics, observation.T_world_cam
        if depth_m is None or intrinsics is None or T_world_cam is None:
            raise ValueError("a heatmap head needs depth images and calibrated cameras, got none")
        cloud = fuse(
            observation.images[:, -1],
            depth_m[:, -1],
            intrinsics[:, -1],
            T_world_cam[:, -1],
            observation.view_mask[:, -1],
        )
        observation = replace(observation, state=observation.state * self.told)
        return Surroundings(backbone=backbone, observation=observation, cloud=cloud)

    def features(self, seen: Surroundings) -> Features:
        """Those of the first look."""
        return seen.backbone(self._drawn(seen, self.workspace(seen.cloud)))

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
            seen, keyframe = replace(seen, cloud=seen.cloud.transformed(T)), keyframe.transformed(T)
        workspace = self.workspace(seen.cloud)
        centre_m = keyframe.position_m
        if self.training:
            reach_m = self.config.noise * self.config.half_m
            centre_m = centre_m + reach_m * (2 * torch.rand_like(centre_m) - 1)
        coarse, fine = self._looks(seen, workspace, workspace.magnified(centre_m, self.config.magnification))
        losses = {
            "heatmap": self._heatmap_loss(coarse, keyframe),
            "fine_heatmap": self._heatmap_loss(fine, keyframe),
            **self._loss_of_the_rest(self._rest(seen, fine, keyframe.position_m), keyframe),
        }
        return torch.stack(list(losses.values())).sum(), {name: loss.detach() for name, loss in losses.items()}

    def act(self, seen: Surroundings) -> Float[Tensor, "b h a"]:
        raise TypeError("a heatmap head answers a keyframe and no actions: policies.keyframe_policy makes a plan of it")

    def aim(self, seen: Surroundings) -> Keyframe:
        """The keyframe to go to next; its bits are probabilities."""
        coarse = self.look(seen, self.workspace(seen.cloud), self.config.radius_px)
        first_m, _ = best_point(coarse.log_heatmaps, coarse.cube)
        cube = coarse.cube.magnified(first_m, self.config.magnification)
        fine = self.look(seen, cube, self.config.fine_radius_px)
        point_m, _ = best_point(fine.log_heatmaps, cube)
        angles, bits = self._rest(seen, fine, point_m)
        gripper, gripper_after, clearance = bits.sigmoid().unbind(-1)
        return Keyframe(
            position_m=point_m,
            rotation=of_bins(angles.argmax(dim=-1)),
            gripper=gripper,
            gripper_after=gripper_after,
            clearance=clearance,
        )

    def look(self, seen: Surroundings, cube: CubeViews, radius_px: float) -> Look:
        """What the backbone makes of a cube in each scene."""
        return self._look(seen.backbone, self._drawn(seen, cube, radius_px), cube)

    def _looks(self, seen: Surroundings, coarse: CubeViews, fine: CubeViews) -> tuple[Look, Look]:
        """At two cubes, in one pass through the backbone."""
        first, second = self._drawn(seen, coarse), self._drawn(seen, fine, self.config.fine_radius_px)
        both = {
            name: torch.cat([value, getattr(second, name)]) for name, value in vars(first).items() if value is not None
        }
        cubes = CubeViews(
            centre_m=torch.cat([coarse.centre_m, fine.centre_m]), half_m=torch.cat([coarse.half_m, fine.half_m])
        )
        look = self._look(seen.backbone, Observation(**both), cubes)
        parts = [x.chunk(2) for x in (look.log_heatmaps, look.maps, look.thought)]
        one, other = (
            Look(cube=cube, log_heatmaps=heat, maps=maps, thought=thought)
            for cube, heat, maps, thought in zip((coarse, fine), *parts, strict=True)
        )
        return one, other

    def _look(self, backbone: Backbone, pictures: Observation, cube: CubeViews) -> Look:
        features = backbone(pictures)
        assert features.sight is not None and features.sight.maps is not None
        queries, _ = features.select(TokenRole.QUERY)
        thought = self.norm(queries[-1]).mean(dim=1)
        return Look(
            cube=cube,
            log_heatmaps=self._heatmaps(features.sight, thought),
            maps=features.sight.maps,
            thought=thought,
        )

    def _heatmaps(self, sight: Sight, thought: Float[Tensor, "b d"]) -> Float[Tensor, "b v s s"]:
        """One for each picture: the keypoints' mixed, then refined."""
        with torch.autocast(thought.device.type, enabled=False):
            shares = self.gates(thought.float()).log_softmax(dim=-1)
            coarse = (sight.log_heatmap.float() + shares[:, None, :, None, None]).logsumexp(dim=2)
        assert sight.maps is not None
        fine = self.upsampler(coarse.flatten(0, 1), sight.maps.flatten(0, 1))
        return fine.flatten(1).log_softmax(dim=-1).view(*coarse.shape[:2], *fine.shape[-2:])

    def _rest(
        self, seen: Surroundings, look: Look, point_m: Float[Tensor, "b 3"]
    ) -> tuple[Float[Tensor, "b 3 bins"], Float[Tensor, "b bits"]]:
        """Logits of angles' bins and of the bits, read off where a point appears."""
        b = len(look.maps)
        place = look.cube.project(point_m[:, None]).position.flatten(0, 1)[:, None]
        there = functional.grid_sample(look.maps.flatten(0, 1), place, padding_mode="border", align_corners=False)
        answer = self.rest(torch.cat([there.view(b, -1), look.thought, seen.observation.state], dim=-1)).float()
        return answer[:, : AXES * BINS].unflatten(-1, (AXES, BINS)), answer[:, AXES * BINS :]

    def _heatmap_loss(self, look: Look, keyframe: Keyframe) -> Float[Tensor, ""]:
        """Pictures that the keyframe is outside of have a loss of 0."""
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

    def _drawn(self, seen: Surroundings, cube: CubeViews, radius_px: float | None = None) -> Observation:
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


def without_gaps(cloud: Cloud) -> Cloud:
    """The same points in the same order with as few others between them as the fullest scene allows."""
    most = max(1, int(cloud.mask.sum(dim=1).max()))
    order = cloud.mask.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    points, features = (torch.take_along_dim(x, order[..., None], dim=1) for x in (cloud.points, cloud.features))
    return Cloud(points=points, features=features, mask=cloud.mask.gather(1, order))
