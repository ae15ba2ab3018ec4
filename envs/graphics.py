"""Which OpenGL backend MuJoCo can render with on this machine, without a display.

Standard library only, so that ``python -I envs/graphics.py`` works before anything is installed: it
prints ``egl`` or ``osmesa`` and exits with 0, or says what is missing and exits with 1.
"""

import ctypes
import os
import sys

BACKEND_VARIABLE = "MUJOCO_GL"
SYSTEM_PACKAGES = ("libegl1", "libegl-mesa0", "libgl1-mesa-dri", "libosmesa6")
EGL_DRIVERS = ("libEGL_nvidia.so.0", "libEGL_mesa.so.0")


def can_load(library: str) -> bool:
    """Whether the system's loader finds and opens the shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def find_backend() -> str | None:
    """``egl`` where the EGL loader and a driver are there, else ``osmesa``, else None."""
    if can_load("libEGL.so.1") and any(can_load(driver) for driver in EGL_DRIVERS):
        return "egl"
    if can_load("libOSMesa.so.8"):
        return "osmesa"
    return None


def select_backend() -> str | None:
    """Name the backend in ``MUJOCO_GL`` unless the user did, and return it; call before MuJoCo is imported."""
    chosen = os.environ.get(BACKEND_VARIABLE)
    if chosen:
        return chosen
    if not sys.platform.startswith("linux"):
        return None
    found = find_backend()
    if found:
        os.environ[BACKEND_VARIABLE] = found
    return found


def install_command() -> str:
    """What brings software OpenGL to a Debian-like system."""
    return "apt-get install -y " + " ".join(SYSTEM_PACKAGES)


if __name__ == "__main__":
    backend = find_backend()
    if backend is None:
        sys.exit(f"no OpenGL library for rendering without a display; as root: {install_command()}")
    print(backend)
