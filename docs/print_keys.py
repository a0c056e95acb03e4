"""Print the tables of keys into docs/config.md from the fields that hold them: ``make docs``."""

from __future__ import annotations

from pathlib import Path

from modvisor.supervisor.config.reference import printed

PAGE = Path(__file__).with_name("config.md")

text = PAGE.read_text("utf-8")
if (page := printed(text)) != text:
    PAGE.write_text(page, "utf-8")
