"""Access control of the service and of the pages: which token a request has, and whether its roles allow it."""

import math
from collections.abc import Set
from hashlib import sha256

from msgspec import Struct

from tidemill.access.roles import expand_roles
from tidemill.access.tokens import digest_secret, require_valid
from tidemill.clock import Clock
from tidemill.core.resources import Board
from tidemill.core.token import Role, Token, TokenList
from tidemill.errors import AccessDenied

_SCHEME = b"bearer "
_MISSING = "send the header `Authorization: Bearer TOKEN`; create a token: `tidemill tokens create NAME --role ROLE`"


class Grant(Struct, frozen=True):
    """A token with all roles that it includes."""

    token: Token
    roles: frozenset[Role]


class AccessControl:
    """Checks the tokens of an environment's board; `refresh` reads those that changed.

    Access is open, so that no request needs a token, while no token was ever created, unless tokens are `required`.
    A secret is found by its SHA-256 in a dict: the time that this takes depends on the digest and not on the secret,
    so it reveals nothing about a token.
    """

    def __init__(self, board: Board, clock: Clock, environment: str, *, required: bool = False) -> None:
        self._board, self.clock, self._environment = board, clock, environment
        self._required = required
        self._published: TokenList | None = None
        self._grants: dict[bytes, Grant] = {}
        self._temporary: dict[bytes, Grant] = {}
        self._refreshed = -math.inf
        self._is_unknown = False

    @property
    def is_open(self) -> bool:
        """Return whether requests need no token."""
        return not self._required and not self._is_unknown and self._published is None

    @property
    def has_tokens(self) -> bool:
        """Return whether a token was ever created."""
        return self._published is not None

    def refresh_if_due(self, seconds: float = 0.3) -> None:
        """Read the published tokens if the last time is so many seconds ago."""
        if self.clock.monotonic() - self._refreshed >= seconds:
            self.refresh()

    def refresh(self) -> None:
        """Read the published tokens.

        After an error the earlier tokens stay in force. If they were never read, all requests are refused until then.
        """
        first = math.isinf(self._refreshed)
        self._refreshed = self.clock.monotonic()
        try:
            published = self._board.tokens()
        except Exception:
            self._is_unknown = self._is_unknown or first
            raise
        self._is_unknown = False
        if published is None or published == self._published:
            return
        self._grants = {
            bytes.fromhex(token.digest): Grant(token, expand_roles(token.roles)) for token in published.tokens
        }
        self._published = published

    def admit(self, authorization: bytes | None, allowed: Set[Role]) -> Grant | None:
        """Return the grant of a request with this header; None if access is open.

        Raises
        ------
        AccessDenied
            if the token is missing, unknown, revoked or expired (401), or is not for this environment or has none of
            the `allowed` roles (403).
        """
        if self.is_open:
            return None
        if not authorization:
            raise AccessDenied("the request has no token", _MISSING)
        if authorization[:7].lower() != _SCHEME:
            raise AccessDenied("the header Authorization has no bearer token", _MISSING)
        return self.require(self.find(authorization[7:].strip()), allowed)

    def admit_secret(self, secret: str, name: str, roles: tuple[Role, ...]) -> None:
        """Also accept a secret that only this process and its deployer know, until `forget_secrets` is called."""
        now = self.clock.now()
        token = Token(id="", name=name, owner=name, roles=roles, digest=digest_secret(secret), created=now, by=name)
        self._temporary[bytes.fromhex(token.digest)] = Grant(token, expand_roles(roles))

    def forget_secrets(self) -> None:
        """Accept only published tokens."""
        self._temporary = {}

    def find(self, secret: bytes) -> Grant | None:
        """Return the grant of a secret, valid or not; None if no token has it."""
        digest = sha256(secret).digest()
        return self._grants.get(digest) or self._temporary.get(digest)

    def find_again(self, digest: str) -> Grant | None:
        """Return the grant of the token with a digest, as it is published now."""
        return self._grants.get(bytes.fromhex(digest))

    def require(self, found: Grant | None, allowed: Set[Role]) -> Grant:
        """Return a valid grant with one of the `allowed` roles; raise `AccessDenied` otherwise."""
        token = require_valid(found.token if found else None, self.clock.now(), self._environment)
        assert found is not None
        if found.roles.isdisjoint(allowed):
            roles = ", ".join(token.roles)
            raise AccessDenied(
                f"the token {token.name!r} has the role {roles}, which does not allow this request",
                f"use a token with the role {' or '.join(sorted(allowed))}",
                403,
            )
        return found
