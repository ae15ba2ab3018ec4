"""This machine: what it is and which versions it has, to go with results, and whether it has what settings ask for."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
"""The folder above the packages: a checkout's root, or site-packages."""

RECORDED_PACKAGES = (
    *("vla-stack", "torch", "mujoco", "numpy", "transformers", "zarr", "gymnasium", "websockets", "tyro"),
    *("mujoco-warp", "warp-lang", "robosuite", "metaworld", "gymnasium-robotics"),
)


def describe_run() -> dict[str, str | int | float]:
    """Machine, interpreter, versions and source revision, flat and JSON-ready."""
    return {**machine(), **{f"{name} version": version for name, version in versions(RECORDED_PACKAGES).items()}}


def machine() -> dict[str, str | int | float]:
    """Processor, cores this process may use, memory in GiB, system, Python and source revision."""
    description: dict[str, str | int | float] = {
        "processor": processor_name(),
        "cores": usable_cores(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    revision = source_revision()
    return {**description, "revision": revision} if revision else description


def versions(names: tuple[str, ...] | list[str]) -> dict[str, str]:
    """Installed versions of the distributions in ``names`` that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor_name() -> str:
    """The processor's model name where the system tells, else its architecture."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if match:
            return match.group(1)
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores this process may run on."""
    if sys.platform.startswith("linux"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory of the machine in bytes; 0 where the system does not tell."""
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_device(name: str) -> None:
    """``ValueError`` unless torch can compute on the device ``name`` here; it says which devices there are."""
    if name == "cpu":  # always there, and torch takes a second to import
        return
    from policies.device import resolve_device

    resolve_device(name)


def check_threads(threads: int, device: str) -> None:
    """``ValueError`` for a number of threads below 0, or one for a network that does not run on the CPU."""
    if threads < 0:
        raise ValueError(f"threads must not be negative, got {threads}")
    if threads and device != "cpu":
        raise ValueError(f"threads are for the network on the CPU, got {threads} with device {device!r}")


def check_int8(int8: bool, device: str) -> None:
    """``ValueError`` for integers where the network does not run on the CPU."""
    if int8 and device != "cpu":
        raise ValueError(f"int8 is for the network on the CPU, got device {device!r}")


def check_output_file(path: Path) -> None:
    """``OSError`` unless a file can be written at ``path``; folders above it that are missing will be made."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected the name of a file")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{path} cannot be written: {above} is not a folder")
    if not os.access(path if path.exists() else above, os.W_OK):
        raise PermissionError(f"{path} cannot be written: no permission")


def simulator_digest() -> str:
    """SHA-256 of the simulator's code and assets; episodes and pictures depend on it, and on versions of libraries."""
    digest = hashlib.sha256()
    for path in sorted(path for path in (CHECKOUT / "envs").rglob("*") if path.is_file() and path.suffix != ".pyc"):
        digest.update(f"{path.relative_to(CHECKOUT)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()


def source_revision() -> str | None:
    """Short commit of the checkout, with ``+`` if tracked files differ from it; None outside a checkout."""
    if not (CHECKOUT / ".git").exists():
        return None
    command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
