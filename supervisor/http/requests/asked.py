"""What a request says besides its body, the same for each way on which it came. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from ...config import HttpConfig
from ..door.clients import IPAddress, client_address
from ..door.connection import Connection, connection_of


@dataclass(slots=True)
class Asked:
    """A request to the agents' API.

    Attributes:
        headers: by name in lower case.
        connection: None if no server of ours took the request.
        address: the machine that it comes from; None for the unix socket.
    """

    headers: Mapping[str, str]
    query_params: Mapping[str, str]
    connection: Connection | None
    address: IPAddress | None

    @classmethod
    def by(cls, request: Request, http: HttpConfig) -> Asked:
        address = client_address(request.scope, http)
        return cls(request.headers, request.query_params, connection_of(request), address)
