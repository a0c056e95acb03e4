"""Print what is made of the fields that hold the keys: the tables of docs/config.md, and docs/schema. ``make docs``."""

from __future__ import annotations

from pathlib import Path

from modvisor.supervisor.config import schema_text
from modvisor.supervisor.config.printed.reference import printed

DOCS = Path(__file__).parent


def update(page: Path, text: str) -> None:
    if not page.exists() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")


update(DOCS / "config.md", printed((DOCS / "config.md").read_text("utf-8")))
(DOCS / "schema").mkdir(exist_ok=True)
for kind in ("network", "mod"):
    update(DOCS / "schema" / f"{kind}.json", schema_text(kind))
