"""The JSON form of the service's requests and replies."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import polars as pl
from msgspec import Struct, json

from tidemill.core.model import Manifest
from tidemill.core.schema import ColumnType
from tidemill.data.keys import split_key_text, to_key_text
from tidemill.data.rows import RowReader
from tidemill.data.timestamps import parse_timestamp, to_timestamps
from tidemill.errors import DataError, InputError
from tidemill.serving.identity import read_keys
from tidemill.serving.service import PredictResult, Service

Row = dict[str, Any]
T = TypeVar("T")


class PredictRequest(Struct, frozen=True):
    """The rows of a request; or the keys of its entities, each with its features."""

    rows: list[Row] | None = None
    keys: list[Row] | None = None
    features: list[Row] | None = None


class LabelItem(Struct, frozen=True):
    """An outcome, by the id of its prediction, or by the key and the event time of its row.

    `known_at` is the time when the outcome became known; with an id, `time` means the same.
    """

    value: str | float | int | bool
    id: str = ""
    key: str | int | float | bool | Row = ""
    time: str | None = None
    known_at: str | None = None


class LabelRequest(Struct, frozen=True):
    """The labels of a request."""

    labels: list[LabelItem]


_LONGEST_ID = 200
_PREDICTION_ID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_ANY_COLUMNS = RowReader(())
_PREDICT = msgspec.json.Decoder(PredictRequest)
_LABELS = msgspec.json.Decoder(LabelRequest)
_SHAPE = 'send {"rows": [{…}]}, or {"keys": [{…}], "features": [{…}]}'


def parse_rows(body: bytes) -> list[Row]:
    """Return the rows of a request; raise `InputError` if its form is wrong."""
    request = _decode(_PREDICT, body, _SHAPE)
    if (request.rows is None) == (request.keys is None):
        raise InputError("the request needs either rows or keys", _SHAPE)
    if request.rows is not None:
        if request.features is not None:
            raise InputError("the request has features with rows; features belong to keys", _SHAPE)
        return request.rows
    keys, features = request.keys or [], request.features
    if features is None:
        return keys
    if len(features) != len(keys):
        raise InputError(
            f"the request has {len(keys)} keys and {len(features)} features", "send one of each for every row"
        )
    return [{**key, **feature} for key, feature in zip(keys, features, strict=True)]


def parse_labels(body: bytes) -> list[LabelItem]:
    """Return the labels of a request; raise `InputError` if its form is wrong."""
    shape = 'send {"labels": [{"id": "…", "value": …}]}, or "key" and "time" in place of the id'
    return _decode(_LABELS, body, shape).labels


def format_reply(result: PredictResult) -> dict[str, Any]:
    """Return the reply with the predictions; where several releases predicted, each prediction names its release."""
    rows, route = result.rows, result.route
    classes = {arm.label: arm.loaded.signature.classes for arm in route.arms}
    releases, tables = rows["release"].to_list(), rows["probability"].to_list()
    predictions: list[dict[str, Any]] = [
        {
            "id": name,
            "value": _as_label(value, route.manifest.signature.label),
            "probabilities": None if table is None else dict(zip(classes[release], table, strict=True)),
        }
        for name, value, release, table in zip(
            rows["id"].to_list(), rows["value"].to_list(), releases, tables, strict=True
        )
    ]
    main_release = route.arms[route.champion].label if len(set(releases)) > 1 else releases[0]
    if len(set(releases)) > 1:
        for prediction, release in zip(predictions, releases, strict=True):
            prediction["release"] = release
    reply: dict[str, Any] = {"model": route.route.model, "release": main_release, "predictions": predictions}
    return reply | {"warnings": result.warnings} if result.warnings else reply


def _as_label(value: str | float, kind: ColumnType) -> str | float | bool:
    """Return a class in the type of the label's column in the training rows."""
    if isinstance(value, str):
        if kind == "boolean":
            return value == "true"
        if kind in ("integer", "number"):
            return int(value) if value.lstrip("-").isdigit() else float(value)
    return value


def to_label_frame(items: Sequence[LabelItem], manifest: Manifest) -> pl.DataFrame:
    """Return labels as a frame for `Service.add_labels`.

    Raises
    ------
    DataError
        if a key lacks a column, a time cannot be read, or the values of a regression have several types; it names the
        label.
    """
    times = [_parse_time(index, "time", item.time) for index, item in enumerate(items)]
    known = [_parse_time(index, "known_at", item.known_at) for index, item in enumerate(items)]
    return _read_values(items, manifest).with_columns(
        pl.Series("id", [_read_id(index, item.id) for index, item in enumerate(items)], dtype=pl.String),
        pl.Series("key", [_format_key(index, item, manifest) for index, item in enumerate(items)], dtype=pl.String),
        to_timestamps("time", [None if item.id else time for item, time in zip(items, times, strict=True)]),
        to_timestamps(
            "known_at",
            [known_at or (time if item.id else None) for item, known_at, time in zip(items, known, times, strict=True)],
        ),
    )


