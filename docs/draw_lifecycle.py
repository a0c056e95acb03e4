"""Draw the table of `modvisor.supervisor.lifecycle.states` into docs/lifecycle.md: ``make diagram``."""

from __future__ import annotations

import re
from pathlib import Path

from modvisor.supervisor.lifecycle.states import diagram

PAGE = Path(__file__).with_name("lifecycle.md")

text = PAGE.read_text()
drawn = re.sub(r"(?<=```mermaid\n).*?(?=\n```)", lambda _: diagram(), text, flags=re.DOTALL)
if drawn != text:
    PAGE.write_text(drawn)
