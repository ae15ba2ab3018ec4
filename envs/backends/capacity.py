"""How much room for contacts and constraints a scene is given on an engine that cannot grow it while it runs."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Self

import mujoco
import numpy as np

_CONTACTS_PER_GEOM = 8
"""Two faces of a box, each with four contacts: what it stands on and what it touches."""
_CONTACTS_OF_ROUND = {mujoco.mjtGeom.mjGEOM_SPHERE: 2, mujoco.mjtGeom.mjGEOM_CAPSULE: 4}
"""Likewise: a sphere touches a thing at one place, a capsule at its two ends."""
_GEOMS_PER_BODY = 3
"""How many geoms of one body touch something at once, at most; matters for bodies of many pieces."""
_SPARE_CONTACTS = 8
_EQUALITY_ROWS = {mujoco.mjtEq.mjEQ_CONNECT: 3, mujoco.mjtEq.mjEQ_WELD: 6}


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What memory is reserved for, per world.

    ``contacts_per_world`` is an average: contacts (and pairs of geoms near enough to be looked at) of all worlds share
    one store, which has room for ``contacts_shared`` more, so that one crowded world takes nothing from the others:
    MuJoCo Warp reads beyond the end of a store that overflows, so be generous. ``rows_per_world`` of the constraint
    Jacobian holds for every single world.
    """

    contacts_per_world: int
    rows_per_world: int
    contacts_shared: int = 512

    def __post_init__(self) -> None:
        if self.contacts_per_world < 1 or self.rows_per_world < 1 or self.contacts_shared < 0:
            raise ValueError(f"a capacity must be at least 1 contact and 1 row, and nothing negative; got {self}")

    @classmethod
    def of(cls, model: mujoco.MjModel) -> Self:
        """Room for ``model`` by counting, without stepping it.

        Contacts: 8 for each geom that collides on a body that can move (4 for a capsule, 2 for a sphere), of the 3
        geoms per body that count most, and 8 to spare.
        Rows: every equality, friction loss and limit at once, and every one of those contacts with the largest
        ``condim`` of those geoms (``2 (condim − 1)`` rows in a pyramidal cone, ``condim`` in an elliptic one). Shared:
        every pair of geoms that may collide, as in a world where all things are in one place.
        """
        geoms = _moving_colliders(model)
        contacts = _SPARE_CONTACTS + _contacts(model, geoms)
        condim = max([int(d) for d in model.geom_condim[geoms]] + [int(d) for d in model.pair_dim] + [1])
        pyramidal = model.opt.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL
        rows = condim if condim == 1 or not pyramidal else 2 * (condim - 1)
        return cls(
            contacts_per_world=contacts,
            rows_per_world=contacts * rows + _rows_without_contact(model),
            contacts_shared=_pairs(model, geoms),
        )


def _contacts(model: mujoco.MjModel, geoms: np.ndarray) -> int:
    """Contacts of all ``geoms`` together, counting few of each body."""
    of_body = defaultdict(list)
    for geom in geoms:
        most = _CONTACTS_OF_ROUND.get(mujoco.mjtGeom(model.geom_type[geom]), _CONTACTS_PER_GEOM)
        of_body[int(model.geom_bodyid[geom])].append(most)
    return sum(sum(sorted(counts)[-_GEOMS_PER_BODY:]) for counts in of_body.values())


def _moving_colliders(model: mujoco.MjModel) -> np.ndarray:
    """Geoms that can touch something and are not fixed to the world."""
    collides = (model.geom_contype | model.geom_conaffinity) != 0
    collides[model.pair_geom1] = collides[model.pair_geom2] = True
    return np.flatnonzero(collides & (model.body_weldid[model.geom_bodyid] != 0))


def _pairs(model: mujoco.MjModel, moving: np.ndarray) -> int:
    """How many pairs of geoms may collide, one of them ``moving``."""
    types, affinities = model.geom_contype[:, None], model.geom_conaffinity[None]
    allowed = ((types & affinities) | (types & affinities).T) != 0
    allowed &= model.geom_bodyid[:, None] != model.geom_bodyid[None]
    moves = np.zeros(model.ngeom, bool)
    moves[moving] = True
    return int((allowed & (moves[:, None] | moves[None])).sum()) // 2 + model.npair


def _rows_without_contact(model: mujoco.MjModel) -> int:
    equality = sum(_EQUALITY_ROWS.get(mujoco.mjtEq(kind), 1) for kind in model.eq_type)
    friction = int((model.dof_frictionloss > 0).sum() + (model.tendon_frictionloss > 0).sum())
    limits = int(model.jnt_limited.sum() + model.tendon_limited.sum())
    return equality + friction + limits
