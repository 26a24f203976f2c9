"""Who answers which row: every arm that has a say is asked, and what each said becomes rows for the journal."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct

from tidemill.errors import TidemillError
from tidemill.models.predictions import Predictions
from tidemill.serving.metrics import Metrics
from tidemill.serving.predictor import Live, LiveArm, Scores, score
from tidemill.serving.router import assign
from tidemill.telemetry import get_logger

log = get_logger("serving")
_PROBABILITY = pl.List(pl.Float64)


class Part(Struct, frozen=True):
    """What one arm said of the rows at `places` (of all, where that is None)."""

    arm: LiveArm
    places: npt.NDArray[np.intp] | None
    scores: Scores


class Facts(Struct, frozen=True):
    """What is known of n rows beside their inputs: when they were asked, their ids, keys and event times."""

    known_at: pl.Series
    ids: Sequence[str]
    keys: Sequence[str]
    times: pl.Series


def consult(live: Live, rows: pl.DataFrame, facts: Facts, metrics: Metrics) -> tuple[list[Part], list[Part]]:
    """The parts that answer, which together have each row once, and those of shadows.

    A challenger that fails, or answers NaN, has its rows answered by the champion.

    Raises
    ------
    DataError
        if the rows do not fit the champion's signature, whoever would answer them: an error is no chance.
    TidemillError
        if the champion fails or answers NaN.
    """
    if rows.is_empty():
        return [_nothing(live, rows)], []
    if len(live.arms) > 1:
        live.reader.read_frame(rows)
    places = assign([key or name for key, name in zip(facts.keys, facts.ids, strict=True)], live.route)
    answering: list[Part] = []
    for number, arm in enumerate(live.arms):
        part = _part(arm, rows, np.flatnonzero(places == number), metrics) if arm.arm.role == "challenger" else None
        if part:
            answering.append(part)
            places[part.places] = -1
    left = np.flatnonzero(places >= 0)
    if len(left):
        answering.append(_champion(live.arms[live.champion], rows, left, metrics))
    shadows = [
        _part(arm, rows, _not_answered_by(arm, answering, rows.height), metrics)
        for arm in live.arms
        if arm.arm.role == "shadow"
    ]
    return answering, [part for part in shadows if part]


def _not_answered_by(arm: LiveArm, answering: list[Part], rows: int) -> npt.NDArray[np.intp]:
    """The rows that a shadow's release did not answer itself: an answer is unique by id and release."""
    strange = np.ones(rows, dtype=bool)
    for part in answering:
        if part.arm.label == arm.label:
            strange[part.places if part.places is not None else slice(None)] = False
    return np.flatnonzero(strange)


def journal_rows(part: Part, facts: Facts) -> pl.DataFrame:
    """The rows of the journal's kind `predictions/<model>` that a part makes."""
    answers, places = part.scores.answers, part.places
    number = len(answers.values)
    regression = part.arm.loaded.signature.task == "regression"
    table = answers.probabilities
    columns = [
        facts.known_at.alias("known_at"),
        pl.Series("id", facts.ids, dtype=pl.String),
        pl.Series("key", facts.keys, dtype=pl.String),
        facts.times.alias("time"),
    ]
    known_at, ids, keys, times = columns if places is None else [column[places] for column in columns]
    return pl.DataFrame(
        [
            known_at,
            ids,
            pl.Series("release", [part.arm.label] * number, dtype=pl.String),
            pl.Series("version", [part.arm.arm.version] * number, dtype=pl.Int64),
            pl.Series("role", [part.arm.arm.role] * number, dtype=pl.String),
            keys,
            times,
            pl.Series("value", answers.values, dtype=pl.Float64 if regression else pl.String),
            pl.Series("probability", [None] * number, dtype=_PROBABILITY)
            if table is None
            else pl.Series("probability", np.ascontiguousarray(table, dtype=np.float64)).cast(_PROBABILITY),
            part.scores.inputs.to_struct("features"),
        ]
    )


def _nothing(live: Live, rows: pl.DataFrame) -> Part:
    first = live.arms[live.champion]
    inputs = first.loaded.reader.read_frame(rows)
    return Part(first, None, Scores(Predictions([], None), inputs, np.ones(0, dtype=np.bool_)))


def _champion(arm: LiveArm, rows: pl.DataFrame, left: npt.NDArray[np.intp], metrics: Metrics) -> Part:
    places = None if len(left) == rows.height else left
    scores = _counted(arm, rows, places, metrics)
    if not scores.finite.all():
        raise _nan(arm, scores, metrics)
    return Part(arm, places, scores)


def _part(arm: LiveArm, rows: pl.DataFrame, places: npt.NDArray[np.intp], metrics: Metrics) -> Part | None:
    """The part of an arm that may fail: only what it answered with finite numbers, or None."""
    if not len(places):
        return None
    try:
        scores = _counted(arm, rows, places, metrics)
    except TidemillError as failed:
        log.warning("%s %s did not answer %d rows: %s", arm.arm.role, arm.label, len(places), failed)
        return None
    if scores.finite.all():
        return Part(arm, places, scores)
    log.warning("%s", _nan(arm, scores, metrics))
    kept = np.flatnonzero(scores.finite)
    return Part(arm, places[kept], _taken(scores, kept)) if len(kept) else None


def _taken(scores: Scores, kept: npt.NDArray[np.intp]) -> Scores:
    values, table = scores.answers.values, scores.answers.probabilities
    answers = Predictions([values[place] for place in kept], None if table is None else table[kept])
    return Scores(answers, scores.inputs[kept], scores.finite[kept])


def _counted(arm: LiveArm, rows: pl.DataFrame, places: npt.NDArray[np.intp] | None, metrics: Metrics) -> Scores:
    number = rows.height if places is None else len(places)
    try:
        scores = score(arm, rows, places)
    except TidemillError:
        metrics.count("tidemill_failures_total", number, release=arm.label, role=arm.arm.role)
        raise
    metrics.count("tidemill_predictions_total", number, release=arm.label, role=arm.arm.role)
    return scores


def _nan(arm: LiveArm, scores: Scores, metrics: Metrics) -> TidemillError:
    number = int((~scores.finite).sum())
    metrics.count("tidemill_failures_total", number, release=arm.label, role=arm.arm.role)
    return TidemillError(
        f"release {arm.label}: the model answered NaN in {number} of {len(scores.finite)} rows",
        "look at what these rows hold, or roll back to another release",
    )
