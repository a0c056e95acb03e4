"""docs/site: every page has its place in the navigation, and links out of docs/ lead to the repository."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

DOCS = Path(__file__).parents[2] / "docs"


def pages(nav: Any) -> Iterator[str]:
    for entry in nav:
        for place in entry.values():
            yield from [place] if isinstance(place, str) else pages(place)


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_page_stands_once_in_the_navigation() -> None:
    nav = yaml.safe_load((DOCS / "site" / "mkdocs.yml").read_text("utf-8"))["nav"]
    assert sorted(pages(nav)) == sorted(page.name for page in DOCS.glob("*.md"))


@pytest.mark.parametrize(
    ("link", "leads_to"),
    [
        ("[a](../README.md#a-mod)", "[a](https://github.com/modvisor/modvisor/blob/main/README.md#a-mod)"),
        ("[a](../deploy)", "[a](https://github.com/modvisor/modvisor/blob/main/deploy)"),
        ("[a](openapi)", "[a](https://github.com/modvisor/modvisor/blob/main/docs/openapi)"),
        ("[a](config.md#http)", "[a](config.md#http)"),
        ("[a](#http)", "[a](#http)"),
        ("[a](https://json-schema.org)", "[a](https://json-schema.org)"),
        ("[a](../nowhere.md)", "[a](../nowhere.md)"),
    ],
)
def test_a_link_out_of_the_docs_leads_to_the_repository(hooks: ModuleType, link: str, leads_to: str) -> None:
    page = SimpleNamespace(file=SimpleNamespace(abs_src_path=str(DOCS / "cli.md")))
    assert hooks.on_page_markdown(link, page=page) == leads_to


@pytest.mark.parametrize(
    ("html", "is_fetched"),
    [
        ('<img alt="x" src="https://example.org/x.png">', True),
        ('<script defer src="//example.org/x.js"></script>', True),
        ('<link rel="stylesheet" href="https://fonts.example.org/a.css">', True),
        ('<a href="https://example.org">', False),
        ('<link rel="canonical" href="https://example.org">', False),
        ('<img src="screenshots/light.png">', False),
    ],
)
def test_what_a_browser_would_fetch_from_elsewhere_is_found(hooks: ModuleType, html: str, is_fetched: bool) -> None:
    assert bool(hooks._FETCHED.findall(html)) is is_fetched


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    mkdocs = DOCS.parent / ".venv-docs" / "bin" / "mkdocs"
    if not mkdocs.exists():
        pytest.skip("what builds the site is not installed; make docs-site installs it")
    command = [
        mkdocs,
        "build",
        "--strict",
        "--config-file",
        DOCS / "site" / "mkdocs.yml",
        "--site-dir",
        tmp_path / "site",
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    assert {page.name for page in (tmp_path / "site").glob("*.html")} == {
        "404.html", *(page.with_suffix(".html").name for page in DOCS.glob("*.md"))
    }  # fmt: skip
