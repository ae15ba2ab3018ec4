"""The words that instructions are rewritten with: requests around them, other nouns, other verbs.

In a phrase ``…`` stands for a thing in the middle: ``pull … open`` is "pull the green drawer open". One number
chooses the synonyms of a whole sentence, by their place in lists that are equally long.
"""

from typing import Literal

Wordlist = Literal["test", "training"]

POLITE: dict[Wordlist, tuple[str, ...]] = {
    "test": ("please {0}", "kindly {0}", "{0}, please", "would you {0}"),
    "training": ("could you {0}", "i want you to {0}", "{0} if you can", "your job is to {0}"),
}
ADDRESSED: dict[Wordlist, tuple[str, ...]] = {
    "test": (
        "robot, it is your turn, {0}",
        "as your next step, {0}",
        "all right, now {0}",
        "the next thing to do is this, {0}",
    ),
    "training": ("hello, {0}", "ok, {0}", "listen, {0}", "for this task, {0}"),
}
WORDY = (
    "here is what i would like to see done next, and there is no need to hurry, {0}",
    "look closely at everything that lies on the table in front of you, and then {0}",
    "there may be other things around, which you can leave alone, so {0}",
)
THINGS = {
    "cubes": ("blocks", "dice"),
    "cube": ("block", "die"),
    "ball": ("sphere", "orb"),
    "cylinder": ("can", "tin"),
    "block": ("bar", "brick"),
    "post": ("pillar", "column"),
    "tile": ("slab", "plate"),
    "die": ("cube", "block"),
    "bins": ("trays", "containers"),
    "bin": ("tray", "container"),
    "mat": ("patch", "pad"),
    "T": ("T-shaped piece", "letter T"),
    "mark": ("outline", "target shape"),
    "drawer": ("compartment", "cabinet"),
    "button": ("switch", "key"),
    "knob": ("handle", "grip"),
    "handle": ("knob", "grip"),
    "rail": ("track", "guide"),
    "socket": ("holder", "receptacle"),
    "hole": ("opening", "cavity"),
    "peg": ("pin", "rod"),
    "door": ("hatch", "panel"),
    "table": ("tabletop", "desk"),
}
DEEDS = {
    # To reach, grasp and lift.
    "reach out to": ("stretch towards", "extend the arm to"),
    "reach for": ("stretch towards", "extend the arm to"),
    "reach": ("get to", "go up to"),
    "touch": ("tap", "make contact with"),
    "move to": ("approach", "come to"),
    "go to": ("approach", "travel to"),
    "pick up": ("fetch", "collect"),
    "pick … off": ("fetch … from", "collect … from"),
    "lift up": ("hoist", "elevate"),
    "lift": ("hoist", "elevate"),
    "raise": ("hoist", "elevate"),
    "grasp": ("grip", "seize"),
    "take": ("grab", "get hold of"),
    # To put somewhere.
    "place": ("deposit", "set"),
    "put": ("deposit", "set"),
    "drop": ("release", "dump"),
    "move": ("transfer", "bring"),
    "store": ("stash", "lodge"),
    "stow": ("stash", "store"),
    "stack": ("pile", "perch"),
    "set … down": ("put … down", "lay … down"),
    "build": ("make", "erect"),
    "sort": ("arrange", "group"),
    "tidy": ("gather", "arrange"),
    "belongs in": ("is moved into", "lands in"),
    "insert": ("fit", "slot"),
    "plug": ("fit", "slot"),
    "stick": ("fit", "slot"),
    "fit … in": ("lodge … in", "slot … in"),
    "goes into": ("ends up in", "lands in"),
    # To push and slide.
    "push": ("shove", "nudge"),
    "pushing": ("shoving", "nudging"),
    "shove": ("push", "nudge"),
    "nudge": ("shove", "push"),
    "slide": ("shift", "ease"),
    "shift": ("slide", "ease"),
    "bring": ("move", "run"),
    "fit … onto": ("settle … onto", "lay … onto"),
    "cover": ("hide", "overlay"),
    "covers": ("hides", "overlays"),
    "line … up with": ("align … with", "bring … into line with"),
    # To press.
    "push … button": ("press … switch", "tap … key"),
    "push down": ("press down", "force down"),
    "press down on": ("push down on", "bear down on"),
    "press … down": ("push … down", "force … down"),
    "press": ("push", "tap"),
    "hit": ("strike", "tap"),
    "give … a push": ("give … a press", "give … a tap"),
    # To open and close.
    "open up": ("pull open", "draw open"),
    "open it": ("pull it open", "draw it open"),
    "open": ("pull open", "draw open"),
    "pull … open": ("draw … open", "tug … open"),
    "pull open": ("draw open", "tug open"),
    "pull out": ("draw out", "tug out"),
    "slide … open": ("ease … open", "draw … open"),
    "slide out": ("ease out", "draw out"),
    "swing … open": ("pull … open", "ease … open"),
    "swing open": ("pull open", "ease open"),
    "close": ("shut", "fully shut"),
    "shut": ("close", "fully close"),
    "push in": ("shove in", "press in"),
    "push … shut": ("shove … closed", "press … closed"),
    "push … closed": ("shove … shut", "press … shut"),
    "slide … shut": ("shift … closed", "ease … closed"),
    "swing … shut": ("turn … closed", "ease … closed"),
    "swing … closed": ("turn … shut", "ease … shut"),
    # To set upright.
    "stand up … block": ("set … bar upright", "tip … brick upright"),
    "stand … upright": ("set … upright", "tip … upright"),
    "stand … up": ("set … upright", "tip … upright"),
    "turn … upright": ("set … upright", "tip … upright"),
    "make … stand up": ("get … to stand", "have … stand"),
    "put … on its end so that it stands": (
        "set … upright so that it stays up",
        "tip … on end so that it does not fall",
    ),
    "put … on its end": ("stand … on end", "tip … on end"),
    "set … on its end": ("stand … on end", "tip … on end"),
}
