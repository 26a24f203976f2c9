"""The regimes that returned in a replay: the rows until their release was recalled, and until a training could be."""

from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from tidemill.backtest.comparison import RegimeReturn
from tidemill.clock import parse_duration
from tidemill.core.columns import TIME
from tidemill.core.route import Route

if TYPE_CHECKING:
    from tidemill.backtest.replay import Replay


def list_returns(replay: "Replay") -> list[RegimeReturn]:
    """Return each recall of a replay, by time."""
    recalls = [route for route in replay.books.routes.find() if route.change == "recall"]
    routes = sorted(recalls, key=lambda route: route.version)
    return [found for route in routes if (found := _build_return(replay, route)) is not None]


def _build_return(replay: "Replay", route: Route) -> RegimeReturn | None:
    verdicts = replay.books.verdicts.find(id=route.verdict, limit=1)
    champion = route.arm("champion")
    if not verdicts or champion is None or "start" not in verdicts[0].evidence:
        return None
    verdict = verdicts[0]
    start = datetime.fromisoformat(verdict.evidence["start"])
    trained = _find_earliest_training(replay, start)
    return RegimeReturn(
        start=start,
        recalled=route.since,
        release=champion.release,
        replaced=verdict.subject,
        by=str(verdict.evidence.get("by", "")),
        rows=_count_rows(replay, start, route.since),
        rows_to_training=None if trained is None else _count_rows(replay, start, trained),
    )


def _find_earliest_training(replay: "Replay", start: datetime) -> datetime | None:
    """Return when a model of the regime's first labels could exist: None if not within the period.

    It needs `[regimes] minimum` labelled rows, and the time of a training.
    """
    number = replay.model.regimes.minimum
    known = replay.labels.filter(pl.col("time") >= start)["known_at"].sort()
    if len(known) < number:
        return None
    time = known[number - 1] + parse_duration(replay.policy.backtest.training_delay)
    return time if time < replay.period.end else None


def _count_rows(replay: "Replay", begin: datetime, end: datetime) -> int:
    times = replay.features.rows[TIME]
    return int(times.search_sorted(end, "left")) - int(times.search_sorted(begin, "left"))
