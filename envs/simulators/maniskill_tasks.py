"""ManiSkill's tasks that need no download, by name, in words: read without loading ManiSkill."""

from dataclasses import dataclass

from envs.language import Phrasings
from envs.simulators.base import SimulatedTask

NAME = "maniskill"
PANDA, WRIST, STICK, TWO, SO100 = "panda", "panda_wristcam", "panda_stick", "two_panda_wristcam", "so100"
HAND, VALVE, FINGERS, BODY = "allegro_hand", "dclaw", "trifinger", "g1_upper_body"


@dataclass(frozen=True, kw_only=True)
class ManiSkillTask(SimulatedTask):
    """A task of ManiSkill, with the robot that its authors give it (:mod:`envs.simulators.maniskill_robots`)."""

    robot: str


def _task(
    there: str,
    robot: str,
    steps: int,
    train: tuple[str, ...],
    held_out: tuple[str, ...],
    expert: bool = False,
) -> ManiSkillTask:
    return ManiSkillTask(
        name=f"{NAME}/{there}",
        there=f"{there}-v1",
        robot=robot,
        phrasings=Phrasings(train=train, held_out=held_out),
        max_episode_steps=steps,
        expert=expert,
    )


def _level(there: str, robot: str, steps: int, does: str, also: str, level: str) -> ManiSkillTask:
    """One of several tasks that differ in how hard they are: the sentence says which it is."""
    return _task(
        there,
        robot,
        steps,
        (f"{does}, {level}", f"{does} with the fingers, {level}", f"use the fingers to {does}, {level}"),
        (f"{also}, {level}", f"make the fingers {also}, {level}"),
    )


