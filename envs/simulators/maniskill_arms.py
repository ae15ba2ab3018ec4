"""ManiSkill's tasks of arms that need no download, in words."""

from envs.simulators.maniskill_task import maniskill_task

PANDA, WRIST, STICK, TWO, SO100 = "panda", "panda_wristcam", "panda_stick", "two_panda_wristcam", "so100"

ARMS = (
    maniskill_task(
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
    maniskill_task(
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
    maniskill_task(
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
    maniskill_task(
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
    maniskill_task(
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
    maniskill_task(
        "LiftPegUpright",
        PANDA,
        100,
        ("stand the peg upright", "lift the peg and set it on its end", "put the peg upright on the table"),
        ("the rod should stand on its end", "erect the lying stick"),
        True,
    ),
    maniskill_task(
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
    maniskill_task(
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
    maniskill_task(
        "FMBAssembly1Easy",
        PANDA,
        500,
        ("assemble the parts on the red board", "put all parts into the board", "build the assembly on the board"),
        ("fit the pieces together on the plate", "every piece should sit in the red plate"),
    ),
    maniskill_task(
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
    maniskill_task(
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
    maniskill_task(
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
    maniskill_task(
        "PlugCharger",
        WRIST,
        200,
        ("plug the charger into the receptacle", "plug in the charger", "insert the plug into the socket"),
        ("connect the charger to the wall", "the adapter should sit in the outlet"),
        True,
    ),
    maniskill_task(
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
    maniskill_task(
        "DrawTriangle",
        STICK,
        300,
        ("draw the triangle", "trace the triangle on the canvas", "draw along the outline of the triangle"),
        ("go over the three sides with the pen", "sketch the triangle that is marked"),
        True,
    ),
    maniskill_task(
        "TableTopFreeDraw",
        STICK,
        1000,
        ("draw something", "draw on the canvas", "draw whatever you like"),
        ("make a sketch", "scribble on the sheet"),
    ),
    maniskill_task(
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
    maniskill_task(
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
    maniskill_task(
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
    maniskill_task(
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
