"""What the network file says of the dashboard, the page at `/` of the HTTP port."""

from __future__ import annotations

from dataclasses import dataclass

from ..values.basic import duration, flag, whole
from ..values.keys import key


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """The operator's page. Times in seconds."""

    enabled: bool = key(
        True, flag, "true: the HTTP port serves the page at `/`, and operators log in there; false: there is no page"
    )
    session: float = key(
        12 * 3600.0, duration(), "how long an operator stays logged in without a request; never longer than the token"
    )
    sessions: int = key(
        100, whole(1), "operators who are logged in at once; one more logs out whoever was away for the longest time"
    )
    link_age: float = key(60.0, duration(), "how long the link of `modvisor open` can be used, once")
    live_streams: int = key(
        32, whole(1), "how many may follow `GET /admin/v1/live` at once: pages, and programs such as `modvisor top`"
    )
    ways: int = key(
        1000,
        whole(0),
        "events whose way through the mods is kept, the newest ones, while somebody watches events or the picture of "
        "the network; 0: none",
    )
