"""Peg: put the named peg into the hole of the named socket.

*Randomisation*: two standing pegs of distinct bright colours, 2 × 2 × 9 cm, and farther from the robot a white and a
black socket, places drawn, each displaced by ±2 cm and turned by ±0.3 rad. The hole is 2.5 cm wide: a clearance of
2.5 mm on every side. *Success*: for a quarter of a second the named peg's lower end is in the named hole, at least
2 cm below the rim, at rest and touched by nothing of the robot. *Dense reward*: nearness of the tool to the peg, and of
the peg to its place in the hole.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from envs.constants import constant
from envs.language import Phrasings
from envs.props.base import Region
from envs.props.block import Block
from envs.props.socket import Socket
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat
from envs.scenes.layout import Layout, scatter
from envs.scenes.tabletop import Sensed
from envs.tasks.base import Task
from envs.tasks.inserting import DEPTH_M, PEG_HALF_M, Insertion, insert
from envs.tasks.motion import nearness

PEGS = Region(name="pegs", cells_m=((0.42, -0.18), (0.42, 0.0), (0.42, 0.18)), jitter_m=0.02, yaw_rad=0.3)
SOCKETS = Region(name="sockets", cells_m=((0.6, -0.15), (0.6, 0.0), (0.6, 0.15)), jitter_m=0.02, yaw_rad=0.3)
_PEGS = tuple(Block(name=f"peg{i}", word="peg", region=PEGS, half_m=PEG_HALF_M, resizable=False) for i in range(2))
_SOCKETS = tuple(Socket(name=f"socket{i}", region=SOCKETS) for i in range(2))


class Peg(Task):
    """Insert the named peg into the named socket and let go."""

    name = "peg"
    max_episode_steps = 160
    dwell_steps = 5
    props = (*_PEGS, *_SOCKETS)
    chance = 1 / (len(_PEGS) * len(_SOCKETS))
    phrasings = Phrasings(
        train=(
            "put the {peg} into the {socket}",
            "insert the {peg} into the {socket}",
            "plug the {peg} into the {socket}",
            "push the {peg} into the hole of the {socket}",
            "take the {peg} and stick it in the {socket}",
        ),
        held_out=(
            "the {peg} goes into the {socket}",
            "fit the {peg} in the hole of the {socket}",
            "please insert the {peg} in the {socket}",
        ),
    )

    def sample(self, random: EpisodeRandom) -> Layout:
        layout = scatter(random, self.props)
        peg = random.integers("peg", 1, len(_PEGS))[:, 0]
        socket = len(_PEGS) + random.integers("socket", 1, len(_SOCKETS))[:, 0]
        return layout.with_roles(peg=peg, socket=socket)

    def success(self, sensed: Sensed, layout: Layout) -> Bool[Tensor, " n"]:
        """Pegs and sockets keep their size."""
        return (_insertion(sensed, layout).depth_m > DEPTH_M) & layout.of(sensed.left_alone, "peg")

    def potential(self, sensed: Sensed, layout: Layout) -> Float[Tensor, " n"]:
        peg, socket = layout.of(sensed.position, "peg"), layout.of(sensed.position, "socket")
        place = socket + constant([0.0, 0.0, PEG_HALF_M[2]], socket.device)
        return 0.4 * nearness(sensed.tool_position, peg) + 0.6 * nearness(peg, place)

    def expert(self, sensed: Sensed, layout: Layout) -> Float[Tensor, "n 7"]:
        return insert(sensed, _insertion(sensed, layout))


def _insertion(sensed: Sensed, layout: Layout) -> Insertion:
    rotation = {role: matrix_from_quat(layout.of(sensed.quat, role)) for role in ("peg", "socket")}
    return Insertion(
        peg=layout.of(sensed.position, "peg"),
        peg_rotation=rotation["peg"],
        socket=layout.of(sensed.position, "socket"),
        socket_rotation=rotation["socket"],
    )
