"""Regimes: the periods in which each release of a model served, grouped by the regime for which it was trained."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from msgspec import Struct, convert
from msgspec.structs import replace

from tidemill.clock import uuid7
from tidemill.core.check import Verdict
from tidemill.core.resources import BooksReader
from tidemill.core.route import Arm, Route
from tidemill.errors import NotFound
from tidemill.registry.routing import list_routes

MOST_EARLIER = 32
_MOST_REQUESTS = 20
_MOST_DROPPED = 50


class Tenure(Struct, frozen=True, kw_only=True):
    """A period in which a release was the champion; `until` is None while it lasts.

    `change` is how it began, `reason` the reason and `verdict` the id of its verdict. `rolled_back` is whether it ended
    with a rollback.
    """

    release: str
    since: datetime
    until: datetime | None
    change: str
    reason: str
    verdict: str = ""
    rolled_back: bool = False


class Regime(Struct, frozen=True, kw_only=True):
    """A regime with its releases, the last one to serve last, and the periods in which they served, oldest first.

    `start` is the time of its first row, if a verdict found that it began. `value` is the value of the key that names
    it; empty for the regimes of the champions.
    """

    number: int
    start: datetime | None
    releases: tuple[str, ...]
    tenures: tuple[Tenure, ...]
    value: str = ""

    @property
    def is_current(self) -> bool:
        """Return whether one of its releases is the champion, or is bound to its value."""
        return self.tenures[-1].until is None


class Episode(Struct, frozen=True, kw_only=True):
    """A new regime that no release fits, since the time `since`."""

    since: datetime


def list_tenures(routes: Sequence[Route]) -> list[Tenure]:
    """Return the periods of the champions of one model, oldest first; `routes` are all of its routes, oldest first."""
    return _list_periods([(route, route.arm("champion")) for route in routes])


def _list_periods(served: Sequence[tuple[Route, Arm | None]]) -> list[Tenure]:
    """Return the periods of an arm of each route, oldest first."""
    tenures: list[Tenure] = []
    for route, champion in served:
        if tenures and tenures[-1].until is None:
            if champion is not None and champion.release == tenures[-1].release:
                continue
            is_undone = route.change in ("rollback", "unbind") or route.back
            ended = {"until": route.since, "rolled_back": is_undone}
            tenures[-1] = replace(tenures[-1], **ended)
        if champion is not None:
            tenures.append(
                Tenure(
                    release=champion.release,
                    since=route.since,
                    until=None,
                    change=route.change,
                    reason=route.reason,
                    verdict=route.verdict,
                )
            )
    return tenures


def list_regimes(books: BooksReader, environment: str, model: str) -> list[Regime]:
    """Return the regimes of a model in the order in which they were first served.

    A release belongs to the regime that the newest verdict before it named: one that was retrained while its champion
    fitted belongs to the regime of that champion. Without any verdict, it has a regime of its own. Each value of the
    key to which a release was bound is a regime too.
    """
    routes = list_routes(books, environment, model)
    found = [*_list_champion_regimes(books, environment, model, routes), *_list_bound_regimes(routes)]
    found.sort(key=lambda regime: regime.tenures[0].since)
    return [replace(regime, number=number) for number, regime in enumerate(found, 1)]


def _list_bound_regimes(routes: Sequence[Route]) -> list[Regime]:
    """Return a regime for each value to which a release was bound."""
    regimes = []
    for key, value in dict.fromkeys((route.key, arm.value) for route in routes for arm in route.bound):
        periods = _list_periods([(route, route.find_bound(value) if route.key == key else None) for route in routes])
        releases = tuple(dict.fromkeys(tenure.release for tenure in reversed(periods)))[::-1]
        regimes.append(Regime(number=0, start=None, releases=releases, tenures=tuple(periods), value=value))
    return regimes


def _list_champion_regimes(books: BooksReader, environment: str, model: str, routes: Sequence[Route]) -> list[Regime]:
    regimes: list[Regime] = []
    by_release: dict[str, int] = {}
    by_start: dict[datetime, int] = {}
    current = -1
    for tenure in list_tenures(routes):
        verdict = _find_verdict(books, environment, model, tenure)
        start = _read_start(verdict) if verdict else None
        if tenure.release in by_release:
            current = by_release[tenure.release]
        elif start is not None and start in by_start:
            current = by_start[start]
        elif start is not None or verdict is None or current < 0:
            current = len(regimes)
            regimes.append(Regime(number=current + 1, start=start, releases=(), tenures=()))
        by_release[tenure.release] = current
        if start is not None:
            by_start.setdefault(start, current)
        known = regimes[current]
        releases = (*(release for release in known.releases if release != tenure.release), tenure.release)
        regimes[current] = replace(known, releases=releases, tenures=(*known.tenures, tenure))
    return regimes


def list_recallable(books: BooksReader, environment: str, model: str) -> list[Arm]:
    """Return the release of each regime but the current one that can be recalled, the last one to serve first.

    It is the last release of a regime that served; one whose last period ended with a rollback is not among them.
    """
    arms = {arm.release: arm for route in list_routes(books, environment, model) for arm in route.arms}
    listed = list_regimes(books, environment, model)
    others = [regime for regime in listed if not regime.is_current and not regime.value]
    found = []
    for regime in sorted(others, key=lambda regime: regime.tenures[-1].since, reverse=True):
        last = {tenure.release: tenure for tenure in regime.tenures}
        served = [release for release in reversed(regime.releases) if not last[release].rolled_back]
        found += [arms[release] for release in served[:1]]
    return found


def list_earlier(books: BooksReader, environment: str, model: str, most: int = MOST_EARLIER) -> list[Arm]:
    """Return at most `most` earlier champions of a model, spread evenly over its history, the last one to serve first.

    One whose last period ended with a rollback is not among them, nor is the champion.
    """
    routes = list_routes(books, environment, model)
    arms = {arm.release: arm for route in routes for arm in route.arms}
    last = {tenure.release: tenure for tenure in list_tenures(routes)}
    served = [tenure for tenure in last.values() if tenure.until is not None and not tenure.rolled_back]
    ordered = sorted(served, key=lambda tenure: tenure.since, reverse=True)
    chosen = [ordered[index * len(ordered) // most] for index in range(most)] if len(ordered) > most else ordered
    return [arms[tenure.release] for tenure in chosen]


def list_kept_releases(books: BooksReader, environment: str, model: str) -> set[str]:
    """Return the releases that a recall needs; none if no run has judged the regimes of the model.

    They are the last release of each regime, the last one that was not rolled back, and the earlier champions that are
    compared if the quality of the champion is too low.
    """
    if not books.verdicts.find(check="regime", model=model, environment=environment, limit=1):
        return set()
    kept = {arm.release for arm in list_recallable(books, environment, model)}
    kept |= {arm.release for arm in list_earlier(books, environment, model)}
    return kept | {regime.releases[-1] for regime in list_regimes(books, environment, model)}


def find_episode(books: BooksReader, environment: str, route: Route) -> Episode | None:
    """Return the new regime that the newest verdict on the champion of a route found; None if there is none.

    A verdict from before the route was changed counts for nothing.
    """
    champion = route.arm("champion")
    newest = books.verdicts.find(check="regime", model=route.model, environment=environment, newest=True, limit=1)
    if champion is None or not newest or not is_novel(newest[0]) or newest[0].subject != champion.release:
        return None
    if newest[0].time is not None and newest[0].time < route.since:
        return None
    return convert(newest[0].evidence["novel"], Episode)


def find_start(books: BooksReader, environment: str, model: str) -> datetime | None:
    """Return the time of the first row of the regime for which the champion of a model was recalled or trained.

    Earlier rows say nothing about the champion: they belong to the regime before. None if it is unknown.
    """
    tenures = list_tenures(list_routes(books, environment, model))
    verdict = _find_verdict(books, environment, model, tenures[-1]) if tenures else None
    return _read_start(verdict) if verdict else None


def find_replaced(books: BooksReader, environment: str, model: str) -> str:
    """Return the release that the champion replaced, if the champion was recalled; empty otherwise."""
    tenures = list_tenures(list_routes(books, environment, model))
    return tenures[-2].release if len(tenures) > 1 and tenures[-1].change == "recall" else ""


def find_regime_start(books: BooksReader, environment: str, model: str) -> datetime | None:
    """Return the time of the first row of the current regime of a model; None if no regime was found to begin."""
    newest = books.verdicts.find(check="regime", model=model, environment=environment, newest=True, limit=1)
    return _read_start(newest[0]) if newest else None


def list_requests(books: BooksReader, environment: str, model: str, start: datetime | None) -> list[int]:
    """Return how many labelled rows a regime had at each request of a training, the newest request first.

    A request whose jobs were all dropped, for example because its rows were not delivered yet, does not count.
    """
    jobs = books.jobs.find(model=model, newest=True, limit=2 * _MOST_DROPPED)
    # One verdict can fire several triggers.
    dropped = {job.event for job in jobs if job.state == "dropped"} - {
        job.event for job in jobs if job.state != "dropped"
    }
    events = books.events.find(kind="verdict", environment=environment, newest=True, limit=_MOST_DROPPED)
    refused = {event.cause for event in events if event.id in dropped}
    requests = books.verdicts.find(
        check="regime", action="retrain", model=model, environment=environment, newest=True, limit=_MOST_REQUESTS
    )
    return [
        int(verdict.evidence["of_regime"])
        for verdict in requests
        if start is not None
        and _read_start(verdict) == start
        and "of_regime" in verdict.evidence
        and verdict.id not in refused
    ]


def is_novel(verdict: Verdict) -> bool:
    """Return whether a verdict found that the regime is new."""
    return bool(verdict.evidence.get("novel"))


def _find_verdict(books: BooksReader, environment: str, model: str, tenure: Tenure) -> Verdict | None:
    """Return the verdict that caused a recall, or the newest verdict on regimes before a period began."""
    if tenure.change == "recall":
        with suppress(NotFound):
            return books.verdicts.get(tenure.verdict)
    before = uuid7(tenure.since + timedelta(milliseconds=1), 0)
    newest = books.verdicts.find(
        check="regime", model=model, environment=environment, newest=True, limit=1, before=before
    )
    return newest[0] if newest else None


def _read_start(verdict: Verdict) -> datetime | None:
    start = verdict.evidence.get("start")
    return datetime.fromisoformat(start) if start else None
