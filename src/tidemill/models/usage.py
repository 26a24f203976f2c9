"""How to use a model: its signature, and a request with one of its sample rows that can be pasted."""

import shlex
from collections.abc import Sequence
from typing import Any

import msgspec

from tidemill.core.model import Manifest, Model
from tidemill.models.inputs import SAMPLES

DEFAULT_ADDRESS = "http://127.0.0.1:8000"


def read_example(model: Model) -> dict[str, Any] | None:
    """Return a sample row of a package; None if it has no sample rows."""
    rows = msgspec.json.decode(model.files.get(SAMPLES, b"[]"), type=list[dict[str, Any]])
    return choose_example(rows)


def choose_example(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row with the fewest nulls, the last of several; None without rows."""
    return min(reversed(rows), key=lambda row: sum(value is None for value in row.values()), default=None)


def build_curl(model: str, row: dict[str, Any], address: str = DEFAULT_ADDRESS) -> str:
    """Return a shell command that requests the prediction of a row.

    >>> build_curl("late", {"carrier": "O'Hare"})
    'curl -d \\'{"rows": [{"carrier": "O\\'"\\'"\\'Hare"}]}\\' http://127.0.0.1:8000/predict/late'
    """
    from json import dumps

    body = dumps({"rows": [msgspec.to_builtins(row)]}, ensure_ascii=False)
    return f"curl -d {shlex.quote(body)} {address}/predict/{model}"


def describe_usage(
    model: str, release: str, manifest: Manifest, row: dict[str, Any] | None, address: str = DEFAULT_ADDRESS
) -> dict[str, Any]:
    """Return the signature of a model as values for JSON: inputs, key, time, classes, positive class, example."""
    signature = manifest.signature
    return {
        "model": model,
        "release": release,
        "task": signature.task,
        "inputs": [{"name": column.name, "type": column.type} for column in signature.inputs],
        "key": list(manifest.key),
        "time": manifest.time or None,
        "classes": list(signature.classes),
        "positive": signature.positive or None,
        "spellings": manifest.spellings,
        "example": None if row is None else {"rows": [row]},
        "curl": None if row is None else build_curl(model, row, address),
    }
