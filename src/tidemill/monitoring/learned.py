"""The labelled rows of the journal that an online learner has learned, and those that wait: each is learned once.

What a learner has learned is in its package, beside its state. So both change together: a crash between them is not
possible, and a release that is not promoted leaves no trace.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct, convert, json

from tidemill.checks.learning import LabelTimes, Learning
from tidemill.clock import read_id_time
from tidemill.core.model import Manifest, Model
from tidemill.core.prediction import LABEL_LEAD
from tidemill.core.resources import JournalReader
from tidemill.labels.feedback import match

FILE = "learned.json"
_KEPT_TIME = timedelta(days=7)
_MOST_KEPT = 100_000
_DIGEST = 16  # bytes
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LearnedRows(Struct, frozen=True, kw_only=True):
    """The rows of the journal that a learner has learned.

    Rows whose first label became known at or before `since` are not learned any more. Those after it are in `digests`
    (16 bytes each), with the time of their first label in `times` (microseconds since 1970, 8 bytes each).
    """

    since: datetime | None = None
    digests: bytes = b""
    times: bytes = b""


def read_learning(manifest: Manifest) -> Learning | None:
    """Return what a release has learned from labels of the journal; None for a release of a training."""
    stated = manifest.data.get("learned")
    return None if stated is None else convert(stated, Learning)


def read_learned_rows(model: Model) -> LearnedRows:
    """Return the rows that a package has learned; after a training, those with feedback until its time."""
    if FILE in model.files:
        return json.decode(model.files[FILE], type=LearnedRows)
    since = model.manifest.data.get("feedback_until")
    return LearnedRows(since=None if since is None else convert(since, datetime))


def read_unlearned(journal: JournalReader, name: str, learned: LearnedRows, now: datetime) -> pl.DataFrame:
    """Return the labelled predictions that a learner has not learned, in the order of their first labels.

    Besides the columns of a prediction they have `truth`, the newest label that is known by now, `first_known_at`, when
    the first one became known, and `digest`. Of several predictions for the same key and time, only the newest counts.
    """
    labels = journal.read(f"labels/{name}", learned.since, now)
    if labels.is_empty():
        return pl.DataFrame()
    predictions = journal.read(f"predictions/{name}", _find_oldest(labels), now)
    if predictions.is_empty():
        return pl.DataFrame()
    predictions = predictions.filter(pl.col("role") != "shadow")
    # A label before `since` may have a correction after it: its row was decided on the first one.
    begin = predictions["known_at"].min()
    assert begin is None or isinstance(begin, datetime)
    labels = labels if begin is None else journal.read(f"labels/{name}", begin - LABEL_LEAD, now)
    rows = _add_first_label(match(predictions, labels).rows, labels).filter(pl.col("first_known_at").is_not_null())
    if learned.since is not None:
        rows = rows.filter(pl.col("first_known_at") > learned.since)
    rows = rows.with_columns(pl.Series("digest", _digest_rows(rows), dtype=pl.Binary))
    rows = rows.unique("digest", keep="last", maintain_order=True)
    known = {learned.digests[start : start + _DIGEST] for start in range(0, len(learned.digests), _DIGEST)}
    return rows.filter(~pl.col("digest").is_in(list(known))).sort("first_known_at", "known_at", "id")


def add_learned(learned: LearnedRows, rows: pl.DataFrame) -> LearnedRows:
    """Return the learned rows with those of `read_unlearned`; the newest 100,000 of the last 7 days are kept."""
    times = np.concatenate([np.frombuffer(learned.times, "<i8"), rows["first_known_at"].to_physical().to_numpy()])
    digests = np.concatenate(
        [np.frombuffer(learned.digests, f"V{_DIGEST}"), np.array(rows["digest"].to_list(), dtype=f"V{_DIGEST}")]
    )
    if not len(times):
        return learned
    oldest = int(times.max()) - _to_microseconds(_KEPT_TIME)
    if learned.since is not None:
        oldest = max(oldest, _to_microseconds(learned.since - _EPOCH))
    if len(times) > _MOST_KEPT:
        oldest = max(oldest, int(np.partition(times, -_MOST_KEPT - 1)[-_MOST_KEPT - 1]))
    kept = times > oldest
    return LearnedRows(
        since=_EPOCH + timedelta(microseconds=oldest),
        digests=digests[kept].tobytes(),
        times=times[kept].astype("<i8").tobytes(),
    )


def describe_label_times(first_known: pl.Series) -> LabelTimes:
    """Return the quantiles of the times of labels, which are not empty."""
    times = first_known.sort()

    def pick(share: float) -> Any:
        return times[min(len(times) - 1, int(share * len(times)))]

    return LabelTimes(first=times[0], tenth=pick(0.1), middle=pick(0.5), last=times[-1])


def _add_first_label(rows: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Add when the first label of each prediction became known; null without a label."""
    by_id = labels.filter(pl.col("id") != "").group_by("id").agg(_by_id=pl.col("known_at").min())
    named = labels.filter(pl.col("id") == "", pl.col("key") != "", pl.col("time").is_not_null())
    by_key = named.group_by("key", "time").agg(_by_key=pl.col("known_at").min())
    return (
        rows.join(by_id, on="id", how="left", maintain_order="left")
        .join(by_key, on=["key", "time"], how="left", maintain_order="left")
        .with_columns(first_known_at=pl.min_horizontal("_by_id", "_by_key"))
        .drop("_by_id", "_by_key")
    )


def _find_oldest(labels: pl.DataFrame) -> datetime | None:
    """Return a time before the oldest prediction that a label is for; None if it is unknown.

    The id of a prediction contains its time. The time of a row that is labelled by its key says nothing about when it
    was predicted.
    """
    if (labels["id"] == "").any():
        return None
    try:
        return min(read_id_time(identifier) for identifier in labels["id"].unique()) - timedelta(minutes=1)
    except (ValueError, OverflowError, OSError):  # the client sent another id, which matches no prediction
        return None


def _digest_rows(rows: pl.DataFrame) -> list[bytes]:
    """Return what identifies each row: its key and time, or the id of its prediction if it has no key."""
    columns = (rows["id"], rows["key"], rows["time"].to_physical())
    return [
        hashlib.blake2b(json.encode((key, time) if key else (identifier,)), digest_size=_DIGEST).digest()
        for identifier, key, time in zip(*columns, strict=True)
    ]


def _to_microseconds(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)
