"""Sessions of the pages: a cookie stands for a token, as long as the token is valid and this process runs."""

import secrets
from collections import OrderedDict
from hashlib import sha256

from msgspec import Struct

from tidemill.clock import Clock

_MAX_SESSIONS = 1_000
_SECONDS = 12 * 3600.0


class WebSession(Struct, frozen=True):
    """A person who logged in: the digest of the token, the value that forms must send, and the end (monotonic)."""

    digest: str
    csrf: str
    end: float


class Sessions:
    """The sessions of this process, by the digest of their cookie; the oldest ends when there are too many."""

    def __init__(self, clock: Clock, *, secure: bool) -> None:
        self._clock = clock
        self._sessions: OrderedDict[bytes, WebSession] = OrderedDict()
        self._secure = secure
        # Cookies do not differ by port: two servers on one host must not replace the cookie of the other.
        name = f"tidemill-{secrets.token_hex(4)}"
        self.cookie = f"__Host-{name}" if secure else name

    def start(self, digest: str) -> str:
        """Start a session for the token with a digest; return the header of its cookie."""
        value = secrets.token_urlsafe(32)
        while len(self._sessions) >= _MAX_SESSIONS:
            self._sessions.popitem(last=False)
        end = self._clock.monotonic() + _SECONDS
        self._sessions[self._key(value)] = WebSession(digest, secrets.token_urlsafe(32), end)
        return self._header(value)

    def find(self, cookies: str) -> WebSession | None:
        """Return the session of a request's header Cookie; None if there is none, or it has ended."""
        key = self._key(self._read(cookies))
        session = self._sessions.get(key)
        if session is None or session.end <= self._clock.monotonic():
            self._sessions.pop(key, None)
            return None
        return session

    def end(self, cookies: str) -> str:
        """End the session of a request; return the header that deletes its cookie."""
        self._sessions.pop(self._key(self._read(cookies)), None)
        return self._header("", "; Max-Age=0")

    def _header(self, value: str, end: str = "") -> str:
        # On loopback without TLS some browsers refuse cookies with Secure.
        secure = "; Secure" if self._secure else ""
        return f"{self.cookie}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{end}"

    def _read(self, cookies: str) -> str:
        name = f"{self.cookie}="
        parts = (part.strip() for part in cookies.split(";"))
        return next((part.removeprefix(name) for part in parts if part.startswith(name)), "")

    def _key(self, value: str) -> bytes:
        return sha256(value.encode()).digest()
