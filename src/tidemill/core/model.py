"""Model: code + weights + environment + signature, in one package."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, convert, field

from tidemill.core.feature import FeatureSet
from tidemill.core.schema import Column, ColumnType

PredictionTask = Literal["classification", "regression"]


class Input(Struct, frozen=True, kw_only=True):
    """One input of a model: its name and type, and whether it may be missing."""

    name: str
    type: ColumnType
    nullable: bool = True


class Signature(Struct, frozen=True, kw_only=True):
    """A model's inputs and outputs; `classes` are in the order of the probabilities, `label` is the label's type."""

    inputs: tuple[Input, ...]
    task: PredictionTask
    classes: tuple[str, ...] = ()
    label: ColumnType = "text"

    @property
    def positive(self) -> str:
        """Return the class of precision, recall and ROC AUC: the second of two classes, otherwise empty."""
        return self.classes[1] if len(self.classes) == 2 else ""


class TrainedOn(Struct, frozen=True, kw_only=True):
    """The `rows` that a model was trained on: of a version of a table, between two times, in `iterations`.

    All fields are empty for an adopted package, which was trained outside Tidemill.
    """

    table: str = ""
    version: int = -1
    rows: int = 0
    trained_from: datetime | None = None
    trained_until: datetime | None = None
    iterations: int | None = None


class Manifest(Struct, frozen=True, kw_only=True):
    """The description of a package: how to load it, its signature and its origin.

    `key` and `time` name the columns that identify a row and match its label. `intervals` are the confidence intervals
    of the metrics that have one. `columns` are those of the source's schema when the model was trained; a package that
    was trained outside Tidemill has none. `spellings` are other spellings of the classes.
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
    columns: tuple[Column, ...] = ()
    spellings: dict[str, str] = {}
    trusted: bool = True

    @property
    def trained_on(self) -> TrainedOn:
        """Return the rows that the model was trained on."""
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