ARMS = (
    _task(
        "PickCube",
        PANDA,
        100,
        (
            "lift the red cube to the green ball",
            "bring the red cube to the green mark",
            "pick up the cube and hold it at the green ball",
        ),
        ("the red block should hover where the green sphere is", "grab the block and take it to the green spot"),
        True,
    ),
    _task(
        "PushCube",
        PANDA,
        100,
        (
            "push the cube onto the target",
            "push the blue cube into the red and white circle",
            "move the cube forward to the target",
        ),
        ("shove the block onto the bullseye", "the block should end up on the rings"),
        True,
    ),
    _task(
        "PullCube",
        PANDA,
        100,
        (
            "pull the cube onto the target",
            "pull the blue cube back into the red and white circle",
            "drag the cube to the target",
        ),
        ("draw the block back onto the bullseye", "tug the block until it is on the rings"),
        True,
    ),
    _task(
        "PullCubeTool",
        PANDA,
        200,
        (
            "pull the cube near with the tool",
            "use the hook to pull the cube closer",
            "take the L-shaped tool and drag the cube to you",
        ),
        ("rake the block in with the stick", "the far block should be fetched by means of the hook"),
        True,
    ),
    _task(
        "PokeCube",
        PANDA,
        100,
        (
            "poke the cube onto the target with the peg",
            "push the cube with the peg to the target",
            "take the peg and poke the cube forward",
        ),
        ("prod the block onto the rings with the rod", "nudge the block with the stick until it is on the bullseye"),
    ),
    _task(
        "LiftPegUpright",
        PANDA,
        100,
        ("stand the peg upright", "lift the peg and set it on its end", "put the peg upright on the table"),
        ("the rod should stand on its end", "erect the lying stick"),
        True,
    ),
    _task(
        "PlaceSphere",
        PANDA,
        100,
        (
            "place the ball in the bin",
            "put the sphere into the shallow bin",
            "pick up the ball and place it in the bin",
        ),
        ("drop the marble in the little tray", "the ball belongs in the box"),
        True,
    ),
    _task(
        "RollBall",
        PANDA,
        80,
        (
            "roll the ball to the target",
            "push the ball so that it rolls to the target",
            "roll the ball across the table",
        ),
        ("send the ball rolling to the rings", "bowl the ball onto the bullseye"),
    ),
    _task(
        "FMBAssembly1Easy",
        PANDA,
        500,
        ("assemble the parts on the red board", "put all parts into the board", "build the assembly on the board"),
        ("fit the pieces together on the plate", "every piece should sit in the red plate"),
    ),
    _task(
        "StackCube",
        WRIST,
        200,
        (
            "stack the red cube on the green cube",
            "put the red cube on top of the green one",
            "place the red cube on the green cube",
        ),
        ("build a tower with the green block below", "set the red block upon the green block"),
        True,
    ),
    _task(
        "StackPyramid",
        WRIST,
        250,
        (
            "build a pyramid of the three cubes",
            "put the red cube beside the green one and the blue cube on both",
            "stack the blue cube on top of the red and the green cube",
        ),
        ("make a little pyramid with blue at its top", "the blue block should rest on the two others"),
        True,
    ),
    _task(
        "PegInsertionSide",
        WRIST,
        300,
        (
            "insert the peg into the hole in the box",
            "put the peg into the box from the side",
            "pick up the peg and insert it",
        ),
        ("slide the rod into the opening", "the stick should go into the side of the block"),
        True,
    ),
    _task(
        "PlugCharger",
        WRIST,
        200,
        ("plug the charger into the receptacle", "plug in the charger", "insert the plug into the socket"),
        ("connect the charger to the wall", "the adapter should sit in the outlet"),
        True,
    ),
    _task(
        "PushT",
        STICK,
        150,
        (
            "push the T onto its outline",
            "push the T-shaped block into the T on the table",
            "move the T to where it is drawn",
        ),
        ("make the tee cover its mark", "shove the T until it fits its shadow"),
    ),
    _task(
        "DrawTriangle",
        STICK,
        300,
        ("draw the triangle", "trace the triangle on the canvas", "draw along the outline of the triangle"),
        ("go over the three sides with the pen", "sketch the triangle that is marked"),
        True,
    ),
    _task(
        "TableTopFreeDraw",
        STICK,
        1000,
        ("draw something", "draw on the canvas", "draw whatever you like"),
        ("make a sketch", "scribble on the sheet"),
    ),
    _task(
        "TwoRobotPickCube",
        TWO,
        100,
        (
            "hand the red cube over and bring it to the green ball",
            "carry the cube to the green mark together",
            "pass the red cube on to the green ball",
        ),
        (
            "the two of you should take the red block to the green sphere",
            "cooperate until the block is at the green spot",
        ),
    ),
    _task(
        "TwoRobotStackCube",
        TWO,
        100,
        (
            "put the green cube on the target and the blue cube on top",
            "place the green cube on the circle, then stack the blue one on it",
            "stack the blue cube on the green one on the target",
        ),
        ("build a tower of green below blue on the rings", "the blue block goes onto the green block on the bullseye"),
    ),
    _task(
        "PickCubeSO100",
        SO100,
        100,
        (
            "lift the small cube to the green ball",
            "bring the small cube to the green mark",
            "pick up the small cube and hold it at the green ball",
        ),
        (
            "the small block should hover where the green sphere is",
            "grab the small block and take it to the green spot",
        ),
    ),
    _task(
        "SO100GraspCube",
        "so100_target",
        64,
        (
            "grasp the cube and go back to rest",
            "pick up the cube and return",
            "take the cube and lift it to the rest pose",
        ),
        ("fetch the block and come home", "clutch the block, then retreat"),
    ),
)
"""Arms, most of them moved by their tool."""

