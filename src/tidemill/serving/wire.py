"""What requests and replies of the service look like as JSON."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import polars as pl
from msgspec import Struct

from tidemill.core.model import Manifest
from tidemill.core.schema import ColumnType
from tidemill.data.moments import moment, moments
from tidemill.data.rows import RowReader
from tidemill.errors import DataError, InputError
from tidemill.serving.asked import keys_of
from tidemill.serving.service import Answered, Service

Row = dict[str, Any]
T = TypeVar("T")


class PredictRequest(Struct, frozen=True):
    """Rows; or keys of entities, each with the features that come with the request."""

    rows: list[Row] | None = None
    keys: list[Row] | None = None
    features: list[Row] | None = None


class LabelItem(Struct, frozen=True):
    """An outcome, by the id of its prediction, or by the key and the event time of its row.

    With an id, `time` is when the outcome became known, which `known_at` says for both.
    """

    value: str | float | int | bool
    id: str = ""
    key: str | Row = ""
    time: str | None = None
    known_at: str | None = None


class LabelRequest(Struct, frozen=True):
    """Outcomes."""

    labels: list[LabelItem]


_ANY = RowReader(())
_PREDICT = msgspec.json.Decoder(PredictRequest)
_LABELS = msgspec.json.Decoder(LabelRequest)
_SHAPE = 'send {"rows": [{…}]}, or {"keys": [{…}], "features": [{…}]}'


def rows_of(body: bytes) -> list[Row]:
    """The rows of a request; raises `InputError` where it has no such shape."""
    request = _decoded(_PREDICT, body, _SHAPE)
    if (request.rows is None) == (request.keys is None):
        raise InputError("the request needs either rows or keys", _SHAPE)
    if request.rows is not None:
        if request.features is not None:
            raise InputError("features go with keys, not with rows", _SHAPE)
        return request.rows
    keys, features = request.keys or [], request.features
    if features is None:
        return keys
    if len(features) != len(keys):
        raise InputError(f"there are {len(keys)} keys and {len(features)} features", "send one of each for every row")
    return [{**key, **feature} for key, feature in zip(keys, features, strict=True)]


def labels_of(body: bytes) -> list[LabelItem]:
    """The labels of a request; raises `InputError` where it has no such shape."""
    shape = 'send {"labels": [{"id": "…", "value": …}]}, or "key" and "time" in place of the id'
    return _decoded(_LABELS, body, shape).labels


def reply(answered: Answered) -> dict[str, Any]:
    """The reply to rows that were answered; where several releases did, each row names its own."""
    rows, live = answered.rows, answered.live
    classes = {arm.label: arm.loaded.signature.classes for arm in live.arms}
    releases, tables = rows["release"].to_list(), rows["probability"].to_list()
    predictions: list[dict[str, Any]] = [
        {
            "id": name,
            "value": _as_label(value, live.manifest.signature.label),
            "probabilities": None if table is None else dict(zip(classes[release], table, strict=True)),
        }
        for name, value, release, table in zip(
            rows["id"].to_list(), rows["value"].to_list(), releases, tables, strict=True
        )
    ]
    answered_by = live.arms[live.champion].label if len(set(releases)) > 1 else releases[0]
    if len(set(releases)) > 1:
        for prediction, release in zip(predictions, releases, strict=True):
            prediction["release"] = release
    return {"model": live.route.model, "release": answered_by, "predictions": predictions}


def _as_label(value: str | float, kind: ColumnType) -> str | float | bool:
    """A class in the type that the label had in the training rows."""
    if isinstance(value, str):
        if kind == "boolean":
            return value == "true"
        if kind in ("integer", "number"):
            return int(value) if value.lstrip("-").isdigit() else float(value)
    return value


def label_frame(items: Sequence[LabelItem], manifest: Manifest) -> pl.DataFrame:
    """Labels as `Service.labels` takes them.

    Raises
    ------
    DataError
        if a key lacks a column, a time is none, or the values are not of one type; it names the label.
    """
    times = [_moment(place, "time", item.time) for place, item in enumerate(items)]
    known = [_moment(place, "known_at", item.known_at) for place, item in enumerate(items)]
    values = [{"value": item.value} for item in items]
    return _ANY.read_json(values, ("value",)).with_columns(
        pl.Series("id", [item.id for item in items], dtype=pl.String),
        pl.Series("key", [_key(place, item.key, manifest) for place, item in enumerate(items)], dtype=pl.String),
        moments("time", [None if i.id else t for i, t in zip(items, times, strict=True)]),
        moments("known_at", [k or (t if i.id else None) for i, k, t in zip(items, known, times, strict=True)]),
    )


def state(service: Service) -> tuple[bool, dict[str, Any]]:
    """Whether every routed model answers, and who answers for each."""
    models: dict[str, Any] = {}
    for model, live in sorted(service.live.items()):
        releases = [{"release": arm.label, "role": arm.arm.role, "share": arm.arm.share} for arm in live.arms]
        models[model] = {"route": live.route.version, "releases": releases}
    for model, failure in sorted(service.failures.items()):
        entry = models.setdefault(model, {"route": None, "releases": []})
        entry["failed"] = {"route": failure.route.version, "problem": failure.problem}
    ready = bool(models) and all(entry["releases"] for entry in models.values())
    return ready, {"ready": ready, "models": models}


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes, shape: str) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as wrong:
        raise InputError(f"the request has not the expected shape: {wrong}", shape) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as wrong:
        problem = "nested too deeply" if isinstance(wrong, RecursionError) else str(wrong)
        raise InputError(f"the request is no JSON: {problem}", shape) from None


def _moment(place: int, name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return moment(text)
    except (ValueError, OverflowError):
        raise DataError(
            f"label {place}: {name} is {text[:60]!r}, which is no time", "write times as 2013-01-31T12:00:00Z"
        ) from None


def _key(place: int, key: str | Row, manifest: Manifest) -> str:
    if isinstance(key, str):
        return key
    absent = [name for name in manifest.key if name not in key]
    if absent or not manifest.key:
        raise DataError(
            f"label {place}: the key lacks {', '.join(map(repr, absent)) or 'everything: the model has no key'}",
            f"the columns of the key are: {', '.join(manifest.key) or 'none; use ids'}",
        )
    return keys_of(_ANY.read_json([key], manifest.key), manifest.key)[0]
