"""Every command that the documentation shows is one that the program takes, and make takes the Pythons it names."""

import argparse
import importlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from configs.cli import main
from configs.commands.eval import Config
from configs.presets import nano_bridge
from configs.run_directory import CONFIG_FILE, save_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text):
    """What follows ``vla`` in code: in the lines of a block, and in inline code that has more than the verb."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    found = [line.strip() for line in lines if line.strip().startswith("vla ")]
    found += re.findall(r"`(vla [^` ]+ [^`]+)`", re.sub(r"\s+", " ", text))
    return [line.removeprefix("vla ") for line in found]


DOCUMENTED = sorted({command for page in PAGES for command in commands(page.read_text(encoding="utf-8"))})


class ParsedError(Exception):
    """A benchmark has read its options; no more is wanted of it."""


@pytest.fixture
def only_parse(monkeypatch):
    """Verbs read their settings and do nothing; benchmarks are left as soon as they have read theirs."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    read = argparse.ArgumentParser.parse_args

    def parse(*args):
        read(*args)
        raise ParsedError

    def bench(command, **_):
        monkeypatch.setattr(sys, "argv", command[1:])
        with pytest.raises(ParsedError):
            runpy.run_path(command[1], run_name="__main__")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr("configs.commands.bench.subprocess", SimpleNamespace(run=bench))

    def prepare(name):
        module = importlib.import_module(f"configs.commands.{name}")
        for entry in {"run", "resume"} & set(vars(module)) if name != "bench" else ():
            monkeypatch.setattr(module, entry, lambda *_: 0)

    return prepare


def test_there_are_commands_of_every_kind():
    assert {"train", "eval", "bench", "collect", "serve"} <= {command.split()[0] for command in DOCUMENTED}


@pytest.mark.parametrize("command", DOCUMENTED)
def test_a_documented_command_is_understood(only_parse, command, tmp_path):
    save_config(Config(policy="expert") if command.startswith("eval") else nano_bridge(), tmp_path / CONFIG_FILE)
    words = [word.split("|")[0] for word in shlex.split(command, comments=True) if word != "…"]
    words = [re.sub(r"^RUN\b", str(tmp_path), word) if "--perturb" not in words else word for word in words]
    words = [{"NAME": "sim" if words[0] == words[index - 1] else "reach"}.get(w, w) for index, w in enumerate(words)]
    only_parse(words[0])
    assert main(words) == 0


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("version", [(3, 10), (3, 13)])
def test_make_refuses_a_python_that_the_pins_do_not_serve(tmp_path, version):
    python = tmp_path / "python"
    pretence = f"import sys; sys.version_info = {(*version, 0)}; exec(sys.argv[2])"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{pretence}' \"$@\"\n")
    python.chmod(0o755)
    command = ["make", "install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "neither Python 3.11 nor 3.12" in done.stderr
    assert not (tmp_path / "venv").exists()
    assert 'requires-python = ">=3.11,<3.13"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
