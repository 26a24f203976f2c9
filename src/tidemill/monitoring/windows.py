"""Windows: the predictions of a period in the journal, with their labels."""

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from tidemill.core.model import Signature
from tidemill.core.prediction import LABEL_LEAD
from tidemill.core.resources import JournalReader
from tidemill.data.arrays import Floats
from tidemill.data.classes import match_classes
from tidemill.data.metrics import Truth
from tidemill.labels.feedback import match
from tidemill.monitoring.newest_rows import keep_served


def read_window(
    journal: JournalReader, model: str, since: datetime | None, until: datetime, release: str = ""
) -> pl.DataFrame:
    """Return the predictions served in (since, until], with `truth` if the label was known by `until`.

    Without `since`, return all predictions up to `until`. With a `release`, return only the predictions that it served
    as champion or challenger, not its shadow predictions.
    """
    return add_labels(read_predictions(journal, model, since, until, release), journal, model, since, until)


def add_labels(
    predictions: pl.DataFrame, journal: JournalReader, model: str, since: datetime | None, until: datetime
) -> pl.DataFrame:
    """Return predictions of (since, until] with `truth`, if the label was known by `until`."""
    if not predictions.width:
        return predictions
    return match(predictions, journal.read(f"labels/{model}", since and since - LABEL_LEAD, until)).rows


def read_predictions(
    journal: JournalReader,
    model: str,
    since: datetime | None,
    until: datetime,
    release: str = "",
    *,
    with_shadows: bool = False,
) -> pl.DataFrame:
    """Return the predictions as `read_window` does, without their labels.

    With a `release` and `with_shadows`, those that it predicted as a shadow are among them.
    """
    predictions = journal.read(f"predictions/{model}", since, until)
    if release and predictions.width:
        predictions = predictions.filter(pl.col("release") == release)
        return predictions if with_shadows else keep_served(predictions)
    return predictions


def is_labelled(rows: pl.DataFrame, signature: Signature) -> pl.Series:
    """Return for each row whether it has a label that the model can predict: one of its classes, or a number."""
    return read_truth(rows["truth"], signature).is_not_null()


def read_truth(truth: pl.Series, signature: Signature) -> pl.Series:
    """Return the class or the number that each label of the journal means; null for a label that means none.

    A label that was stored in another spelling, such as `1.0` for the class `1`, counts here as in a training.
    """
    if signature.task == "classification":
        return match_classes(truth, signature.classes)
    numbers = truth.cast(pl.Float64, strict=False)
    return numbers.set(~numbers.is_finite().fill_null(value=False), None)


def extract_scores(rows: pl.DataFrame, signature: Signature) -> tuple[Truth, Floats]:
    """Return the truth and the scores of the rows with a label that the model can predict."""
    labelled = rows
    if rows.width:
        labelled = rows.with_columns(read_truth(rows["truth"], signature).alias("truth")).drop_nulls("truth")
    if labelled.is_empty():
        width = len(signature.classes)
        return Truth(signature.task, np.empty(0, dtype=np.int64), signature.classes), np.empty((0, width or 1))
    if signature.task == "regression":
        return Truth("regression", labelled["truth"].cast(pl.Float64).to_numpy()), labelled["value"].to_numpy()
    indices: dict[str, Any] = {name: index for index, name in enumerate(signature.classes)}
    truth = labelled["truth"].replace_strict(list(indices), list(indices.values()), return_dtype=pl.Int64).to_numpy()
    scores = labelled["probability"].list.to_array(len(indices)).to_numpy()
    return Truth("classification", truth, signature.classes), scores


def list_sizes(rows: int, newest: int) -> list[int]:
    """Return the sizes of the windows of the newest rows: from `newest`, doubling, below the number of rows.

    >>> list_sizes(1_000, 250)
    [250, 500]
    """
    sizes = []
    while newest < rows:
        sizes.append(newest)
        newest *= 2
    return sizes


def unpack_features(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the model's inputs as they were served."""
    return rows["features"].struct.unnest() if rows.width and rows.height else pl.DataFrame()
