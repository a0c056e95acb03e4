"""What watches a network asks of it: does its loop turn, is it ready, and its figures for Prometheus.

The operator's API has these routes, and so has the agents' port. `/metrics` needs a token there, unless
`metrics.public` says otherwise (see `access.gate`).
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...ipc.errors import Code
from .. import metrics
from ..agents import Scope
from .content.as_json import to_json
from .requests.asked import Asked
from .requests.direct import Endpoint
from .routes.answers import Answer, SpecRoute, failure, get
from .routes.params import Spec
from .routes.schemas import TEXT, array_of, object_of
from .wire.protocol import HttpProtocol

if TYPE_CHECKING:
    from ..operations import Operations

METRICS = "/metrics"

INSTALL = (
    "this network has no prometheus_client, which writes the figures; install modvisor[metrics] and start it again"
)
_NOT_PUBLIC = (
    "the figures are for the operator: ask with a token, which 'modvisor token create NAME --scope read' makes, "
    "or set 'metrics.public: true'"
)

ALIVE = Spec("See whether the network's loop turns", object_of(success={"const": True}, status=TEXT))
READY = Spec(
    "See whether the network takes events and every required mod serves",
    object_of(success={"const": True}, status=TEXT, mods=array_of(object_of(mod_id=TEXT, state=TEXT))),
)
SCRAPE = Spec("See the figures as Prometheus reads them", TEXT, media_type="text/plain")

Written = tuple[bytes, str]


class Probes:
    """Answers probes and scrapes. One for all servers of a network: they share the newest answer."""

    def __init__(self, network: Operations) -> None:
        self._network = network
        self._scraping = anyio.Lock()
        self._written: dict[tuple[str, str | None], tuple[float, Written]] = {}  # by the form of the text, and the node

    def of_operator(self) -> list[SpecRoute]:
        """Return the routes as the operator's API has them."""
        return [
            get("/healthz", self.healthz, ALIVE, Scope.READ),
            get("/readyz", self.readyz, READY, Scope.READ),
            get(METRICS, self.metrics, SCRAPE, Scope.READ),
        ]

    def of_port(self) -> list[Route]:
        """Return the routes as the agents' port has them."""
        own = (("/healthz", self.healthz), ("/readyz", self.readyz), (METRICS, self.public_metrics))
        return [Route(path, endpoint, methods=["GET"], include_in_schema=False) for path, endpoint in own]

    def direct(self) -> dict[tuple[str, str], Endpoint]:
        """Return the endpoints that are answered without ASGI."""
        return {("GET", "/healthz"): self.healthz_directly, ("GET", "/readyz"): self.readyz_directly}

    def is_gated(self, path: str) -> bool:
        """Return whether a path of the port needs the token of an operator."""
        return path == METRICS and not self._network.config.metrics.public

    # -- probes

    async def healthz(self, request: Request) -> Response:
        return Answer(_ALIVE)

    async def healthz_directly(self, asked: Asked, body: bytes, http: HttpProtocol) -> bytes:
        return _ALIVE

    async def readyz(self, request: Request) -> Response:
        status, body = self._readiness()
        return Answer(body, status)

    async def readyz_directly(self, asked: Asked, body: bytes, http: HttpProtocol) -> tuple[int, bytes]:
        return self._readiness()

    def _readiness(self) -> tuple[int, bytes]:
        readiness = self._network.readiness()
        if readiness.is_ready:
            return 200, _READY
        return 503, to_json({"success": False, "status": "not ready", **readiness.to_dict()})

    # -- scrapes

    async def public_metrics(self, request: Request) -> Response:
        if self.is_gated(METRICS):  # there is no token at all, so the gate let it pass
            return failure(Code.FORBIDDEN, _NOT_PUBLIC)
        return await self.metrics(request)

    async def metrics(self, request: Request) -> Response:
        if find_spec("prometheus_client") is None:
            return failure(Code.NOT_FOUND, INSTALL)
        accept = request.headers.get("accept", "")
        async with self._scraping:
            form = "openmetrics" if "application/openmetrics-text" in accept else "text"
            text, media_type = await self._scraped(form, request.query_params.get("node"))
        return Response(text, headers={"content-type": media_type, "cache-control": "no-store"})

    async def _scraped(self, form: str, node: str | None) -> Written:
        """Return the figures; those of a moment ago, if the moment is short. Raises `ModvisorError` (no such node)."""
        at, written = self._written.get((form, node), (-1e9, None))
        if written is None or monotonic() - at >= self._network.config.metrics.cache:
            if (everywhere := self._network.look_everywhere(node)) is not None:
                written = await everywhere.metrics(_ACCEPT[form], node)
            else:
                figures = await self._network.figures()
                # In a thread, also because the first call imports prometheus_client, which takes 0.1 s.
                written = await anyio.to_thread.run_sync(partial(self._render, figures, _ACCEPT[form]))
            self._written[form, node] = monotonic(), written
        return written

    @staticmethod
    def _render(figures: metrics.Figures, accept: str) -> Written:
        return metrics.rendered(figures, accept)


_ALIVE = to_json({"success": True, "status": "alive"})
_READY = to_json({"success": True, "status": "ready", "mods": []})
_ACCEPT = {"openmetrics": "application/openmetrics-text; version=1.0.0", "text": "text/plain; version=0.0.4"}
