"""Model: code + weights + environment + signature, in one package."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, convert, field

from tidemill.core.feature import FeatureSet
from tidemill.core.schema import ColumnType

Task = Literal["classification", "regression"]


class Input(Struct, frozen=True, kw_only=True):
    """One input of a model: its name and type, and whether it may be missing."""

    name: str
    type: ColumnType
    nullable: bool = True


class Signature(Struct, frozen=True, kw_only=True):
    """What a model takes and gives; `classes` are in the order of its probabilities, `label` is the label's type."""

    inputs: tuple[Input, ...]
    task: Task
    classes: tuple[str, ...] = ()
    label: ColumnType = "text"

    @property
    def positive(self) -> str:
        """The class that precision, recall and ROC AUC are about: the second of two, else none."""
        return self.classes[1] if len(self.classes) == 2 else ""


class TrainedOn(Struct, frozen=True, kw_only=True):
    """The rows that a model was trained on: a version of a table, up to the time `trained_until`, in `iterations`.

    A package that was adopted from elsewhere names none of them.
    """

    table: str = ""
    version: int = -1
    trained_until: datetime | None = None
    iterations: int | None = None


class Manifest(Struct, frozen=True, kw_only=True):
    """What is said of a package: how to load it, what it takes, where it came from.

    `key` and `time` name the columns by which a row is known and its labels are matched. `intervals` are those of the
    metrics, where they have one.
    """

    name: str
    flavor: str
    signature: Signature
    features: FeatureSet | None = None
    key: tuple[str, ...] = ()
    time: str = ""
    environment: dict[str, str] = {}
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    data: dict[str, Any] = {}
    trusted: bool = True

    @property
    def trained_on(self) -> TrainedOn:
        return convert(self.data, TrainedOn)


class Model(Struct, frozen=True, kw_only=True):
    """A model package in memory.

    Attributes
    ----------
    manifest
        How to load it, its signature, its metrics and its origin.
    files
        The content of each file, by name.
    """

    manifest: Manifest
    files: dict[str, bytes] = field(default_factory=dict)
