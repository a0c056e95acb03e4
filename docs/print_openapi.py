"""Print the OpenAPI documents of both HTTP APIs into docs/openapi from their routes: ``make docs``."""

from __future__ import annotations

import json
from pathlib import Path

from modvisor.supervisor.http.documents import documents

FOLDER = Path(__file__).with_name("openapi")

FOLDER.mkdir(exist_ok=True)
for name, document in documents().items():
    (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
