"""Whether the system's OpenGL libraries for rendering without a display are there, and which the user wants.

Standard library only, so that ``python -I envs/graphics.py`` works before anything is installed: it prints
``egl`` or ``osmesa`` and exits with 0, or says what is missing and exits with 1.
"""

import ctypes
import os
import sys

INSTALL_COMMAND = "apt-get install -y libegl1 libegl-mesa0 libgl1-mesa-dri libosmesa6"
EGL_DRIVERS = ("libEGL_nvidia.so.0", "libEGL_mesa.so.0")
LOADERS = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}
"""The library that a way of drawing without a display begins with."""
VARIABLE = "MUJOCO_GL"
ELSEWHERE = ("glfw", "glx", "enable", "enabled", "on", "true", "1", "disable", "disabled", "off", "false", "0", "")
"""Values of the variable that say nothing about drawing without a display."""
STEERING = (VARIABLE, "MUJOCO_EGL_DEVICE_ID", "PYOPENGL_PLATFORM")
"""Environment variables by which OpenGL contexts are chosen."""


class RenderingUnavailableError(RuntimeError):
    """No OpenGL context can be made on this machine, or not the one that was asked for."""


def can_load(library: str) -> bool:
    """Whether the system's loader finds and opens the shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def find_backend() -> str | None:
    """``egl`` where the EGL loader and a driver are there, else ``osmesa``, else None."""
    if can_load(LOADERS["egl"]) and any(can_load(driver) for driver in EGL_DRIVERS):
        return "egl"
    if can_load(LOADERS["osmesa"]):
        return "osmesa"
    return None


def wanted_backend() -> str | None:
    """``egl`` or ``osmesa`` where the environment variable ``MUJOCO_GL`` asks for it.

    :class:`RenderingUnavailableError` for a value that it cannot have, or whose library is missing: ``import mujoco``
    obeys the variable, and fails without saying why.
    """
    given = os.environ.get(VARIABLE, "")
    wanted = given.lower().strip()
    if wanted in ELSEWHERE:
        return None
    if wanted not in LOADERS:
        raise RenderingUnavailableError(
            f"{VARIABLE}={given}: expected egl or osmesa to draw without a display, or the variable not to be set"
        )
    if not can_load(LOADERS[wanted]):
        raise RenderingUnavailableError(
            f"{VARIABLE}={given} asks for a library that is missing ({LOADERS[wanted]}); unset the variable, "
            f"or on Debian or Ubuntu, as root: {INSTALL_COMMAND}"
        )
    return wanted


def explain_failure(backend: str, error: Exception) -> str:
    """Why there is no context: what to install where libraries are missing, else what steered the choice."""
    if not can_load(LOADERS[backend]) or (backend == "egl" and not any(can_load(driver) for driver in EGL_DRIVERS)):
        return f"libraries for {backend} are missing ({error}); on Debian or Ubuntu, as root: {INSTALL_COMMAND}"
    steering = [f"{name}={os.environ[name]}" for name in STEERING if os.environ.get(name, backend) != backend]
    set_here = f" (set here: {', '.join(steering)})" if steering else ""
    return f"{backend} fails, though its libraries are there: {error}{set_here}"


if __name__ == "__main__":
    backend = find_backend()
    if backend is None:
        sys.exit(f"no OpenGL library for rendering without a display; on Debian, as root: {INSTALL_COMMAND}")
    print(backend)
