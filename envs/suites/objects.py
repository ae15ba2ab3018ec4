"""tabletop-object: ten things of different shape and colour, of which one is to be put into the bin.

*Randomisation*: the named thing and three others in a 3 × 2 grid (±2 cm, ±0.3 rad), a white bin on one side, drawn.
*Success*, *dense reward* and *expert*: as in place.
"""

from typing import Any

from envs.props.base import Region
from envs.props.bin import Bin
from envs.props.block import Block
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout, scatter
from envs.scenes.regions import MIDDLE, SIDES
from envs.suites.base import Suite
from envs.tasks.place import Place

NAME = "tabletop-object"
_POST, _FLAT, _SMALL = (0.014, 0.014, 0.024), (0.03, 0.02, 0.012), (0.015, 0.015, 0.015)
OBJECTS: dict[str, dict[str, Any]] = {
    "red-ball": {"shape": "ball", "half_m": (0.022,) * 3},
    "blue-ball": {"shape": "ball", "half_m": (0.022,) * 3},
    "green-cylinder": {"shape": "cylinder", "half_m": (0.02, 0.02, 0.02)},
    "yellow-cylinder": {"shape": "cylinder", "half_m": (0.02, 0.02, 0.02)},
    "purple-post": {"half_m": _POST, "word": "post"},
    "cyan-post": {"half_m": _POST, "word": "post"},
    "red-tile": {"half_m": _FLAT, "word": "tile"},
    "green-tile": {"half_m": _FLAT, "word": "tile"},
    "yellow-cube": {},
    "black-die": {"half_m": _SMALL, "word": "die"},
}
OTHERS = (1, 3, 6)
"""Which of the following things stand beside each one."""


class PlaceObject(Place):
    """Put one certain thing into the bin."""

    chance = 1 / (1 + len(OTHERS))
    grasp_within_m = 0.006

    def __init__(self, wanted: str, region: Region = MIDDLE) -> None:
        names = list(OBJECTS)
        first = names.index(wanted)
        chosen = [names[(first + step) % len(names)] for step in (0, *OTHERS)]
        self.name = f"{NAME}/{wanted}"
        things = [Block(name=name, region=region, palette=(name.split("-")[0],), **OBJECTS[name]) for name in chosen]
        self.thing, self.props = things[0], (*things, Bin(name="bin0", region=SIDES, palette=("white",)))
        self.phrasings = Place.phrasings.saying("block", wanted.replace("-", " "))

    def sample(self, random: EpisodeRandom) -> Layout:
        return scatter(random, self.props).with_roles(block=self.props[0].name, bin="bin0")


OBJECT = Suite(name=NAME, varies="which thing is to be moved", tasks=tuple(PlaceObject(name) for name in OBJECTS))
