"""What works on this machine, what does not, and how to mend it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from configs.machine import CHECKOUT, machine, versions
from envs.graphics import INSTALL_COMMAND, RenderingUnavailableError, find_backend

Level = Literal["ok", "warn", "fail"]
SERVER_PORT = 8000
RENDER_TIMEOUT_S = 60.0
OTHER_DRIVER = f"try another driver: MUJOCO_EGL_DEVICE_ID=NUMBER, or MUJOCO_GL=osmesa (as root: {INSTALL_COMMAND})"
MIN_MEMORY_GIB = 4
MIN_DISK_GIB = 2

EXTRAS: dict[str, tuple[str, ...]] = {
    "robosuite": ("robosuite",),
    "metaworld": ("metaworld",),
    "fetch": ("gymnasium_robotics",),
    "warp": ("mujoco_warp", "warp"),
    "open3d": ("open3d",),
    "sb3": ("stable_baselines3",),
    "peft": ("peft",),
    "lerobot": ("pyarrow", "av"),
    "video": ("av",),
    "ray": ("ray",),
    "test": ("pytest", "xdist", "hypothesis", "openpi_client"),
}
"""Modules that each optional extra brings."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the diagnosis. ``mend`` says what to do and is empty where nothing needs doing."""

    name: str
    level: Level
    found: str
    mend: str = ""


def diagnose(outputs: Path, render_timeout_s: float = RENDER_TIMEOUT_S) -> list[Finding]:
    """Run every check. A check never raises: what it trips over becomes a ``fail`` finding."""
    checks: dict[str, Callable[[], list[Finding]]] = {
        "python": check_python,
        "machine": check_machine,
        "versions": lambda: check_versions(CHECKOUT / "constraints.txt"),
        "rendering": lambda: check_rendering(render_timeout_s),
        "CUDA": check_cuda,
        "extras": check_extras,
        "port": lambda: check_port(SERVER_PORT),
        "outputs": lambda: check_outputs(outputs),
    }
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            findings += check()
        except Exception as error:
            findings.append(Finding(name=name, level="fail", found=f"the check broke: {type(error).__name__}: {error}"))
    return findings


def check_python() -> list[Finding]:
    return [Finding(name="python", level="ok", found=f"{sys.version.split()[0]} at {sys.executable}")]


def check_machine() -> list[Finding]:
    about = machine()
    memory = float(about["memory_gib"])
    little = 0 < memory < MIN_MEMORY_GIB
    return [
        Finding(name="system", level="ok", found=str(about["system"])),
        Finding(name="processor", level="ok", found=f"{about['processor']}, {about['cores']} cores"),
        Finding(
            name="memory",
            level="warn" if little else "ok",
            found=f"{memory:.1f} GiB",
            mend="train and evaluate with fewer worlds and smaller batches" if little else "",
        ),
    ]


def check_versions(constraints: Path) -> list[Finding]:
    """Installed packages against the versions that were tested together; outside a checkout there is no list."""
    if not constraints.is_file():
        return [
            Finding(name="versions", level="ok", found="not a checkout, so there are no tested pins to compare with")
        ]
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", constraints.read_text(encoding="utf-8"), re.MULTILINE))
    required = _required_packages()
    installed = versions(list(pins))
    findings = [
        Finding(name=name, level="fail", found="not installed", mend="pip install -e . -c constraints.txt")
        for name in sorted(required - {_normal(n) for n in installed})
    ]
    for name, version in installed.items():
        if version.partition("+")[0] != pins[name]:
            found = f"{version}, tested with {pins[name]}"
            findings.append(Finding(name=name, level="warn", found=found, mend=f"pip install {name}=={pins[name]}"))
    if not findings:
        findings.append(Finding(name="versions", level="ok", found=f"{len(installed)} packages as tested"))
    return findings


def check_rendering(timeout_s: float) -> list[Finding]:
    """Draw in a process of its own, which a broken driver may hang or kill."""
    command = [sys.executable, "-m", "envs.backends.probe"]
    mend = f"as root: {INSTALL_COMMAND}" if find_backend() is None else OTHER_DRIVER
    try:
        result = subprocess.run(
            command,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        found = f"no picture within {timeout_s:g} s: the OpenGL driver hangs"
        return [Finding(name="rendering", level="fail", found=found, mend=mend)]
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
        name, _, explanation = reason.partition(": ")
        if name == f"{RenderingUnavailableError.__module__}.{RenderingUnavailableError.__name__}":
            reason, mend = explanation, "as it says"
        return [Finding(name="rendering", level="fail", found=reason, mend=mend)]
    measured = json.loads(result.stdout.strip().splitlines()[-1])
    found = f"{measured['backend']}, {measured['frames_per_s']} frames/s at {measured['size_px']} px"
    return [Finding(name="rendering", level="ok", found=found)]


def check_cuda() -> list[Finding]:
    """CUDA as torch sees it; a GPU that torch cannot use is a warning."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return [Finding(name="CUDA", level="ok", found=f"{', '.join(names)}; torch {torch.__version__}")]
    if shutil.which("nvidia-smi"):
        found = f"there is an NVIDIA driver, but torch {torch.__version__} does not use it"
        return [Finding(name="CUDA", level="warn", found=found, mend="install a CUDA build of torch")]
    return [Finding(name="CUDA", level="ok", found=f"none; torch {torch.__version__} runs on the CPU")]


def check_extras() -> list[Finding]:
    """Which optional parts are installed. A missing one is no fault, so it is ``ok`` with the command that adds it."""
    findings = []
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        findings.append(
            Finding(
                name=f"extra {extra}",
                level="ok",
                found=f"without {', '.join(missing)}" if missing else "installed",
                mend=f"pip install -e '.[{extra}]' -c constraints.txt" if missing else "",
            )
        )
    return findings


def check_port(port: int) -> list[Finding]:
    name = f"port {port}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return [Finding(name=name, level="warn", found=f"taken: {error.strerror}", mend="vla serve … --port OTHER")]
    return [Finding(name=name, level="ok", found="free")]


def check_outputs(outputs: Path) -> list[Finding]:
    """Whether runs can be written, and room for them."""
    if outputs.exists() and not outputs.is_dir():
        found = f"{outputs} is not a folder"
        return [Finding(name="outputs", level="fail", found=found, mend="move it away, or name another folder")]
    folder = outputs if outputs.is_dir() else outputs.absolute().parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        mend = f"run from a folder you may write to, or: sudo chown -R {os.environ.get('USER', '$USER')} {folder}"
        return [Finding(name="outputs", level="fail", found=f"cannot write in {folder}: {error.strerror}", mend=mend)]
    free_gib = shutil.disk_usage(folder).free / 2**30
    mend = "free some space" if free_gib < MIN_DISK_GIB else ""
    return [
        Finding(name="outputs", level="warn" if mend else "ok", found=f"{free_gib:.0f} GiB free in {folder}", mend=mend)
    ]


def _required_packages() -> set[str]:
    """Normalised names of what the core needs, extras left out."""
    needed = metadata.requires("vla-stack") or []
    return {_normal(re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0]) for line in needed if "extra ==" not in line}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
