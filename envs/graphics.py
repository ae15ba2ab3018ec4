"""Whether the system's OpenGL libraries for rendering without a display are there.

Standard library only, so that ``python -I envs/graphics.py`` works before anything is installed: it prints
``egl`` or ``osmesa`` and exits with 0, or says what is missing and exits with 1.
"""

import ctypes
import sys

INSTALL_COMMAND = "apt-get install -y libegl1 libegl-mesa0 libgl1-mesa-dri libosmesa6"
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


if __name__ == "__main__":
    backend = find_backend()
    if backend is None:
        sys.exit(f"no OpenGL library for rendering without a display; on Debian, as root: {INSTALL_COMMAND}")
    print(backend)
