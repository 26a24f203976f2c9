"""Environment: where pipelines run and models serve; each has its own journal, cache and routes."""

from typing import Literal

from msgspec import Struct


class Environment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An environment, such as `test`, `preproduction` or `production`.

    Attributes
    ----------
    name
        The name.
    kind
        The kind.
    """

    name: str = "production"
    kind: Literal["test", "preproduction", "production"] = "production"
