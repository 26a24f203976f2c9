"""Windows: the journal's predictions of a span of time, with the labels that have come for them."""

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from tidemill.core.model import Signature
from tidemill.core.prediction import EARLIER
from tidemill.core.resources import JournalReader
from tidemill.data.metrics import Floats, Truth
from tidemill.labels.feedback import match


def window(
    journal: JournalReader, model: str, since: datetime | None, until: datetime, release: str = ""
) -> pl.DataFrame:
    """Predictions served in (since, until], or ever until then, with `truth` where its label was known by then.

    Where a `release` is named, only its answers: what it said as a shadow is left out.
    """
    predictions = journal.read(f"predictions/{model}", since, until)
    if predictions.is_empty():
        return predictions
    if release:
        predictions = predictions.filter(pl.col("release") == release, pl.col("role") != "shadow")
    return match(predictions, journal.read(f"labels/{model}", since and since - EARLIER, until)).rows


def judged(rows: pl.DataFrame, signature: Signature) -> tuple[Truth, Floats]:
    """The truth and the scores of the rows that have a label."""
    labelled = rows.filter(pl.col("truth").is_not_null()) if rows.width else rows
    if labelled.is_empty():
        return Truth(signature.task, np.empty(0, dtype=np.int64), signature.classes), np.empty((0, 1))
    if signature.task == "regression":
        return Truth("regression", labelled["truth"].cast(pl.Float64).to_numpy()), labelled["value"].to_numpy()
    places: dict[str, Any] = {name: place for place, name in enumerate(signature.classes)}
    known = labelled.filter(pl.col("truth").is_in(list(places)))
    truth = known["truth"].replace_strict(list(places), list(places.values()), return_dtype=pl.Int64).to_numpy()
    scores = known["probability"].list.to_array(len(places)).to_numpy() if known.height else np.empty((0, len(places)))
    return Truth("classification", truth, signature.classes), scores


def features_of(rows: pl.DataFrame) -> pl.DataFrame:
    """The model's inputs as they were served."""
    return rows["features"].struct.unnest() if rows.width and rows.height else pl.DataFrame()
