"""Documents, shared artifacts, the shared cache, and the default workspace."""

from __future__ import annotations

import base64

from .steps import Kept, Send, Step

_PNG = base64.b64encode(bytes(range(256))).decode()
_DOCUMENT = {"document_id": Kept("document")}

DOCUMENTS: list[Step] = [
    Send(
        "alice",
        "document.create",
        {"document_name": "Plan", "initial_content": "one\ntwo"},
        keep={"document": "document_id"},
    ),
    Send(
        "alice",
        "document.create",
        {"document_name": "Hidden", "access_permissions": {"alice": "admin", "carol": "read_only"}},
        keep={"hidden": "document_id"},
    ),
    Send("bob", "document.get", _DOCUMENT),
    Send("bob", "document.get", {"document_id": "none"}),
    Send("carol", "document.get", _DOCUMENT),
    Send(
        "bob",
        "document.edit",
        {
            **_DOCUMENT,
            "operation": {"type": "insert", "line": 1, "column": 3, "text": " and a half"},
            "cursor": {"line": 1, "column": 14},
        },
    ),
    Send("bob", "document.edit", {"document_id": "none"}),
    Send("bob", "document.update_cursor", {**_DOCUMENT, "line": 2, "column": 0}),
    Send("bob", "document.cursor_update", {**_DOCUMENT, "position": {"lineNumber": 1, "column": 1}}),
    Send("bob", "document.yjs_sync", {"document_id": Kept("hidden")}),
    Send("bob", "document.yjs_update", {**_DOCUMENT, "update": [0, 0]}),
    Send("carol", "document.save", {**_DOCUMENT, "content": "three"}),
    Send("carol", "document.save", {"document_id": Kept("hidden"), "content": "not so hidden"}),
    Send("alice", "document.rename", {**_DOCUMENT, "new_name": "The plan"}),
    Send("alice", "document.get_history", {**_DOCUMENT, "limit": 3, "offset": 1}),
    Send("bob", "document.leave", _DOCUMENT),
    Send("bob", "document.list", {}),
    Send("alice", "document.get", _DOCUMENT),
]

ARTIFACTS: list[Step] = [
    Send(
        "alice",
        "shared_artifact.create",
        {"name": "notes", "content": "plain words"},
        keep={"artifact": "artifact_id"},
    ),
    Send(
        "alice",
        "shared_artifact.create",
        {"name": "dot.png", "content": _PNG, "mime_type": "image/png", "allowed_agent_groups": ["developers", "admin"]},
        keep={"image": "artifact_id"},
    ),
    Send("alice", "shared_artifact.create", {"name": "empty"}),
    Send("bob", "shared_artifact.get", {"artifact_id": Kept("artifact")}),
    Send("bob", "shared_artifact.get", {"artifact_id": Kept("image")}),  # not in its groups
    Send("carol", "shared_artifact.get", {"artifact_id": Kept("image")}),
    Send("bob", "shared_artifact.get", {}),
    Send("bob", "shared_artifact.update", {"artifact_id": Kept("artifact"), "content": "other words"}),
    Send("bob", "shared_artifact.update", {"artifact_id": Kept("image"), "content": _PNG}),
    Send("alice", "shared_artifact.list", {"mime_type": "image/png"}),
    Send("bob", "shared_artifact.list", {}),
    Send("carol", "shared_artifact.delete", {"artifact_id": Kept("image")}),
    Send("carol", "shared_artifact.delete", {"artifact_id": Kept("image")}),
]

CACHE: list[Step] = [
    Send("alice", "shared_cache.create", {"value": "v1"}, keep={"entry": "cache_id"}),
    Send(
        "alice",
        "shared_cache.create",
        {"value": {"not": "text"}, "allowed_agent_groups": ["admin"]},
        keep={"inner": "cache_id"},
    ),
    Send("alice", "shared_cache.create", {}),
    Send("bob", "shared_cache.get", {"cache_id": Kept("entry")}),
    Send("bob", "shared_cache.get", {"cache_id": Kept("inner")}),
    Send("carol", "shared_cache.get", {"cache_id": Kept("inner")}),
    Send("bob", "shared_cache.update", {"cache_id": Kept("entry"), "value": "v2"}),
    Send("bob", "shared_cache.update", {"cache_id": "none", "value": "v2"}),
    Send(
        "alice",
        "shared_cache.file.upload",
        {"file_data": _PNG, "filename": "../../dot.png", "mime_type": "image/png"},
        keep={"upload": "cache_id"},
    ),
    Send("alice", "shared_cache.file.upload", {"file_data": "not base64!", "filename": "x"}),
    Send("bob", "shared_cache.file.download", {"cache_id": Kept("upload")}),
    Send("bob", "shared_cache.file.download", {"cache_id": Kept("entry")}),
    Send("bob", "shared_cache.delete", {"cache_id": Kept("entry")}),
    Send("bob", "shared_cache.get", {"cache_id": Kept("entry")}),
]

STEPS = DOCUMENTS + ARTIFACTS + CACHE
