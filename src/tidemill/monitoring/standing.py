"""Changes that stand: a column that moved is reported once, and again only if it moves further or in another way.

What was reported is kept in the evidence of each verdict on drift, so that the next evaluation reads one verdict. It
outlasts the release: a new champion does not make an old change a new one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, convert, to_builtins
from msgspec.structs import replace

from tidemill.checks.drift import describe_test
from tidemill.clock import parse_duration
from tidemill.core.check import Verdict
from tidemill.core.policy import WatchValue
from tidemill.data.relations import AGREEMENT, RESIDUAL

STANDING = "standing"
_GROWTH, _LEAST_GROWTH, _SAMPLING = 0.5, 0.1, 2.0
_NAMED = 4
_COMPARED = "; compared with"  # what a window is compared with, if it is not the release
# A column that has one value, or values of another unit, has another distribution too.
_IMPLIED = {
    "constant": ("distribution", "relation"),
    "range": ("distribution", "relation"),
    "distribution": ("relation",),
}


class StandingChange(Struct, frozen=True, kw_only=True):
    """A change of a column that was reported: since when, when last, the effect then, and in which ways it moved.

    `seen` is the last evaluation that found it.
    """

    since: datetime
    reported: datetime
    seen: datetime
    effect: float
    kinds: tuple[str, ...]


class Memory(Struct, frozen=True, kw_only=True):
    """What was reported for one value of a watch; `identity` tells several values of drift apart."""

    identity: str
    columns: dict[str, StandingChange] = {}

    @property
    def reported(self) -> datetime | None:
        """When the newest of the changes that stand was reported."""
        return max((change.reported for change in self.columns.values()), default=None)


def read_memory(verdict: Verdict) -> Memory | None:
    """Return what a verdict on drift knows of reported changes; None if it is of an earlier version."""
    found = verdict.evidence.get(STANDING)
    return convert(found, Memory) if found else None


def mark_standing(
    verdict: Verdict, value: WatchValue, earlier: Sequence[Verdict], now: datetime, arm: str = ""
) -> Verdict:
    """Return a verdict on drift that calls for attention only if something is new since what was reported before.

    `earlier` are earlier verdicts on drift of the same model, newest first; `arm` is the value of the key that the
    judged release is bound to. A change stands while the column moves, and ends if a whole half window finds no
    movement, or one evaluation finds less than half of it. It is new again if its effect grows by a half, and by more
    than .1 plus what chance makes of so many rows, or if it moves in another way (missing, one value, another unit).

    A verdict without anything new is a warning without an action, unless the policy has an action for so many columns:
    what is done does not depend on what was reported.
    """
    identity = f"{value.reference}/{value.window}/{value.limit:g}/{arm}"
    memories = (read_memory(past) for past in earlier if past.check == "drift")
    known = next((memory for memory in memories if memory is not None and memory.identity == identity), None)
    columns = dict(known.columns) if known else {}
    if verdict.outcome == "undecided":
        return _remember(verdict, identity, columns)
    tests = {_find_column(test): test for test in reversed(verdict.evidence["columns"])}
    moved = {name: test for name, test in tests.items() if test["moved"]}
    end = parse_duration(value.window) / 2
    columns = {
        name: change
        for name, change in columns.items()
        if name in moved or not _has_ended(change, tests.get(name), now - change.seen, end)
    }
    new = [name for name, test in moved.items() if _is_new(test, columns.get(name))][::-1]
    for name, test in moved.items():
        change, kinds = columns.get(name), set(_list_kinds(test))
        if change is None or name in new:
            before = change or StandingChange(since=now, reported=now, seen=now, effect=0.0, kinds=())
            effect, kinds = max(before.effect, test["effect"]), {*before.kinds, *kinds}
            change = replace(before, reported=now, effect=effect, kinds=tuple(sorted(kinds)))
        columns[name] = replace(change, seen=now)
    verdict = _remember(verdict, identity, columns)
    if not moved or len(new) == len(moved):
        return verdict
    reason = _describe(moved, new, columns, verdict)
    is_quiet = not new and verdict.action == "experiment"
    return replace(verdict, reason=reason, action="proceed" if is_quiet else verdict.action)


def _remember(verdict: Verdict, identity: str, columns: Mapping[str, StandingChange]) -> Verdict:
    memory = to_builtins(Memory(identity=identity, columns=dict(columns)))
    return replace(verdict, evidence=verdict.evidence | {STANDING: memory})


def _find_column(test: Mapping[str, Any]) -> str:
    """Return the column of a test; a relation is one of the column that does not fit the others."""
    name: str = test["column"]
    return name.removesuffix(RESIDUAL).removesuffix(AGREEMENT) if test["kind"] == "relation" else name


def _list_kinds(test: Mapping[str, Any]) -> Sequence[str]:
    kinds: Sequence[str] = test.get("kinds") or [test["kind"]]
    return kinds


def _has_ended(change: StandingChange, test: Mapping[str, Any] | None, unseen: timedelta, end: timedelta) -> bool:
    if change.kinds == ("relation",):  # only the largest relation is reported, and not which others moved
        return unseen >= end
    return unseen >= end or test is None or test["effect"] < change.effect / 2


def _is_new(test: Mapping[str, Any], change: StandingChange | None) -> bool:
    if change is None:
        return True
    known = {*change.kinds, *(implied for kind in change.kinds for implied in _IMPLIED.get(kind, ()))}
    if not known.issuperset(_list_kinds(test)):
        return True
    least = _LEAST_GROWTH + _SAMPLING / max(float(test["rows"]), 1.0) ** 0.5
    return bool(test["effect"] > change.effect + max(_GROWTH * change.effect, least))


def _describe(
    moved: Mapping[str, Mapping[str, Any]],
    new: Sequence[str],
    columns: Mapping[str, StandingChange],
    verdict: Verdict,
) -> str:
    standing = sorted((name for name in moved if name not in new), key=lambda name: columns[name].since)
    names = ", ".join(f"{name} (since {columns[name].since:%Y-%m-%d})" for name in standing[:_NAMED])
    more = f" and {len(standing) - _NAMED} more" if len(standing) > _NAMED else ""
    plural = "column differs" if len(standing) == 1 else "columns differ"
    still = f"{len(standing)} {plural} as reported: {names}{more}"
    _, separator, compared = verdict.reason.partition(_COMPARED)
    ending = separator + compared
    if not new:
        return f"nothing new: {still}{ending}"
    shown = ", ".join(describe_test(moved[name]) for name in new[:_NAMED])
    others = f" and {len(new) - _NAMED} more" if len(new) > _NAMED else ""
    return f"{len(new)} more {'column' if len(new) == 1 else 'columns'} moved: {shown}{others}; {still}{ending}"
