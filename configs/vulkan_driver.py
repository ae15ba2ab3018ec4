"""A software Vulkan that is new enough for ManiSkill's renderer, found on the machine or unpacked beside it.

SAPIEN asks for features that Mesa's lavapipe did not have in Debian 12 (22.3.6); 25.0.7 has them. Nothing of the
machine's own is changed: packages are unpacked in a folder, and only workers look there.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from envs.simulators.maniskill import DRIVER_FILE

FOUND = Path("/usr/share/vulkan/icd.d")
RELEASE = "bookworm"
"""The release of Debian whose backports have a newer Mesa."""
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MESA = "mesa-vulkan-drivers"
PACKAGES = (
    *(MESA, "libdrm2", "libdrm-amdgpu1", "libvulkan1", "libllvm15", "libelf1", "libexpat1", "libwayland-client0"),
    *("libx11-6", "libx11-xcb1", "libxau6", "libxdmcp6", "libxcb1", "libxcb-dri3-0", "libxcb-present0"),
    *("libxcb-randr0", "libxcb-shm0", "libxcb-sync1", "libxcb-xfixes0", "libxshmfence1", "libzstd1", "libbsd0"),
    *("libmd0", "libffi8", "libedit2", "libtinfo6", "libz3-4", "libxml2", "libgmp10", "libicu72", "liblzma5"),
)
"""Mesa's drivers and what they need that a small machine may lack: all are unpacked, none is installed."""


def machine_s_drivers() -> list[Path]:
    """Descriptions of the software Vulkan that is installed on the machine, if any."""
    return sorted(FOUND.glob("lvp_icd*.json"))


def use_machine_s(description: Path, driver: Path) -> str:
    """Have workers draw with a driver of the machine's own; what it is called."""
    (driver / DRIVER_FILE).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(description, driver / DRIVER_FILE)
    return f"the machine's own {description}"


def why_not_unpacked() -> str:
    """Why no driver can be unpacked here; empty where one can."""
    needed = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if needed:
        return f"there is no {' and no '.join(needed)}"
    if not _repository():
        return f"it is not Debian 12 ({RELEASE}), or its package lists name no repository of that release"
    return "" if KEYS.is_file() else f"Debian's keys are not at {KEYS}"


def unpack_driver(driver: Path) -> str:
    """Unpack Mesa of Debian's backports in ``driver``; what it is called.

    ``RuntimeError`` with what a command said that failed.
    """
    apt = driver.with_name(f"{driver.name}-packages")
    for folder in ("lists/partial", "cache/archives/partial", "debs"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    lines = [f"deb [signed-by={KEYS}] {_repository()} {suite} main" for suite in (RELEASE, f"{RELEASE}-backports")]
    (apt / "sources.list").write_text("\n".join(lines) + "\n", encoding="utf-8")
    places = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt / "cache",
        "APT::Sandbox::User": "root",
    }
    options = [part for name, value in places.items() for part in ("-o", f"{name}={value}")]
    run(["apt-get", *options, "update"])
    run(["apt-get", *options, "download", "-t", f"{RELEASE}-backports", *PACKAGES], folder=apt / "debs")
    shutil.rmtree(driver, ignore_errors=True)
    for package in sorted((apt / "debs").glob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(driver)])
    (mesa,) = (apt / "debs").glob(f"{MESA}_*.deb")
    shutil.rmtree(apt)
    return f"lavapipe of {mesa.stem}"


def run(command: Sequence[str], folder: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What a command prints; ``RuntimeError`` with the last lines that it said where it fails."""
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder, env=env
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise RuntimeError(f"{' '.join(command)} failed with status {done.returncode}:\n{said}")
    return done.stdout


def _repository() -> str:
    """The address of Debian's main archive, as this machine's own package lists have it; empty where they do not."""
    wanted = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"]
    done = subprocess.run(wanted, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    found = [line.split() for line in done.stdout.splitlines()]
    return next((line[0] for line in found if line[1:] == [RELEASE]), "")
