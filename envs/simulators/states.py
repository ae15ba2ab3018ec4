"""All that MuJoCo's next step depends on, as one vector."""

import mujoco
import numpy as np
from jaxtyping import Float

_WHOLE = mujoco.mjtState.mjSTATE_INTEGRATION


def full_state(model: mujoco.MjModel, data: mujoco.MjData) -> Float[np.ndarray, " s"]:
    """Positions, velocities, activations, controls, mocap poses, warm start and the rest of what a step reads."""
    state = np.empty(mujoco.mj_stateSize(model, _WHOLE))
    mujoco.mj_getState(model, data, state, _WHOLE)
    return state


def put_full_state(model: mujoco.MjModel, data: mujoco.MjData, state: Float[np.ndarray, " s"]) -> None:
    """The inverse of :func:`full_state`, with all that follows from it computed; the warm start stays as given."""
    mujoco.mj_setState(model, data, state, _WHOLE)
    mujoco.mj_forward(model, data)
    mujoco.mj_setState(model, data, state, _WHOLE)
