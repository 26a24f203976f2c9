"""Roles: what the role of a token allows. A route names the roles that may use it."""

from collections.abc import Iterable
from typing import get_args

from tidemill.core.token import Role
from tidemill.errors import InputError

ROLES: tuple[Role, ...] = get_args(Role)
# A forged label or prediction can promote or roll back a model, so no other role includes `label` or `predict`.
_INCLUDED: dict[Role, frozenset[Role]] = {
    "developer": frozenset({"viewer", "push"}),
    "approver": frozenset({"viewer"}),
    "admin": frozenset(ROLES),
}

READ: frozenset[Role] = frozenset({"viewer"})
"""Pages, metrics and records."""
DESCRIBE: frozenset[Role] = frozenset({"viewer", "predict"})
"""The inputs of a model, with an example."""
PREDICT: frozenset[Role] = frozenset({"predict"})
LABEL: frozenset[Role] = frozenset({"label"})
DEVELOP: frozenset[Role] = frozenset({"developer"})
"""Registered models, accepted schemas and withdrawn batches."""
OPERATE: frozenset[Role] = frozenset({"developer", "approver"})
"""Paused triggers and frozen models."""
ADMINISTER: frozenset[Role] = frozenset({"admin"})
"""Tokens, and erased rows."""
DECIDE: frozenset[Role] = frozenset({"approver"})
"""Approvals, promotions and rollbacks."""


def expand_roles(roles: Iterable[Role]) -> frozenset[Role]:
    """Return the roles with those that they include.

    >>> sorted(expand_roles(["approver"]))
    ['approver', 'viewer']
    """
    return frozenset(role for given in roles for role in (given, *_INCLUDED.get(given, ())))


def parse_roles(names: Iterable[str]) -> tuple[Role, ...]:
    """Return roles by their names, in the order of `ROLES`; raise `InputError` for an unknown name, or without any."""
    given = set(names)
    if not given or given - {*ROLES}:
        unknown = ", ".join(map(repr, sorted(given - {*ROLES})))
        raise InputError(
            f"there is no role {unknown}" if unknown else "the token has no role",
            f"use one or more of: {', '.join(ROLES)}",
        )
    return tuple(role for role in ROLES if role in given)
