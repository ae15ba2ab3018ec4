"""robosuite's tasks by name, in words: read without loading robosuite."""

from functools import partial

from envs.language import Phrasings, Split
from envs.simulators.base import MakeWorld, SimulatedTask, SimulatorSuite
from envs.simulators.seeing import Seeing

NAME = "robosuite"


def _task(there: str, steps: int, expert: bool, train: tuple[str, ...], held_out: tuple[str, ...]) -> SimulatedTask:
    return SimulatedTask(
        name=f"{NAME}/{there}",
        there=there,
        phrasings=Phrasings(train=train, held_out=held_out),
        max_episode_steps=steps,
        expert=expert,
    )


def _into_bin(there: str, thing: str, expert: bool = True) -> SimulatedTask:
    return _task(
        there,
        400,
        expert,
        (
            f"put the {thing} into its bin",
            f"place the {thing} in the bin where it belongs",
            f"move the {thing} to its compartment",
        ),
        (f"drop the {thing} into the matching bin", f"the {thing} should go into its own compartment"),
    )


def _onto_peg(there: str, nut: str, expert: bool) -> SimulatedTask:
    return _task(
        there,
        400,
        expert,
        (f"put {nut} on its peg", f"place {nut} over the peg that fits", f"fit {nut} onto its peg"),
        (f"slide {nut} down the matching peg", f"{nut} should end up around its peg"),
    )


TASKS = (
    _task(
        "Lift",
        400,
        True,
        ("lift the red cube", "pick up the cube", "raise the red cube off the table"),
        ("grab the red block and hold it up", "get the cube up in the air"),
    ),
    _task(
        "Stack",
        400,
        True,
        (
            "stack the red cube on the green cube",
            "put the red cube on top of the green one",
            "place the red cube on the green cube",
        ),
        ("build a tower with the green block below the red one", "set the red block upon the green block"),
    ),
    _task(
        "Door",
        500,
        True,
        ("open the door", "turn the handle and open the door", "pull the door open"),
        ("unlatch the door and swing it towards you", "get the door to stand open"),
    ),
    _onto_peg("NutAssemblySquare", "the square nut", True),
    _onto_peg("NutAssemblyRound", "the round nut", True),
    _onto_peg("NutAssembly", "each nut", False),
    _into_bin("PickPlaceCan", "can"),
    _into_bin("PickPlaceMilk", "milk carton"),
    _into_bin("PickPlaceBread", "bread"),
    _into_bin("PickPlaceCereal", "cereal box", expert=False),
    _task(
        "PickPlace",
        1000,
        False,
        ("put every object into its bin", "sort the groceries into their bins", "move all four things to their bins"),
        ("tidy the milk, bread, cereal and can away", "each of the four objects should go into its own compartment"),
    ),
    _task(
        "Wipe",
        500,
        False,
        ("wipe the table clean", "wipe the dirt off the table", "clean the table"),
        ("rub away all the stains", "make the tabletop spotless"),
    ),
    _task(
        "ToolHang",
        700,
        False,
        (
            "assemble the stand and hang the tool on it",
            "put the hook into the base and hang the tool on it",
            "build the frame, then hang up the tool",
        ),
        ("set up the tool stand and suspend the wrench", "the tool should hang from the assembled frame"),
    ),
    _task(
        "TwoArmLift",
        500,
        False,
        ("lift the pot with both arms", "raise the pot by its two handles", "pick up the pot together"),
        ("take a handle each and get the pot off the table", "hold the pot up level with two hands"),
    ),
    _task(
        "TwoArmPegInHole",
        500,
        False,
        ("put the peg through the hole", "insert the peg into the plate", "bring peg and hole together"),
        ("fit the rod into the opening of the board", "the peg should go through the plate"),
    ),
    _task(
        "TwoArmHandover",
        500,
        False,
        ("hand the hammer over to the other arm", "pass the hammer on", "give the hammer to the other arm"),
        ("the second arm should end up with the hammer", "let the other robot take the hammer by its handle"),
    ),
    _task(
        "TwoArmTransport",
        700,
        False,
        (
            "move the payload to the target bin and the trash to the trash bin",
            "transport the payload and throw away the trash",
            "hand the payload across and clear the trash",
        ),
        ("empty the target bin of trash and bring the hammer over", "swap the rubbish for the payload"),
    ),
)


def _world_of(task: SimulatedTask, seeing: Seeing, split: Split) -> MakeWorld:
    from envs.simulators.robosuite_world import RobosuiteWorld

    return partial(RobosuiteWorld, task, seeing, split)


ROBOSUITE = SimulatorSuite(
    name=NAME,
    about="robosuite's manipulation tasks, Panda arms with its default controller",
    extra="robosuite",
    module="robosuite",
    tasks=TASKS,
    world_of=_world_of,
)
