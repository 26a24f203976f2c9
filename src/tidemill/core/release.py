"""Release: a version of a model under a name, with the verdicts that let it through."""

from datetime import datetime
from typing import Any

from msgspec import Struct, convert

from tidemill.core.model import TrainedOn


class Release(Struct, frozen=True, kw_only=True):
    """Version `version` of `name`: the package's digest, the run that made it, where it lives and what it scored.

    The verdicts that let it through are those of its run.
    """

    id: str
    name: str
    version: int
    package: str
    flavor: str
    environment: str
    created: datetime
    run: str = ""
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    data: dict[str, Any] = {}

    @property
    def trained_on(self) -> TrainedOn:
        return convert(self.data, TrainedOn)

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"
