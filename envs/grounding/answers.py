"""Short answers: each fact about a table has one."""

from collections.abc import Mapping

from envs.grounding.relations import RELATIONS
from envs.grounding.table import Table
from envs.grounding.vocabulary import NOUNS, held_out_pair

YES, NO = "yes", "no"
SIDE_ANSWERS: Mapping[str, str] = {"left": "left", "right": "right", "in front": "in front", "behind": "behind"}
ON_THE_TABLE = "on the table"
_IN_OR_ON: Mapping[str, str] = {"inside": "in", "on top": "on"}


def thing_of(table: Table, piece: int) -> tuple[str, bool]:
    """A thing as "a red cube", by its colour and its first noun, and whether training must not say that."""
    kind, colour = table.pieces[piece].kind, table.colours[piece]
    noun = NOUNS[kind].train[0]
    return (f"a {noun}", False) if colour is None else (f"a {colour} {noun}", held_out_pair(colour, kind))


def place_of(table: Table, piece: int) -> tuple[str, bool] | None:
    """What a thing is in or on, as "in the bin" or "on the table", and whether training must not say that.

    The colour is said where there are several of the kind. None where it is in or on several things, or doubtful.
    """
    here = table.bodies[piece]
    found = [
        (i, name, holds)
        for i in table.things
        for name in _IN_OR_ON
        if i != piece and (holds := RELATIONS[name](here, table.bodies[i])) is not False
    ]
    if not found:
        return ON_THE_TABLE, False
    receiver, name, holds = found[0]
    if len(found) > 1 or not holds or not table.seen[receiver]:
        return None
    kind, colour = table.pieces[receiver].kind, table.colours[receiver]
    alike = [i for i in table.things if table.pieces[i].kind == kind]
    words = f"{_IN_OR_ON[name]} the"
    if len(alike) == 1:
        return f"{words} {NOUNS[kind].train[0]}", False
    if colour is None or [table.colours[i] for i in alike].count(colour) > 1:
        return None
    return f"{words} {colour} {NOUNS[kind].train[0]}", held_out_pair(colour, kind)