def _read_values(items: Sequence[LabelItem], manifest: Manifest) -> pl.DataFrame:
    """Return the column `value`, for a classification as text: a class can be sent in another type than its own.

    The column `kind` is the type in which each was sent.
    """
    if manifest.signature.task == "regression":
        return _ANY_COLUMNS.read_json([{"value": item.value} for item in items], ("value",))
    texts = [item.value if isinstance(item.value, str) else json.encode(item.value).decode() for item in items]
    kinds = [_name_kind(item.value) for item in items]
    return pl.DataFrame({"value": pl.Series(texts, dtype=pl.String), "kind": pl.Series(kinds, dtype=pl.String)})


def _name_kind(value: object) -> str:
    if isinstance(value, bool):
        return "truth value"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else "other value"


def describe_readiness(service: Service) -> tuple[bool, dict[str, Any]]:
    """Return whether every model with a route is loaded and predictions are recorded, with each model's releases."""
    models: dict[str, Any] = {}
    for model, route in sorted(service.routes.items()):
        releases = [
            {"release": arm.label, "role": arm.role, "share": arm.arm.share}
            | ({route.route.key: arm.arm.value} if arm.role == "bound" else {})
            for arm in route.arms
        ]
        models[model] = {"route": route.route.version, "releases": releases}
    for model, failure in sorted(service.failures.items()):
        entry = models.setdefault(model, {"route": None, "releases": []})
        entry["failed"] = {"route": failure.route.version, "problem": failure.problem}
    for model in service.damaged_routes:
        problem = "its file on the board is damaged: it is published again from the ledger by `up`, or `doctor --mend`"
        models[model] = {"route": None, "releases": [], "failed": {"route": None, "problem": problem}}
    problem = service.journal_problem
    for model in sorted(service.loading):
        models.setdefault(model, {"route": None, "releases": []})["loading"] = True
    ready = bool(models) and all(entry["releases"] for entry in models.values()) and not problem
    return ready, {"ready": ready, "models": models} | ({"journal": problem} if problem else {})


def _decode(decoder: msgspec.json.Decoder[T], body: bytes, shape: str) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InputError(f"the request has an unexpected form: {error}", shape) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"the request is not valid JSON: {problem}", shape) from None


def _parse_time(index: int, name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_timestamp(text)
    except (ValueError, OverflowError):
        raise DataError(
            f"label {index}: {name} is {text[:60]!r}, which is not a time", "write times as 2013-01-31T12:00:00Z"
        ) from None


def list_label_warnings(labels: pl.DataFrame) -> list[str]:
    """Return a warning for the labels whose id cannot be that of a prediction: they are stored, and match nothing."""
    wrong = labels.with_row_index().filter((pl.col("id") != "") & ~pl.col("id").str.contains(_PREDICTION_ID))
    if wrong.is_empty():
        return []
    index, text = wrong.select("index", "id").row(0)
    more = f" (and {wrong.height - 1} more)" if wrong.height > 1 else ""
    problem = f"label {index}{more}: {text[:60]!r} is not the id of a prediction: it is stored and not used"
    return [f"{problem}; send the id from the reply to the request, or the key and the event time of the row"]


def _read_id(index: int, text: str) -> str:
    """Return the id of a label; that of a prediction in its usual form."""
    try:
        identifier = str(UUID(text)) if text else ""
    except ValueError:
        identifier = text
    if len(identifier) > _LONGEST_ID:
        raise DataError(
            f"label {index}: {text[:60]!r}… is not the id of a prediction", "send the id from the reply to the request"
        )
    return identifier


def _format_key(index: int, item: LabelItem, manifest: Manifest) -> str:
    key = item.key
    if item.id or key == "":
        return ""  # the id names the prediction
    if not manifest.key or not manifest.time:
        lacking = "key" if not manifest.key else "event time"
        raise DataError(
            f"label {index} has a key, but the rows of the model have no {lacking}, so that it would fit no prediction",
            "send the id of the prediction, which the reply to its request has",
        )
    if not isinstance(key, dict):
        text = key if isinstance(key, str) else to_key_text(pl.Series([key]))[0] or ""
        if (parts := len(split_key_text(text))) != len(manifest.key) > 1:
            raise DataError(
                f"label {index}: the key {text[:60]!r} has {parts} of {len(manifest.key)} values",
                f'send an object with {", ".join(manifest.key)}, or their values with "|" between them',
            )
        return text
    absent = [name for name in manifest.key if name not in key]
    if absent:
        raise DataError(
            f"label {index}: the key lacks {', '.join(map(repr, absent))}",
            f"the columns of the key are: {', '.join(manifest.key)}",
        )
    return read_keys(_ANY_COLUMNS.read_json([key], manifest.key), manifest.key)[0]
