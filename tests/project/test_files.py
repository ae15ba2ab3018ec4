"""Every file that our code writes or reads as text is UTF-8, and its JSON holds no NaN."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("vla", "envs", "policies", "rl", "configs", "benchmarks", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def calls(path):
    """Name, arguments, keywords and line of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            yield ast.unparse(node.func), name, node.args, {word.arg for word in node.keywords}, node.lineno


def opens_text(full, name, args):
    """Whether a call is ``open`` for text; ``os.open``, ``av.open`` and our own ``open`` methods are none."""
    if name != "open" or full.split(".")[0] in ("os", "av", "Image", "DemonstrationWriter", "self", "studio"):
        return False
    mode = args[0 if "." in full else 1 :][:1]
    return not (mode and isinstance(mode[0], ast.Constant) and "b" in str(mode[0].value))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_text_has_an_encoding_and_json_is_strict(path):
    for full, name, args, keywords, line in calls(path):
        where = f"{path}:{line}: {full}"
        if full in ("json.dumps", "json.dump"):
            assert "allow_nan" in keywords, where
        elif name in ("read_text", "write_text") or opens_text(full, name, args):
            assert "encoding" in keywords, where
