"""A hook of mkdocs: Sphinx's roles in docstrings, such as ``:class:`` before a name, are not shown on pages."""

import re
from typing import Any

_ROLE = re.compile(r":(?:class|meth|func|attr|mod|data):(?=<code>)")


def on_page_content(html: str, **_: Any) -> str:
    """``html`` with the names alone."""
    return _ROLE.sub("", html)
