"""Token: the right of a person or a program to use the service and the pages, in a role, until it expires."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

Role = Literal["viewer", "predict", "label", "push", "developer", "approver", "admin"]


class Token(Struct, frozen=True, kw_only=True):
    """A token of `owner`; only the digest of its secret is stored.

    Attributes
    ----------
    name
        A name for display, unique in the project.
    owner
        The person or the program that has it; it is the actor of its decisions.
    roles
        What it allows.
    digest
        The SHA-256 of its secret, which has 256 random bits.
    environments
        The environments in which it is accepted; empty means all.
    expires
        When it ends; None is never.
    revoked
        When a person revoked it; None if it is in force.
    """

    id: str
    name: str
    owner: str
    roles: tuple[Role, ...]
    digest: str
    created: datetime
    by: str
    environments: tuple[str, ...] = ()
    expires: datetime | None = None
    revoked: datetime | None = None


class TokenList(Struct, frozen=True):
    """All tokens of a project, as the board publishes them; a later list has a higher `version`."""

    version: int
    tokens: tuple[Token, ...]
