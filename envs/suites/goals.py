"""tabletop-goal: one table with a drawer, a button, a bin and three cubes, and ten things that may be asked of it.

*Randomisation*: that of the chains' kitchen, with a red, a blue and a yellow cube. The tables of all ten tasks are
drawn alike, so that only the instruction tells what to do. *Success*, *dense reward* and *expert*: those of the task
that is asked.
"""

from dataclasses import replace

from envs.props.base import Prop
from envs.props.block import Block
from envs.suites.base import Suite
from envs.tasks.button import Button
from envs.tasks.chain import Chain, Stage
from envs.tasks.chains import KITCHEN
from envs.tasks.drawer import Drawer
from envs.tasks.pick import Pick
from envs.tasks.place import Place
from envs.tasks.reach import Reach
from envs.tasks.stack import Stack
from envs.tasks.stow import Stow

NAME = "tabletop-goal"
CUBES = {"red": "block0", "blue": "block1", "yellow": "block2"}
_COLOUR_OF = {block: colour for colour, block in CUBES.items()}


def _painted(prop: Prop) -> Prop:
    """A cube in the one colour that its name stands for; other things as they are."""
    if not isinstance(prop, Block):
        return prop
    colour = _COLOUR_OF[prop.name]
    return replace(prop, palette=(colour,), word=f"{colour} {prop.noun}")


TABLE = tuple(_painted(prop) for prop in KITCHEN)


def _open() -> Stage:
    return Stage(task=Drawer("open"), roles={"drawer": "drawer"})


def _bin(colour: str) -> Stage:
    return Stage(task=Place(), roles={"block": CUBES[colour], "bin": "bin"})


def _stack(colour: str, base: str) -> Stage:
    return Stage(task=Stack(), roles={"block": CUBES[colour], "base": CUBES[base]})


def _stow(colour: str) -> Stage:
    return Stage(task=Stow(), roles={"block": CUBES[colour], "drawer": "drawer"})


GOALS: dict[str, tuple[Stage, ...]] = {
    "open-drawer": (_open(),),
    "press-button": (Stage(task=Button(), roles={"button": "button"}),),
    "bin-red": (_bin("red"),),
    "bin-blue": (_bin("blue"),),
    "bin-yellow": (_bin("yellow"),),
    "stack-red-blue": (_stack("red", "blue"),),
    "stack-blue-yellow": (_stack("blue", "yellow"),),
    "lift-yellow": (Stage(task=Pick(), roles={"block": CUBES["yellow"]}),),
    "touch-blue": (Stage(task=Reach(), roles={"block": CUBES["blue"]}),),
    "store-red": (_open(), _stow("red")),
}
GOAL = Suite(
    name=NAME,
    varies="what is to be done at one and the same table",
    tasks=tuple(Chain(f"{NAME}/{name}", stages, TABLE) for name, stages in GOALS.items()),
)
