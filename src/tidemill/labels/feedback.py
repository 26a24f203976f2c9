"""Matches labels with predictions, by id or by key and event time; the latest label of a prediction is used."""

from typing import NamedTuple

import polars as pl

from tidemill.data.frame import require_one_answer_each


class LabelMatch(NamedTuple):
    """Predictions with the columns `truth` and `truth_known_at` (null without a label), the number of labels that
    contradict an earlier one, and the number of labels without a prediction.
    """

    rows: pl.DataFrame
    contradictions: int
    unknown: int


def match(predictions: pl.DataFrame, labels: pl.DataFrame) -> LabelMatch:
    """Join labels to predictions; both are rows of the journal.

    Raises
    ------
    TidemillError
        if a prediction would have another number of rows than one.
    """
    if predictions.is_empty() or labels.is_empty():
        kind = labels.schema.get("value", pl.String) if labels.width else pl.String
        empty = (pl.lit(None, kind).alias("truth"), pl.lit(None, pl.Datetime("us", "UTC")).alias("truth_known_at"))
        return LabelMatch(predictions.with_columns(empty) if predictions.width else predictions, 0, labels.height)
    by_id, by_key = labels.filter(pl.col("id") != ""), labels.filter(pl.col("id") == "")
    # Rows without a key have nothing in common: a label without an id and a key belongs to none of them.
    names_row = (by_key["key"] != "") & by_key["key"].is_not_null() & by_key["time"].is_not_null()
    unnamed, by_key = by_key.filter(~names_row), by_key.filter(names_row)
    latest_id, contradicting_id = _find_latest(by_id, ["id"])
    latest_key, contradicting_key = _find_latest(by_key, ["key", "time"])
    rows = (
        predictions.join(
            latest_id.rename({"truth": "_a", "truth_known_at": "_b"}), on="id", how="left", maintain_order="left"
        )
        .join(latest_key, on=["key", "time"], how="left", maintain_order="left")
        .with_columns(
            _by_key=pl.col("truth_known_at").is_not_null()
            & (pl.col("truth_known_at") > pl.col("_b")).fill_null(value=True)
        )
        .with_columns(
            truth=pl.when("_by_key").then("truth").otherwise("_a"),
            truth_known_at=pl.when("_by_key").then("truth_known_at").otherwise("_b"),
        )
        .drop("_a", "_b", "_by_key")
    )
    require_one_answer_each(predictions.height, rows.height, "predictions with their labels")
    unknown = (
        unnamed.height
        + latest_id.join(predictions, on="id", how="anti").height
        + latest_key.join(predictions, on=["key", "time"], how="anti").height
    )
    return LabelMatch(rows, contradicting_id + contradicting_key, unknown)


def _find_latest(labels: pl.DataFrame, columns: list[str]) -> tuple[pl.DataFrame, int]:
    grouped = (
        labels.sort("known_at", maintain_order=True)
        .group_by(columns, maintain_order=True)
        .agg(
            truth=pl.col("value").last(),
            truth_known_at=pl.col("known_at").last(),
            _values=pl.col("value").n_unique(),
        )
    )
    return grouped.drop("_values"), int((grouped["_values"] > 1).sum())
