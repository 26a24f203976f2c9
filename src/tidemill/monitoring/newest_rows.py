"""The newest rows of a model's stream, with their labels (for recall)."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import polars as pl

from tidemill.clock import parse_duration, read_id_time
from tidemill.core.policy import ModelPolicy
from tidemill.core.prediction import LABEL_LEAD
from tidemill.core.resources import JournalReader
from tidemill.data.spellings import unify_columns
from tidemill.labels.feedback import match

_FIRST_SPAN = timedelta(hours=1)
_FACTOR = 4
_MOST_ROWS = 5_000


def read_newest_rows(
    journal: JournalReader, policy: ModelPolicy, now: datetime, since: datetime | None = None
) -> pl.DataFrame:
    """Return the newest predictions that were served, oldest first, with the column `truth` (null without a label).

    They are as many as `[regimes] rows`, and all rows since the oldest of as many labelled rows; at most 5,000. With
    `since`, no older rows are among them.
    """
    number, name = policy.regimes.rows, policy.name
    earliest = max(now - parse_duration(policy.regimes.reach), since or now - parse_duration(policy.regimes.reach))
    labels = _read_newest(journal, f"labels/{name}", number, earliest, now)
    served = _read_newest(journal, f"predictions/{name}", number, earliest, now)
    if served.is_empty():
        return served
    oldest = served["known_at"][0]
    assert isinstance(oldest, datetime)
    begin = max(earliest, min([oldest, *find_label_times(labels)]))
    if begin < oldest:
        served = keep_served(journal.read(f"predictions/{name}", begin - timedelta(microseconds=1), now))
        labels = journal.read(f"labels/{name}", begin - LABEL_LEAD, now)
    rows = match(served.tail(_MOST_ROWS), labels).rows
    rows = unify_columns(rows, {"truth": policy.problem.spellings})
    labelled = rows["truth"].is_not_null().arg_true()
    first = labelled[-number] if len(labelled) >= number else 0
    return rows[min(int(first), max(rows.height - number, 0)) :]


def count_labelled(journal: JournalReader, policy: ModelPolicy, since: datetime, now: datetime) -> int:
    """Return the number of labelled rows among those served since a time."""
    served = keep_served(journal.read(f"predictions/{policy.name}", since - timedelta(microseconds=1), now))
    if served.is_empty():
        return 0
    labels = journal.read(f"labels/{policy.name}", since - LABEL_LEAD, now)
    return int(match(served, labels).rows["truth"].count())


def _read_newest(journal: JournalReader, kind: str, number: int, earliest: datetime, now: datetime) -> pl.DataFrame:
    """Return at least the newest rows of a kind of this number, if there are as many since `earliest`."""
    span = _FIRST_SPAN
    while True:
        since = max(now - span, earliest)
        rows = keep_served(journal.read(kind, since - timedelta(microseconds=1), now))
        if rows.height >= number or since <= earliest:
            return rows
        span *= _FACTOR


def keep_served(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the predictions without those of shadows."""
    return rows.filter(pl.col("role") != "shadow") if "role" in rows.columns else rows


def find_label_times(labels: pl.DataFrame) -> Iterable[datetime]:
    """Return the time of the oldest row that some labels are about: by its event time, or by the id of a prediction."""
    if labels.is_empty():
        return []
    times = [time for time in (labels["time"].min(),) if isinstance(time, datetime)]
    for identifier in labels["id"].filter(labels["id"] != "").sort().head(1):
        try:
            times.append(read_id_time(identifier))
        except ValueError:  # an id that no prediction has
            continue
    return times
