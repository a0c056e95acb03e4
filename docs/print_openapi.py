"""Print into docs/openapi the OpenAPI documents of both APIs, and the schemas of the messages of `/ws`: ``make docs``."""

from __future__ import annotations

import json
from pathlib import Path

from modvisor.supervisor.http.documents import documents
from modvisor.supervisor.http.websocket import frames

FOLDER = Path(__file__).with_name("openapi")

FOLDER.mkdir(exist_ok=True)
for name, document in {**documents(), "frames": frames.document()}.items():
    (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
