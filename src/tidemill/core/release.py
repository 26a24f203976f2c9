"""Release: a numbered version of a model that passed the gate."""

from datetime import datetime
from typing import Any

from msgspec import Struct, convert

from tidemill.core.model import TrainedOn


class Release(Struct, frozen=True, kw_only=True):
    """Version `version` of the model `name`: the package's digest, the run that trained it, and its metrics.

    The verdicts of that run show why the gate approved it. `signature` is the digest of the package's signature, empty
    if it is not signed.
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
    signature: str = ""

    @property
    def trained_on(self) -> TrainedOn:
        """Return the rows that the model was trained on."""
        return convert(self.data, TrainedOn)

    @property
    def label(self) -> str:
        """Return the name for display, such as `late/3`."""
        return f"{self.name}/{self.version}"
