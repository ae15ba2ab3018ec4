"""tabletop-long: ten chains of two to five tasks; see ``envs.tasks.chains`` for their tables."""

from envs.suites.base import Suite
from envs.tasks.chains import chains

NAME = "tabletop-long"
LEFT_OUT = ("store-shut", "press-three")
"""Chains that others contain or resemble; the suite has ten."""
LONG = Suite(
    name=NAME,
    varies="what is to be done one after the other",
    tasks=tuple(chain for chain in chains(f"{NAME}/") if chain.name.removeprefix(f"{NAME}/") not in LEFT_OUT),
)
