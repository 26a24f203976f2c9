"""Windows: the journal's predictions of a span of time, with the labels that have come for them."""

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from tidemill.core.model import Signature
from tidemill.core.prediction import LABEL_LEAD
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
    return match(predictions, journal.read(f"labels/{model}", since and since - LABEL_LEAD, until)).rows


def labelled(rows: pl.DataFrame, signature: Signature) -> pl.Series:
    """Which rows have a label that the model could have said: a class of its own, or a number."""
    truth = rows["truth"]
    return truth.is_in(list(signature.classes)).fill_null(value=False) if signature.classes else truth.is_not_null()


def judged(rows: pl.DataFrame, signature: Signature) -> tuple[Truth, Floats]:
    """The truth and the scores of the rows that have a label which the model could have said."""
    known = rows.filter(labelled(rows, signature)) if rows.width else rows
    if known.is_empty():
        width = len(signature.classes)
        return Truth(signature.task, np.empty(0, dtype=np.int64), signature.classes), np.empty((0, width or 1))
    if signature.task == "regression":
        return Truth("regression", known["truth"].cast(pl.Float64).to_numpy()), known["value"].to_numpy()
    places: dict[str, Any] = {name: place for place, name in enumerate(signature.classes)}
    truth = known["truth"].replace_strict(list(places), list(places.values()), return_dtype=pl.Int64).to_numpy()
    scores = known["probability"].list.to_array(len(places)).to_numpy()
    return Truth("classification", truth, signature.classes), scores


def features_of(rows: pl.DataFrame) -> pl.DataFrame:
    """The model's inputs as they were served."""
    return rows["features"].struct.unnest() if rows.width and rows.height else pl.DataFrame()
