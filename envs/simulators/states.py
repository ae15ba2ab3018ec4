"""All that MuJoCo's next step depends on, and what can be read before it, as one vector."""

import mujoco
import numpy as np
from jaxtyping import Float

_WHOLE = mujoco.mjtState.mjSTATE_INTEGRATION
_PLACES = (
    *("xpos", "xquat", "xmat", "xipos", "ximat", "geom_xpos", "geom_xmat"),
    *("site_xpos", "site_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir"),
)
"""Where things are: after a step still those of the state before its last one, which is what is seen and rewarded."""


def full_state(model: mujoco.MjModel, data: mujoco.MjData) -> Float[np.ndarray, " s"]:
    """Positions, velocities, activations, controls, mocap poses, warm start and the rest of what a step reads, and
    where bodies, geoms, sites, cameras and lamps are said to be.
    """
    state = np.empty(mujoco.mj_stateSize(model, _WHOLE))
    mujoco.mj_getState(model, data, state, _WHOLE)
    return np.concatenate([state, *(getattr(data, name).ravel() for name in _PLACES)])


def put_full_state(model: mujoco.MjModel, data: mujoco.MjData, state: Float[np.ndarray, " s"]) -> None:
    """The inverse of :func:`full_state`, with all else that follows from it computed; the warm start stays as given."""
    whole, places = np.split(state, [mujoco.mj_stateSize(model, _WHOLE)])
    mujoco.mj_setState(model, data, whole, _WHOLE)
    mujoco.mj_forward(model, data)
    mujoco.mj_setState(model, data, whole, _WHOLE)
    sizes = np.cumsum([getattr(data, name).size for name in _PLACES])
    for name, values in zip(_PLACES, np.split(places, sizes[:-1]), strict=True):
        place = getattr(data, name)
        place[:] = values.reshape(place.shape)
