"""Twelve chains of two to five stages, on five tables.

*Kitchen*: a drawer on the left, three cubes, a bin and a button on the right. *Hall*: a door on the right, three cubes
and two buttons on the left. *Place*'s table with three cubes and both bins. *Push*'s table with three cubes
and a button at either side. *Button*'s table. Colours of cubes and buttons are drawn, no two alike.
"""

from typing import get_args

from envs.props.base import Region
from envs.props.bin import Bin
from envs.props.button import PushButton
from envs.props.door import HingedDoor
from envs.props.drawer import TRAVEL_M, DrawerUnit
from envs.props.mat import Mat
from envs.scenes.regions import BESIDE, BEYOND, LEFT, MIDDLE, SIDES
from envs.tasks.button import Button
from envs.tasks.chain import Chain, Stage
from envs.tasks.choice import blocks
from envs.tasks.door import Door
from envs.tasks.drawer import Drawer
from envs.tasks.openable import Action
from envs.tasks.place import Place
from envs.tasks.push import Push
from envs.tasks.stack import Stack
from envs.tasks.stow import Stow

RIGHT = Region(name="right", cells_m=((0.63, -0.15),), jitter_m=0.02, yaw_rad=0.1)
LEFT_HALF = Region(
    name="left_half",
    cells_m=((0.36, 0.065), (0.46, 0.065), (0.56, 0.065), (0.41, 0.165), (0.51, 0.165)),
    jitter_m=0.015,
    yaw_rad=0.3,
)
NEAR_ROW = Region(name="near_row", cells_m=tuple((0.42, y) for y in (-0.12, 0.0, 0.12)), jitter_m=0.015, yaw_rad=0.3)


def _spots(name: str, *cells_m: tuple[float, float]) -> Region:
    return Region(name=name, cells_m=cells_m, jitter_m=0.01)


KITCHEN = (
    *blocks(BESIDE, 3),
    DrawerUnit(name="drawer", region=LEFT, palette=("white",)),
    Bin(name="bin", region=_spots("kitchen_bin", (0.42, -0.28)), palette=("black",)),
    PushButton(name="button", region=_spots("kitchen_button", (0.60, -0.25))),
)
HALL = (
    *blocks(LEFT_HALF, 3),
    HingedDoor(name="door", region=RIGHT, palette=("white",)),
    *(PushButton(name=f"button{i}", region=_spots("hall_buttons", (0.38, 0.275), (0.54, 0.275))) for i in range(2)),
)
BINS = (*blocks(MIDDLE, 3), *(Bin(name=f"bin{i}", region=SIDES) for i in range(2)))
MATS = (
    *blocks(NEAR_ROW, 3),
    *(Mat(name=f"mat{i}", region=BEYOND) for i in range(2)),
    *(PushButton(name=f"button{i}", region=_spots("corners", (0.50, 0.25), (0.50, -0.25))) for i in range(2)),
)
BUTTONS = Button.props


_DRAWER = {action: Drawer(action) for action in get_args(Action)}
_DOOR = {action: Door(action) for action in get_args(Action)}
_STOW, _PLACE, _STACK, _PUSH, _PRESS = Stow(), Place(), Stack(), Push(), Button()


def _drawer(action: Action) -> Stage:
    return Stage(task=_DRAWER[action], roles={"drawer": "drawer"})


def _door(action: Action) -> Stage:
    return Stage(task=_DOOR[action], roles={"door": "door"})


def _stow(block: str) -> Stage:
    return Stage(task=_STOW, roles={"block": block, "drawer": "drawer"})


def _place(block: str, receiver: str) -> Stage:
    return Stage(task=_PLACE, roles={"block": block, "bin": receiver})


def _stack(block: str, base: str) -> Stage:
    return Stage(task=_STACK, roles={"block": block, "base": base})


def _push(block: str, mat: str) -> Stage:
    return Stage(task=_PUSH, roles={"block": block, "mat": mat})


def _press(button: str) -> Stage:
    return Stage(task=_PRESS, roles={"button": button})


def chains(prefix: str = "") -> tuple[Chain, ...]:
    """All of them; ``prefix`` goes before their names."""
    drawer_open, door_open = {"drawer": TRAVEL_M}, {"door": Door.widest}
    store = _stow("block0")
    return (
        Chain(f"{prefix}store", (_drawer("open"), store, _drawer("close")), KITCHEN),
        Chain(f"{prefix}store-two", (_drawer("open"), store, _stow("block1"), _drawer("close")), KITCHEN),
        Chain(f"{prefix}store-shut", (store, _drawer("close")), KITCHEN, drawer_open),
        Chain(f"{prefix}press-store", (_press("button"), _drawer("open"), store), KITCHEN),
        Chain(
            f"{prefix}tidy",
            (_drawer("open"), store, _drawer("close"), _press("button"), _place("block1", "bin")),
            KITCHEN,
        ),
        Chain(f"{prefix}open-press", (_door("open"), _press("button0")), HALL),
        Chain(f"{prefix}shut-press-both", (_door("close"), _press("button0"), _press("button1")), HALL, door_open),
        Chain(f"{prefix}open-stack-shut", (_door("open"), _stack("block0", "block1"), _door("close")), HALL),
        Chain(f"{prefix}two-bins", (_place("block0", "bin0"), _place("block1", "bin1")), BINS),
        Chain(f"{prefix}tower", (_stack("block0", "block1"), _stack("block2", "block0")), BINS),
        Chain(f"{prefix}push-press", (_push("block0", "mat0"), _press("button0")), MATS),
        Chain(f"{prefix}press-three", tuple(_press(f"button{i}") for i in range(3)), BUTTONS),
    )


CHAINS: dict[str, Chain] = {chain.name: chain for chain in chains()}
