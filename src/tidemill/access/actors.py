"""Actors: who runs a command. The owner of the given token, or the login name of the real user of the process."""

import os
import pwd
from collections.abc import Set
from typing import Any

from msgspec import Struct

from tidemill.access.roles import expand_roles
from tidemill.access.tokens import digest_secret, require_valid
from tidemill.clock import Clock
from tidemill.core.audit import POLICY
from tidemill.core.resources import BooksReader
from tidemill.core.token import Role
from tidemill.errors import AccessDenied


class Actor(Struct, frozen=True):
    """Who decides: the name for the audit log, and how it was authenticated."""

    name: str
    detail: dict[str, Any] = {}


def find_actor(
    books: BooksReader, clock: Clock, environment: str, secret: str, allowed: Set[Role] = frozenset()
) -> Actor:
    """Return the owner of the token with a secret; without a secret, the user of this process.

    Raises
    ------
    AccessDenied
        if the token is not valid in this environment, or has none of the `allowed` roles (empty: any role).
    """
    if not secret:
        return Actor(find_login_name(), {"uid": os.getuid()})
    found = books.tokens.find(digest=digest_secret(secret.strip()), limit=1)
    token = require_valid(found[0] if found else None, clock.now(), environment)
    if allowed and expand_roles(token.roles).isdisjoint(allowed):
        raise AccessDenied(
            f"the token {token.name!r} has the role {', '.join(token.roles)}, which does not allow this",
            f"use a token with the role {' or '.join(sorted(allowed))}",
            403,
        )
    return Actor(token.owner, {"token": token.name})


def find_login_name() -> str:
    """Return the login name of the real user id, not of a variable that anyone can set; the number without a name."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"
    return f"user {name}" if name == POLICY else name
