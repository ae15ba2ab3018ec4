"""What ``nano`` is told of lines of sight: where in the world its keypoints may be, wherever its cameras stand."""

from jaxtyping import Float
from torch import Tensor, nn

from vla.backbones.nano_config import NanoConfig
from vla.backbones.views import RAY_NUMBERS


class Sightlines(nn.Module):
    """Linear maps of keypoints' lines of sight (:func:`vla.backbones.views.surface_rays`) to all that depends on where
    things are: the tokens of both looks, the waypoint, the queries.

    They are 0 at first, so that a network which learned to look without them sees what it saw (as coordinates of
    patches, which need depth, are gated in 4D-VLA, arXiv 2506.22242).

    A thing's place is nearly linear in the line of sight that leads to it, and in no other number that the network has:
    a pixel's meaning turns and moves with the camera.
    """

    def __init__(self, config: NanoConfig, *, views: int, waypoint_dim: int) -> None:
        super().__init__()
        every = views * (config.keypoints + config.second_keypoints) * RAY_NUMBERS
        self.first = nn.Linear(config.keypoints_per_token * RAY_NUMBERS, config.width, bias=False)
        self.second = nn.Linear(config.second_keypoints * RAY_NUMBERS, config.width, bias=False)
        self.waypoint = nn.Linear(every, waypoint_dim, bias=False) if waypoint_dim else None
        self.queries = nn.Linear(every, config.n_queries * config.width, bias=False)
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def of_tokens(self, rays: Float[Tensor, "m k r"]) -> Float[Tensor, "m n d"]:
        """What keypoints of the first look, several of which share a token, add to theirs."""
        per_token = self.first.in_features
        return self.first(rays.flatten(1).unflatten(1, (-1, per_token)))
