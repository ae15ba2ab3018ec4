"""Meta-World's fifty tasks by name, in words: read without loading Meta-World."""

from functools import partial

from envs.language import Phrasings, Split
from envs.simulators.base import MakeWorld, SimulatedTask, SimulatorSuite
from envs.simulators.seeing import Seeing

HORIZON_STEPS = 500

SENTENCES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "assembly": (
        ("put the nut onto the peg", "pick up the nut and place it on the peg", "assemble the nut and the peg"),
        ("slip the ring over the post", "thread the wrench onto the pin"),
    ),
    "basketball": (
        ("dunk the basketball into the basket", "throw the ball through the hoop", "put the ball into the basket"),
        ("score with the ball", "drop the basketball in the net"),
    ),
    "bin-picking": (
        (
            "move the cube to the other bin",
            "pick the block from one bin and place it in the other",
            "fetch the cube over",
        ),
        ("transfer the block between the bins", "the other bin should hold the cube"),
    ),
    "box-close": (
        ("close the box with its lid", "put the cover on the box", "place the lid on top of the box"),
        ("cap the container", "the box should be covered"),
    ),
    "button-press-topdown": (
        ("press the button from above", "push the button down", "press down the button on top"),
        ("hit the switch from the top", "the button should be pushed in from above"),
    ),
    "button-press-topdown-wall": (
        (
            "press the button behind the wall from above",
            "reach over the wall and push the button down",
            "go past the wall and press the button from above",
        ),
        ("hit the switch beyond the wall from the top", "get around the barrier and push down the button"),
    ),
    "button-press": (
        ("press the button", "push the button in", "push the button on the front"),
        ("hit the switch", "the button should be pressed"),
    ),
    "button-press-wall": (
        (
            "press the button behind the wall",
            "reach around the wall and push the button",
            "go past the wall and press the button in",
        ),
        ("hit the switch beyond the barrier", "get around the wall and operate the button"),
    ),
    "coffee-button": (
        ("press the button of the coffee machine", "push the coffee machine's button", "start the coffee machine"),
        ("turn on the coffee maker", "make some coffee"),
    ),
    "coffee-pull": (
        ("pull the mug away from the coffee machine", "take the mug from under the coffee machine", "pull the cup out"),
        ("fetch the coffee cup", "drag the mug off the coffee maker"),
    ),
    "coffee-push": (
        ("push the mug under the coffee machine", "put the mug below the coffee machine", "push the cup in"),
        ("slide the coffee cup into place", "the mug should stand under the coffee maker"),
    ),
    "dial-turn": (
        ("turn the dial", "rotate the dial half way round", "turn the dial by half a turn"),
        ("twist the knob", "spin the dial around"),
    ),
    "disassemble": (
        ("take the nut off the peg", "pick the nut from the peg", "remove the nut from its peg"),
        ("pull the ring off the post", "undo the assembly of nut and peg"),
    ),
    "door-close": (
        ("close the door", "push the door shut", "swing the door closed"),
        ("shut the cabinet door", "the door should be closed"),
    ),
    "door-lock": (
        ("lock the door", "turn the lock clockwise to lock the door", "rotate the lock shut"),
        ("secure the door", "bolt the door"),
    ),
    "door-open": (
        ("open the door", "pull the door open", "swing the door open by its handle"),
        ("get the cabinet door to stand open", "the door should be opened"),
    ),
    "door-unlock": (
        ("unlock the door", "turn the lock counter-clockwise to unlock the door", "rotate the lock open"),
        ("release the bolt of the door", "undo the door's lock"),
    ),
    "hand-insert": (
        ("put the gripper into the hole", "insert the hand into the hole", "lower the hand into the hole"),
        ("reach down into the opening", "the gripper should be inside the hole"),
    ),
    "drawer-close": (
        ("close the drawer", "push the drawer in", "push the drawer shut"),
        ("shut the drawer", "the drawer should be closed"),
    ),
    "drawer-open": (
        ("open the drawer", "pull the drawer out", "pull the drawer open by its handle"),
        ("get the drawer to stand open", "the drawer should be opened"),
    ),
    "faucet-open": (
        ("open the faucet", "turn the faucet on", "rotate the faucet counter-clockwise"),
        ("let the water run", "turn on the tap"),
    ),
    "faucet-close": (
        ("close the faucet", "turn the faucet off", "rotate the faucet clockwise"),
        ("stop the water", "turn off the tap"),
    ),
    "hammer": (
        ("hammer the nail in", "hit the nail with the hammer", "take the hammer and drive the nail into the wall"),
        ("pound the screw home", "knock in the nail"),
    ),
    "handle-press-side": (
        ("press the handle down from the side", "push down the handle at the side", "press the sideways handle down"),
        ("lower the lever on the side", "force the side handle down"),
    ),
    "handle-press": (
        ("press the handle down", "push the handle down", "push down the handle in front"),
        ("lower the lever", "force the handle to the bottom"),
    ),
    "handle-pull-side": (
        ("pull the handle up from the side", "raise the handle at the side", "pull the sideways handle up"),
        ("lift the lever on the side", "bring the side handle to the top"),
    ),
    "handle-pull": (
        ("pull the handle up", "raise the handle", "pull up the handle in front"),
        ("lift the lever", "bring the handle to the top"),
    ),
    "lever-pull": (
        ("pull the lever", "rotate the lever up", "pull the lever up by a quarter turn"),
        ("swing the lever to the top", "move the lever upright"),
    ),
    "peg-insert-side": (
        ("insert the peg sideways", "put the peg into the hole in the side", "push the peg into the box from the side"),
        ("plug the stick in from the side", "the peg should be in the side hole"),
    ),
    "pick-place-wall": (
        (
            "pick the puck, go past the wall and place it at the goal",
            "carry the puck over the wall to the goal",
            "lift the puck across the wall",
        ),
        ("bring the puck to its target beyond the barrier", "get the cylinder over the wall"),
    ),
    "pick-out-of-hole": (
        ("pick the puck out of the hole", "take the puck from the hole", "lift the puck out of the hole"),
        ("retrieve the cylinder from the opening", "get the puck out"),
    ),
    "reach": (
        ("reach the goal", "move the gripper to the goal", "reach for the red target"),
        ("go to the marked spot", "bring the hand to the target point"),
    ),
    "push-back": (
        ("push the puck back to the goal", "pull the puck toward the robot", "move the puck backward to the goal"),
        ("bring the cylinder closer to its target", "drag the puck back"),
    ),
    "push": (
        ("push the puck to the goal", "slide the puck to the goal", "move the puck along the table to the goal"),
        ("shove the cylinder to its target", "the puck should be at the marked spot"),
    ),
    "pick-place": (
        (
            "pick the puck and place it at the goal",
            "lift the puck to the goal",
            "carry the puck to the goal in the air",
        ),
        ("bring the cylinder up to its target", "hold the puck at the marked point"),
    ),
    "plate-slide": (
        (
            "slide the plate into the cabinet",
            "push the plate into the goal",
            "slide the plate forward into the cabinet",
        ),
        ("shoot the disc in", "the plate should be in the cupboard"),
    ),
    "plate-slide-side": (
        (
            "slide the plate sideways into the cabinet",
            "push the plate to the side into the cabinet",
            "slide the plate left",
        ),
        ("shoot the disc in from the side", "move the plate across into the cupboard"),
    ),
    "plate-slide-back": (
        ("slide the plate back out of the cabinet", "pull the plate out of the cabinet", "slide the plate backward"),
        ("get the disc out again", "fetch the plate from the cupboard"),
    ),
    "plate-slide-back-side": (
        (
            "slide the plate out of the cabinet sideways",
            "pull the plate out of the cabinet to the side",
            "slide the plate right, out of the cabinet",
        ),
        ("get the disc out at the side", "move the plate across out of the cupboard"),
    ),
    "peg-unplug-side": (
        ("unplug the peg sideways", "pull the peg out of the box", "pull out the peg at the side"),
        ("remove the plug from its socket", "the peg should be free of the hole"),
    ),
    "soccer": (
        ("kick the ball into the goal", "push the soccer ball into the goal", "score a goal with the ball"),
        ("shoot the football into the net", "the ball should be in the goal"),
    ),
    "stick-push": (
        (
            "take the stick and push the thermos with it",
            "push the box with the stick",
            "grasp the stick to push the flask",
        ),
        ("use the rod to shove the container", "shift the bottle by means of the stick"),
    ),
    "stick-pull": (
        ("take the stick and pull the thermos with it", "pull the box with the stick", "hook the flask with the stick"),
        ("use the rod to drag the container", "draw the bottle near by means of the stick"),
    ),
    "push-wall": (
        (
            "push the puck past the wall to the goal",
            "slide the puck around the wall to the goal",
            "move the puck beyond the wall",
        ),
        ("shove the cylinder round the barrier", "the puck should get to the target behind the wall"),
    ),
    "reach-wall": (
        ("reach the goal behind the wall", "move the gripper past the wall to the goal", "reach over the wall"),
        ("go to the spot beyond the barrier", "bring the hand around the wall to the target"),
    ),
    "shelf-place": (
        ("place the puck on the shelf", "pick the puck and put it on the shelf", "put the block onto the shelf"),
        ("store the cube on the rack", "the block should lie on the shelf"),
    ),
    "sweep-into": (
        (
            "sweep the puck into the hole",
            "push the cube into the hole",
            "sweep the block along the table into the hole",
        ),
        ("brush the object down the opening", "the cube should be in the hole"),
    ),
    "sweep": (
        ("sweep the puck off the table", "push the cube off the table", "sweep the block over the edge"),
        ("brush the object away from the table", "the cube should no longer be on the table"),
    ),
    "window-open": (
        ("open the window", "slide the window open", "push the window open by its handle"),
        ("let some air in", "the window should be opened"),
    ),
    "window-close": (
        ("close the window", "slide the window shut", "push the window closed by its handle"),
        ("keep the draught out", "the window should be closed"),
    ),
}
"""For each task its phrasings of demonstrations, and those that are held out."""

MT10 = (
    *("reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close"),
    *("button-press-topdown", "peg-insert-side", "window-open", "window-close"),
)


def _suite(name: str, about: str, tasks: tuple[str, ...]) -> SimulatorSuite:
    return SimulatorSuite(
        name=name,
        about=about,
        extra="metaworld",
        module="metaworld",
        tasks=tuple(
            SimulatedTask(
                name=f"{name}/{task}",
                there=f"{task}-v3",
                phrasings=Phrasings(train=SENTENCES[task][0], held_out=SENTENCES[task][1]),
                max_episode_steps=HORIZON_STEPS,
                expert=True,
            )
            for task in tasks
        ),
        world_of=_world_of,
    )


def _world_of(task: SimulatedTask, seeing: Seeing, split: Split) -> MakeWorld:
    from envs.simulators.metaworld_world import MetaworldWorld

    return partial(MetaworldWorld, task, seeing, split)


METAWORLD_MT10 = _suite(
    "metaworld-mt10", "ten tasks of Meta-World, a Sawyer arm that is told where its hand goes", MT10
)
METAWORLD_MT50 = _suite("metaworld-mt50", "all fifty tasks of Meta-World", tuple(SENTENCES))
