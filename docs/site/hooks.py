"""What `make docs-site` does besides mkdocs.

Links out of docs/ lead to the repository, and a page that fetches from elsewhere is refused.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/modvisor/modvisor/blob/main"
_LINK = re.compile(r"\]\(([^)\s#:]+)(#[^)\s]*)?\)")
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\s\"'>]*"
    r"|<link\b(?=[^>]*rel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*href=[\"']?(?:https?:)?//[^\s\"'>]*",
    re.IGNORECASE,
)
logger = logging.getLogger("mkdocs.hooks.modvisor")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Lead each link to what is no page of the site to the repository."""
    return _LINK.sub(lambda found: _link(found, Path(page.file.abs_src_path).parent), markdown)


def _link(found: re.Match[str], folder: Path) -> str:
    target = (folder / found[1]).resolve()
    if not target.exists() or not target.is_relative_to(ROOT) or _is_of_the_site(target):
        return found[0]
    return f"]({REPOSITORY}/{target.relative_to(ROOT)}{found[2] or ''})"


def _is_of_the_site(target: Path) -> bool:
    return target.is_relative_to(ROOT / "docs") and target.suffix in (".md", ".png", ".svg", ".json")


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Warn of each file that a reader's browser would fetch from elsewhere: a warning ends the build."""
    for fetched in _FETCHED.findall(output):
        logger.warning("%s would fetch something from elsewhere: %s", page.file.src_uri, fetched)
    return output
