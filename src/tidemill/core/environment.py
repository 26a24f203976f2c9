"""Environment: where pipelines run and models answer; each has its own journal, cache and routes."""

from typing import Literal

from msgspec import Struct


class Environment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of `test`, `preproduction`, `production`, or a name of the team's own."""

    name: str = "production"
    kind: Literal["test", "preproduction", "production"] = "production"
