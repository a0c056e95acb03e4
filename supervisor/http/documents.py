"""The OpenAPI documents of the agents' and of the operator's API."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette

from ..config import parse_config
from ..operations import Operations
from .admin.app import admin_app
from .agents.api import agents_app
from .board.page import board_routes
from .routes.answers import SpecRoute
from .routes.openapi import document


def documents() -> dict[str, dict[str, Any]]:
    """Return both documents, by the names of their APIs."""
    # The routes do not depend on the network that they belong to.
    network = Operations(parse_config({"network": {"name": "any"}}, base_dir="/"))
    return {
        "agents": document(
            "modvisor: agents",
            "What agents ask of a network, on `network.port`. An event that failed is answered with status 200, too.",
            _routes(agents_app(network)),
        ),
        "operator": document(
            "modvisor: operator",
            "What the operator asks of a network, on the unix socket `run/admin.sock` in its storage folder, or on "
            "`network.port` with the header `Authorization: Bearer TOKEN`. The routes below `/board` are those of the page "
            "at `/` of that port.",
            [*_routes(admin_app(network)), *_routes(board_routes())],
        ),
    }


def _routes(app: Starlette) -> list[SpecRoute]:
    return [route for route in app.routes if isinstance(route, SpecRoute)]
