"""The documentation as a site: every page is in it, every link leads somewhere, and the reference is the code's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from configs.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]


def built(source, into):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", source, "--site-dir", into],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = built(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_every_page_and_fetches_nothing(site):
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert pages
    for page in pages:
        place = page.parent if page.name == "index.md" else page.with_suffix("")
        text = (site / place / "index.html").read_text(encoding="utf-8")
        fetched = re.findall(
            r"<(?:script|img|source)[^>]*src=\"(https?:[^\"]+)|<link[^>]*stylesheet[^>]*href=\"(https?:[^\"]+)", text
        )
        assert not fetched, f"{page} fetches {fetched}"


@pytest.mark.slow
def test_the_reference_says_what_the_code_says(site):
    command_line = (site / "reference/command-line/index.html").read_text(encoding="utf-8")
    for verb in VERBS:
        assert f'id="vla-{verb}"' in command_line
    assert "--replan-interval" in command_line
    policies = (site / "reference/policies/index.html").read_text(encoding="utf-8")
    assert 'id="policies.policy.ChunkPolicy.predict_chunk"' in policies
    assert ":class:" not in policies and ":meth:" not in policies


@pytest.mark.slow
def test_a_link_that_leads_nowhere_is_an_error(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Here\n\n[there](there.md#anchor)\n", encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings = re.sub(r"^nav:\n(?:  .*\n)+", "", settings, flags=re.MULTILINE)
    settings = re.sub(r"^hooks: .*\n", "", settings, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    done = built(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0 and "there.md" in done.stderr