HANDS = (
    *(
        _level(
            f"RotateValveLevel{level}",
            VALVE,
            steps,
            "turn the valve",
            "spin the tap",
            f"{words}",
        )
        for level, steps, words in (
            (0, 80, "three knobs a quarter turn"),
            (1, 150, "three knobs half a turn"),
            (2, 150, "up to six knobs half a turn"),
            (3, 150, "knobs of any angle half a turn"),
            (4, 300, "knobs of any angle a whole turn"),
        )
    ),
    *(
        _level(
            f"RotateSingleObjectInHandLevel{level}",
            HAND,
            300,
            "turn the thing in the hand",
            "twirl what you hold",
            words,
        )
        for level, words in ((0, "a cube"), (1, "one of many shapes"))
    ),
    *(
        _level(
            f"TriFingerRotateCubeLevel{level}",
            FINGERS,
            250,
            "bring the cube to its goal",
            "manoeuvre the block to its place",
            words,
        )
        for level, words in (
            (0, "turning it about the upright axis"),
            (1, "along the table"),
            (2, "at a fixed height"),
            (3, "anywhere in the air"),
            (4, "anywhere and at any turn"),
        )
    ),
)
"""Hands and fingers."""

BODIES = (
    _task(
        "UnitreeG1PlaceAppleInBowl",
        BODY,
        100,
        ("place the apple in the bowl", "put the apple into the bowl", "pick up the apple and drop it in the bowl"),
        ("the fruit belongs in the dish", "set the apple down inside the dish"),
    ),
    _task(
        "UnitreeG1TransportBox",
        BODY,
        100,
        (
            "carry the box to the other table",
            "transport the box onto the other table",
            "put the box on the other table",
        ),
        ("take the crate across", "the carton should rest on the second table"),
    ),
    _task(
        "UnitreeG1Stand",
        "g1_legs",
        1000,
        ("stand still", "keep standing", "stay on your feet"),
        ("do not fall over", "remain upright on both legs"),
    ),
    _task(
        "MS-AntWalk",
        "ant",
        1000,
        ("walk forward on four legs", "walk ahead, ant", "let the ant walk"),
        ("march on as a four-legged creature", "stroll ahead on all fours"),
    ),
    _task(
        "MS-AntRun",
        "ant",
        1000,
        ("run forward on four legs", "run ahead, ant", "let the ant run"),
        ("sprint as a four-legged creature", "dash ahead on all fours"),
    ),
    _task(
        "MS-HopperStand",
        "hopper",
        600,
        ("stand on one leg", "keep the hopper upright", "balance on the leg"),
        ("do not tip over, hopper", "remain upright on your only leg"),
    ),
    _task(
        "MS-HopperHop",
        "hopper",
        600,
        ("hop forward on one leg", "let the hopper hop ahead", "hop along"),
        ("bounce ahead on your only leg", "jump onward, hopper"),
    ),
    _task(
        "MS-HumanoidStand",
        "humanoid",
        1000,
        ("stand up straight, humanoid", "keep the humanoid upright", "let the humanoid stand"),
        ("do not fall, humanoid", "the humanoid should stay up"),
    ),
    _task(
        "MS-HumanoidWalk",
        "humanoid",
        1000,
        ("walk forward, humanoid", "let the humanoid walk", "walk ahead on two legs"),
        ("stroll ahead, humanoid", "the humanoid should march on"),
    ),
    _task(
        "MS-HumanoidRun",
        "humanoid",
        1000,
        ("run forward, humanoid", "let the humanoid run", "run ahead on two legs"),
        ("sprint, humanoid", "the humanoid should dash ahead"),
    ),
    _task(
        "MS-CartpoleBalance",
        "cart_pole",
        1000,
        ("balance the pole on the cart", "keep the pole upright", "hold the pole up"),
        ("do not let the rod drop", "the rod should stay on end"),
    ),
    _task(
        "MS-CartpoleSwingUp",
        "cart_pole",
        1000,
        ("swing the pole up", "swing the pole up and balance it", "bring the hanging pole up"),
        ("get the rod to stand from below", "raise the rod by moving the cart"),
    ),
)
"""Whole bodies. Those called MS-… are the control suite's, and have no success: they are paid for how well they move,
which this stack does not read."""

TASKS: tuple[ManiSkillTask, ...] = (*ARMS, *HANDS, *BODIES)
