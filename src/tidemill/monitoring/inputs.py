"""Compares the inputs of live predictions with the training rows: the whole window, and windows of its newest rows."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import lru_cache, partial

import msgspec
import polars as pl
from msgspec.structs import replace

from tidemill.checks.drift import Window, drift
from tidemill.clock import parse_duration
from tidemill.core.check import Verdict
from tidemill.core.model import Model
from tidemill.core.policy import WatchValue
from tidemill.data.relations import profile_joint
from tidemill.data.statistics import Profile, merge, profile, profile_parts
from tidemill.errors import ConfigurationError
from tidemill.models.flavors.lightgbm import measure_use
from tidemill.monitoring.earlier_windows import EarlierWindows
from tidemill.monitoring.matched_windows import MatchedWindows
from tidemill.monitoring.related_rows import RelatedRows, find_related_rows
from tidemill.monitoring.windows import list_sizes, unpack_features

_FALSE_ALARM = 0.05
_LOOKS = 4  # windows that overlap have as many chances of a false alarm as four that do not
_NEWEST = 250
_FILLED = 0.9
_KEPT = 8  # references of the last looks
_PROFILE = "profile.json"


def check_inputs(
    value: WatchValue,
    champion: Model,
    rows: pl.DataFrame,
    release: str,
    read_earlier: Callable[[list[str]], EarlierWindows] | None = None,
) -> Verdict:
    """Return the verdict on the inputs of the rows of a window, by the value `drift` of a watch.

    They are compared with the training rows, or with the windows that `read_earlier` returns for the names of columns,
    if these are enough.
    """
    of_release, newest = read_reference(champion), min(value.minimum, _NEWEST)
    reference = of_release
    earlier = None
    if read_earlier is not None and rows.height >= value.minimum:
        earlier = read_earlier([column.name for column in reference.columns])
        reference = earlier.profile or reference
    if earlier is not None and earlier.profile is not None and earlier.kind == "seasonal":
        matched = MatchedWindows(rows, earlier, earlier.profile, newest)
        whole, *recent = matched.build()
        relations = matched.build_relations
    else:
        whole, *recent = build_windows(rows, reference, newest)
        kept = find_related_rows(champion.files[_PROFILE]) if reference is of_release else None
        relations = partial(build_relation_windows, rows, reference, newest, kept)
    seconds = whole.seconds
    if earlier is not None and seconds and seconds > _FILLED * earlier.length.total_seconds():
        seconds = earlier.length.total_seconds()  # as long as each of the earlier windows
    verdict = drift(
        whole.now,
        reference,
        subject=release,
        limit=value.limit,
        action=value.action,
        minimum=value.minimum,
        level=choose_level(parse_duration(value.window), parse_duration(value.false_alarm_interval)),
        seconds=seconds,
        relations=relations,
        recent=recent,
        use=measure_use(champion),
    )
    if earlier is None:
        return verdict
    evidence = verdict.evidence | {"compared_with": earlier.evidence}
    return replace(verdict, reason=f"{verdict.reason}; {earlier.text}", evidence=evidence)


def read_reference(model: Model) -> Profile:
    """Return the profile of a model's training rows, without the event time, which always drifts.

    Raises
    ------
    ConfigurationError
        if its training stored no profile.
    """
    if _PROFILE not in model.files:
        raise ConfigurationError(
            f"model {model.manifest.name!r} has no profile of its training rows, so drift cannot be measured",
            "train it again, or remove `drift` from its [[watch.values]]",
        )
    return _decode_reference(model.files[_PROFILE], model.manifest.time)


@lru_cache(_KEPT)
def _decode_reference(content: bytes, time: str) -> Profile:
    reference = msgspec.json.decode(content, type=Profile)
    return replace(reference, columns=tuple(column for column in reference.columns if column.name != time))


def choose_level(window: timedelta, interval: timedelta) -> float:
    """Return the level of a window for which a false alarm within an interval has a probability of at most 5 %."""
    return _FALSE_ALARM * min(window / interval / _LOOKS, 1.0)


def build_windows(rows: pl.DataFrame, reference: Profile, newest: int) -> list[Window]:
    """Return the window of all rows, then those of the newest rows, from `newest` to half of all, doubling.

    Each profile is a sum of the profiles of its parts.
    """
    if rows.is_empty():
        return [Window(now=profile(pl.DataFrame(), reference))]
    ordered = _order(rows)
    return _build(ordered, newest, lambda features, bounds: profile_parts(features, bounds, reference))


def build_relation_windows(
    rows: pl.DataFrame, reference: Profile, newest: int, kept: RelatedRows | None = None
) -> list[Window]:
    """Return the same windows with the profiles of how their rows fit the relations of a reference, if it has some.

    `kept` has the rows of the last look.
    """
    if rows.is_empty():
        return []
    ordered = _order(rows)
    relate_rows = partial(kept.relate, ordered["id"]) if kept is not None else None
    return _build(ordered, newest, lambda features, bounds: profile_joint(features, bounds, reference, relate_rows))


def _order(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("known_at", "time", maintain_order=True)


def _build(
    rows: pl.DataFrame, newest: int, describe: Callable[[pl.DataFrame, Sequence[int]], list[Profile]]
) -> list[Window]:
    """Return the windows of ordered rows from the profiles between bounds; none if there are no profiles."""
    features, times = unpack_features(rows), rows["time"]
    ends = [0, *list_sizes(rows.height, newest), rows.height]
    parts = describe(features, [rows.height - end for end in reversed(ends)])[::-1]
    if not parts:
        return []
    windows, now = [], parts[0]
    for end, part in zip(ends[1:-1], parts[1:], strict=True):
        # With a growth of two, the next part has as many rows as all parts before it.
        before = part if part.rows == now.rows else None
        windows.append(Window(now=now, seconds=_measure_seconds(times.tail(end)), before=before))
        now = merge(now, part)
    return [Window(now=now, seconds=_measure_seconds(times)), *windows]


def _measure_seconds(times: pl.Series) -> float:
    """Return the seconds in which rows arrive, from the first to the last and one more."""
    first, last = times.min(), times.max()
    if len(times) < 2 or first is None or last is None:
        return 0.0
    length = (last - first) / timedelta(seconds=1)  # type: ignore[operator]  # both are times
    return float(length * len(times) / (len(times) - 1))
