"""Protects the pages: only GET and forms, only accepted host names, and a strict content security policy."""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
App = Callable[[AsgiMessage, Receive, Send], Awaitable[None]]

_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
# plotly.js writes style attributes; scripts come only from the two files of these pages.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    # Not no-referrer: with it, browsers do not send the origin of a form.
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class Guard:
    """Wraps an ASGI application, and refuses requests for other host names.

    A foreign page could point its host name to this machine (DNS rebinding) and then read these pages. `hosts` are
    accepted besides localhost; None accepts every name, for a server at which each request needs a token: a token and a
    cookie are never sent to a foreign name.
    """

    def __init__(self, app: App, hosts: Collection[str] | None = ()) -> None:
        self._app = app
        self._hosts = None if hosts is None else _LOCAL | {host.lower() for host in hosts}

    async def __call__(self, scope: AsgiMessage, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._is_accepted_host(scope):
            await _refuse(send, 400, "this host name is not accepted: use localhost")
            return
        if scope["method"] not in ("GET", "HEAD", "POST"):
            await _refuse(send, 405, "these pages accept only GET, and POST for forms")
            return

        async def send_with_headers(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in _HEADERS.items() if name not in present),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _is_accepted_host(self, scope: AsgiMessage) -> bool:
        hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        return len(hosts) == 1 and (self._hosts is None or _strip_port(hosts[0]) in self._hosts)


def _strip_port(host: str) -> str:
    """Return a Host header without its port.

    >>> _strip_port("[::1]:8000"), _strip_port("localhost:8000"), _strip_port("localhost")
    ('[::1]', 'localhost', 'localhost')
    """
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


async def _refuse(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS.items()]
    if status == 405:
        headers.append((b"allow", b"GET, HEAD, POST"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode() + b"\n"})
