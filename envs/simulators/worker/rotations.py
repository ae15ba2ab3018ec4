"""Rotations as other projects write them."""

import math

import numpy as np


def rotation_vector_without_flip(quaternion_xyzw: np.ndarray) -> np.ndarray:
    """Axis times angle (rad) of a unit quaternion, the angle in 0 … 2π: q and −q give different vectors.

    A tool that points down turns by about π, where a flip to the nearer half would change all three signs from one
    step to the next. This is robosuite's conversion, and the one that policies for LIBERO were trained with.
    """
    x, y, z, w = (float(part) for part in quaternion_xyzw)
    w = min(max(w, -1.0), 1.0)
    sine = math.sqrt(1.0 - w * w)
    if math.isclose(sine, 0.0):
        return np.zeros(3)
    return np.array([x, y, z]) * (2.0 * math.acos(w) / sine)
