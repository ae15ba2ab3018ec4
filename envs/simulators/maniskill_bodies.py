"""ManiSkill's tasks of hands and whole bodies that need no download, in words."""

from envs.simulators.maniskill_task import ManiSkillTask, maniskill_task

HAND, VALVE, FINGERS, BODY = "allegro_hand", "dclaw", "trifinger", "g1_upper_body"


def _level(there: str, robot: str, steps: int, does: str, also: str, level: str) -> ManiSkillTask:
    """One of several tasks that differ in how hard they are: the sentence says which it is."""
    return maniskill_task(
        there,
        robot,
        steps,
        (f"{does}, {level}", f"{does} with the fingers, {level}", f"use the fingers to {does}, {level}"),
        (f"{also}, {level}", f"make the fingers {also}, {level}"),
    )


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
    maniskill_task(
        "UnitreeG1PlaceAppleInBowl",
        BODY,
        100,
        ("place the apple in the bowl", "put the apple into the bowl", "pick up the apple and drop it in the bowl"),
        ("the fruit belongs in the dish", "set the apple down inside the dish"),
    ),
    maniskill_task(
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
    maniskill_task(
        "UnitreeG1Stand",
        "g1_legs",
        1000,
        ("stand still", "keep standing", "stay on your feet"),
        ("do not fall over", "remain upright on both legs"),
    ),
    maniskill_task(
        "MS-AntWalk",
        "ant",
        1000,
        ("walk forward on four legs", "walk ahead, ant", "let the ant walk"),
        ("march on as a four-legged creature", "stroll ahead on all fours"),
    ),
    maniskill_task(
        "MS-AntRun",
        "ant",
        1000,
        ("run forward on four legs", "run ahead, ant", "let the ant run"),
        ("sprint as a four-legged creature", "dash ahead on all fours"),
    ),
    maniskill_task(
        "MS-HopperStand",
        "hopper",
        600,
        ("stand on one leg", "keep the hopper upright", "balance on the leg"),
        ("do not tip over, hopper", "remain upright on your only leg"),
    ),
    maniskill_task(
        "MS-HopperHop",
        "hopper",
        600,
        ("hop forward on one leg", "let the hopper hop ahead", "hop along"),
        ("bounce ahead on your only leg", "jump onward, hopper"),
    ),
    maniskill_task(
        "MS-HumanoidStand",
        "humanoid",
        1000,
        ("stand up straight, humanoid", "keep the humanoid upright", "let the humanoid stand"),
        ("do not fall, humanoid", "the humanoid should stay up"),
    ),
    maniskill_task(
        "MS-HumanoidWalk",
        "humanoid",
        1000,
        ("walk forward, humanoid", "let the humanoid walk", "walk ahead on two legs"),
        ("stroll ahead, humanoid", "the humanoid should march on"),
    ),
    maniskill_task(
        "MS-HumanoidRun",
        "humanoid",
        1000,
        ("run forward, humanoid", "let the humanoid run", "run ahead on two legs"),
        ("sprint, humanoid", "the humanoid should dash ahead"),
    ),
    maniskill_task(
        "MS-CartpoleBalance",
        "cart_pole",
        1000,
        ("balance the pole on the cart", "keep the pole upright", "hold the pole up"),
        ("do not let the rod drop", "the rod should stay on end"),
    ),
    maniskill_task(
        "MS-CartpoleSwingUp",
        "cart_pole",
        1000,
        ("swing the pole up", "swing the pole up and balance it", "bring the hanging pole up"),
        ("get the rod to stand from below", "raise the rod by moving the cart"),
    ),
)
"""Whole bodies. Those called MS-… are the control suite's, and have no success: they are paid for how well they move,
which this stack does not read."""
