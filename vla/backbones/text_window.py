"""How many tokens of an instruction a network is made to take in, where nobody says."""

import math

HEADROOM = 1.25
"""How much longer than the sentences it is made for a window is at least: people say more."""
_STEP = 16


def window_for(longest: int) -> int:
    """The window for sentences of up to ``longest`` tokens, in whole steps of 16."""
    return _STEP * math.ceil(HEADROOM * longest / _STEP)
