"""The answers of a backtest: one prediction for each row of the history that was requested, and the label of that row.

Rows are matched by their id in the history (`ROW_ID`), which every row has, with and without a key.
"""

import polars as pl

from tidemill.core.columns import KNOWN_AT, ROW_ID, TIME
from tidemill.core.policy import Problem
from tidemill.data.frame import require_one_answer_each
from tidemill.data.keys import to_class_names
from tidemill.data.spellings import unify_spellings


def list_labels(rows: pl.DataFrame, problem: Problem) -> pl.DataFrame:
    """Return the labels of a history in the form of the journal, in the order in which they became known."""
    label = pl.col(problem.label)
    known_at = pl.col(problem.label_known_at or KNOWN_AT)
    is_number = rows.schema[problem.label].is_float()
    labelled = rows.filter((label.fill_nan(None) if is_number else label).is_not_null(), known_at.is_not_null())
    values = labelled[problem.label]
    if problem.task == "classification":
        values = to_class_names(unify_spellings(values, problem.spellings))
    else:
        values = values.cast(pl.Float64)
    return labelled.select(
        known_at.cast(pl.Datetime("us", "UTC")).alias("known_at"),
        pl.lit("").alias("id"),
        pl.col(ROW_ID).alias("key"),
        pl.col(TIME).alias("time"),
        values.alias("value"),
    ).sort("known_at", maintain_order=True)


def add_truth(served: pl.DataFrame, labels: pl.DataFrame, requests: int) -> pl.DataFrame:
    """Return the predictions that were served for a number of requests, with `truth` where it is known.

    Raises
    ------
    TidemillError
        if a request has no prediction or several.
    """
    truth = labels.select("key", "time", pl.col("value").alias("truth"))
    answers = served.join(truth, on=["key", "time"], how="left", maintain_order="left")
    require_one_answer_each(requests, answers.height, "the requests of the backtest")
    return answers
