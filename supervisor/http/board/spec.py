"""What the page's own requests take and answer."""

from __future__ import annotations

from ..routes.params import Spec, body_of, key_text
from ..routes.schemas import ANYTHING, TEXT, object_of

_NUMBER = {"type": "number"}
_FLAG = {"type": "boolean"}

_LOGGED_IN = object_of(
    success=_FLAG,
    message=TEXT,
    data=object_of(
        who=TEXT, scope=TEXT, payloads=_FLAG, csrf=TEXT, expires_at=_NUMBER, network=TEXT, version=TEXT
    ),
)  # fmt: skip
TOKEN = key_text("token", "an operator's token")
LINK = key_text("link", "the code of a link of `modvisor open`")
LOGIN = Spec("Log in to the dashboard: the answer sets a cookie", _LOGGED_IN, body=body_of(TOKEN, LINK))
SESSION = Spec("See who is logged in", _LOGGED_IN)
LOGOUT = Spec("Log out", object_of(success=_FLAG, message=TEXT, data=ANYTHING))
