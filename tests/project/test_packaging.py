"""What a newcomer's first minutes rest on: the pins, the make targets, the commands that the README names."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from configs.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}
REQUIREMENTS = [
    Requirement(line)
    for line in [*PROJECT["dependencies"], *(x for extra in PROJECT["optional-dependencies"].values() for x in extra)]
    if not line.startswith("vla-stack")
]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_to_a_version_that_it_allows(requirement):
    pinned = PINS.get(canonicalize_name(requirement.name))
    assert pinned is not None, f"{requirement.name} has no pin in constraints.txt"
    assert requirement.specifier.contains(pinned)


def test_the_all_extra_names_every_extra():
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    assert Requirement(everything).extras == set(extras) - {"all", "test"}


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_commands_that_exist(document):
    text = (ROOT / document).read_text()
    blocks = "\n".join(re.findall(r"```(?:bash|sh)\n(.*?)```", text, re.DOTALL))
    verbs = re.findall(r"^(?:\.venv/bin/)?vla ([a-z]+)", blocks, re.MULTILINE)
    targets = re.findall(r"^make ([a-z]+)", blocks, re.MULTILINE)
    assert targets and set(verbs) <= set(VERBS)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert set(targets) <= set(phony)
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).exists(), f"{document} links to {link}, which is not there"


def make(*arguments, cwd):
    return subprocess.run(["make", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def bare(tmp_path):
    """A checkout with nothing but what the Makefile needs to begin."""
    (tmp_path / "envs").mkdir()
    for name in ("Makefile", "constraints.txt", "pyproject.toml", "envs/graphics.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_make_says_that_python_is_missing(bare):
    result = make("install", "PYTHON=python-that-is-not-there", cwd=bare)
    assert result.returncode != 0 and "python-that-is-not-there not found" in result.stderr


def test_make_says_that_venv_is_missing(bare):
    stub = bare / "python"
    stub.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; *) exit 0;; esac\n')
    stub.chmod(0o755)
    result = make("install", f"PYTHON={stub}", cwd=bare)
    assert result.returncode != 0 and "apt-get install -y python3-venv" in result.stderr


@pytest.fixture
def machine(bare):
    """Runs ``make install`` where only the given commands exist; ``python -I`` finds no GL until ``gl`` is there."""
    tools, log = bare / "bin", bare / "log"
    tools.mkdir()
    log.touch()
    bash = shutil.which("bash")
    for name in ("bash", "touch", "mkdir", "make", "env"):
        (tools / name).symlink_to(shutil.which(name))
    (bare / ".venv").mkdir()

    def install(**commands):
        commands["python"] = 'case "$1" in -I) test -e gl;; *) exit 0;; esac'
        for name, body in commands.items():
            (tools / name).write_text(f"#!{bash}\n{body}\n")
            (tools / name).chmod(0o755)
        command = [shutil.which("make"), "install", "PYTHON=python"]
        options = {"cwd": bare, "env": {"PATH": str(tools)}, "capture_output": True, "text": True, "timeout": 60}
        return subprocess.run(command, check=False, **options), log.read_text()

    return install


def test_make_says_how_to_bring_gl_libraries_where_it_may_not(machine):
    result, _ = machine(id="echo 1000")
    assert result.returncode != 0 and "as root: apt-get install -y libegl1" in result.stderr


@pytest.mark.parametrize(("user", "prefix"), [("0", ""), ("1000", "as root: ")])
def test_make_brings_gl_libraries_as_root_or_through_sudo(machine, bare, user, prefix):
    apt = 'echo "${AS_ROOT}apt-get $*" >>log; [ "$1" = update ] || touch gl'
    result, log = machine(**{"id": f"echo {user}", "sudo": 'AS_ROOT="as root: " "$@"', "apt-get": apt})
    assert (bare / ".venv" / "graphics.stamp").exists(), result.stderr
    update, install = log.splitlines()
    assert update == f"{prefix}apt-get update -q"
    assert install.startswith(f"{prefix}apt-get install -y") and "libegl1" in install and "libosmesa6" in install


def test_a_wheel_holds_the_pre_trained_weights(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "vla", source / "vla", ignore=shutil.ignore_patterns("__pycache__", "pretrained"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    files = {f"vla/backbones/pretrained/nano/{name}" for name in ("config.json", "model.safetensors", "run.json")}
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    made = subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        assert files <= set(content.namelist())
