"""A hook of mkdocs: the page of the command line is what ``vla`` and its verbs print with ``--help``."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from configs.cli import VERBS

_PAGE = "reference/command-line.md"
_WIDTH = 82


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """``markdown``, and on its page a section for each verb."""
    if page.file.src_uri != _PAGE:
        return markdown
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        helps = list(pool.map(_help, VERBS))
    sections = [f"## vla {verb}\n\n```text\n{text}\n```" for verb, text in zip(VERBS, helps, strict=True)]
    return "\n\n".join([markdown, *sections])


def _help(verb: str) -> str:
    """What the verb prints; ``CalledProcessError`` where it cannot."""
    environment = os.environ | {"COLUMNS": str(_WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "configs.cli", verb, "--help"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=True)
    return found.stdout.rstrip()
