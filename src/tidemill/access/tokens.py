"""Tokens: created with a secret that is shown once, stored by the digest of the secret, and published on the boards."""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.audit import POLICY
from tidemill.core.resources import Board, Books, BooksReader
from tidemill.core.token import Role, Token, TokenList
from tidemill.errors import AccessDenied, Conflict, InputError, NotFound
from tidemill.ledger.decisions import Decision, record_decision

PREFIX = "tm_"
_BYTES = 32
_NAME = re.compile(r"[\w.@-]{1,100}")
_CREATE = "create one: `tidemill tokens create NAME --role ROLE`"


def create_secret() -> str:
    """Return a new secret: 256 random bits."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(_BYTES)).rstrip(b"=").decode()


def digest_secret(secret: str | bytes) -> str:
    """Return the digest under which a token is stored; the secret is random, so no salt is needed."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()


def create_token(
    books: Books,
    clock: Clock,
    *,
    name: str,
    owner: str,
    roles: tuple[Role, ...],
    by: str,
    environments: Sequence[str] = (),
    lifetime: timedelta | None = None,
) -> tuple[Token, str]:
    """Create a token and write it to the audit log; return it with its secret, which is stored nowhere.

    Raises
    ------
    InputError
        if the name or the owner cannot be used, another token has the name, or the lifetime is not positive.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be the name of a token", "use up to 100 letters, digits, and . _ @ -")
    if not owner.strip() or any(not character.isprintable() for character in owner):
        raise InputError(f"{owner!r} cannot be the owner of a token", "use the name of a person or a program")
    if owner.strip().casefold() == POLICY:
        raise InputError(f"{owner!r} cannot be the owner of a token: it is the actor of the policy", "use another name")
    if lifetime is not None and lifetime <= timedelta():
        raise InputError("the token would expire at once", "set a longer time: --expires 90d")
    secret = create_secret()
    token = Token(
        id=clock.mint(),
        name=name,
        owner=owner,
        roles=roles,
        digest=digest_secret(secret),
        created=clock.now(),
        by=by,
        environments=tuple(dict.fromkeys(environments)),
        expires=_add(clock.now(), lifetime),
    )
    try:
        with books.transaction(durable=True):
            books.tokens.add(token)
            _record(books, clock, token, "created", by, f"for {owner}, with the role {', '.join(roles)}")
    except Conflict:
        raise InputError(
            f"there is a token {name!r} already", "use another name; list them: `tidemill tokens list`"
        ) from None
    return token, secret


def _add(now: datetime, lifetime: timedelta | None) -> datetime | None:
    try:
        return None if lifetime is None else now + lifetime
    except OverflowError:
        raise InputError("the time of the token is too long", "use a shorter time, or --expires never") from None


def find_token(books: BooksReader, name: str) -> Token:
    """Return the token with a name, or with an id; raise `NotFound` if there is none."""
    found = books.tokens.find(name=name, limit=1)
    try:
        return found[0] if found else books.tokens.get(name)
    except NotFound:
        raise NotFound(f"there is no token {name!r}", "list them: `tidemill tokens list`") from None


def revoke_token(books: Books, clock: Clock, name: str, *, by: str, reason: str) -> Token:
    """Revoke a token and write it to the audit log; return it as it was if it is revoked already.

    Raises
    ------
    InputError
        if there is no reason.
    """
    token, now = find_token(books, name), clock.now()
    if token.revoked is not None:
        return token
    with books.transaction(durable=True):
        revoked = books.tokens.change(token.id, lambda current: replace(current, revoked=current.revoked or now))
        _record(books, clock, token, "revoked", by, reason)
    return revoked


def publish_tokens(books: BooksReader, boards: Iterable[Board]) -> TokenList | None:
    """Publish the tokens of the ledger on boards; return them, or None if no token was ever created.

    A token is never deleted and is revoked once, so the number of both changes is the version of the list.
    """
    tokens = tuple(books.tokens.find())
    if not tokens:
        return None
    published = TokenList(len(tokens) + sum(token.revoked is not None for token in tokens), tokens)
    for board in boards:
        board.publish_tokens(published)
    return published


def require_valid(token: Token | None, now: datetime, environment: str) -> Token:
    """Return the token; raise `AccessDenied` if it is unknown, revoked, expired, or not for the environment."""
    if token is None:
        raise AccessDenied("the token is not known", _CREATE)
    if token.revoked is not None:
        raise AccessDenied(f"the token {token.name!r} was revoked", _CREATE)
    if token.expires is not None and token.expires <= now:
        raise AccessDenied(f"the token {token.name!r} expired at {token.expires:%Y-%m-%d %H:%M} UTC", _CREATE)
    if token.environments and environment not in token.environments:
        allowed = ", ".join(token.environments)
        raise AccessDenied(
            f"the token {token.name!r} is not accepted in the environment {environment!r}",
            f"use it in {allowed}, or {_CREATE}",
            403,
        )
    return token


def _record(books: Books, clock: Clock, token: Token, action: str, actor: str, reason: str) -> None:
    detail = {
        "id": token.id,
        "owner": token.owner,
        "roles": list(token.roles),
        "expires": token.expires.isoformat(timespec="seconds") if token.expires else "never",
    }
    decision = Decision(action=action, subject=f"token/{token.name}", reason=reason, detail=detail)
    record_decision(books, clock, decision, actor=actor, environment=", ".join(token.environments) or "all")
