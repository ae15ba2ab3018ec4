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


def matrix_of_quaternion(quaternion_wxyz: np.ndarray) -> np.ndarray:
    """The rotation matrix of a quaternion of any length but 0."""
    w, x, y, z = np.asarray(quaternion_wxyz, np.float64) / np.linalg.norm(quaternion_wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def rotation_matrix_of(vector_rad: np.ndarray) -> np.ndarray:
    """The rotation matrix of axis times angle (Rodrigues' formula)."""
    angle = float(np.linalg.norm(vector_rad))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = np.asarray(vector_rad, np.float64) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def rotation_vector_of(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle (rad, 0 … π) of a rotation matrix."""
    skew = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine, cosine = float(np.linalg.norm(skew)) / 2, (float(np.trace(rotation)) - 1) / 2
    angle = math.atan2(sine, cosine)
    if sine > 1e-9:
        return skew / (2 * sine) * angle
    if cosine > 0:
        return skew / 2
    axis = rotation[:, int(np.argmax(np.diag(rotation)))] + np.eye(3)[int(np.argmax(np.diag(rotation)))]
    return axis / np.linalg.norm(axis) * angle


def euler_xyz_of(rotation: np.ndarray) -> np.ndarray:
    """Angles a, b, c (rad) with ``rotation = Rx(a) Ry(b) Rz(c)``, b in −π/2 … π/2."""
    return np.array(
        [
            math.atan2(-rotation[1, 2], rotation[2, 2]),
            math.asin(min(max(float(rotation[0, 2]), -1.0), 1.0)),
            math.atan2(-rotation[0, 1], rotation[0, 0]),
        ]
    )
