"""Watching: evaluates the champion in production, and decides on a canary."""

from datetime import datetime

from msgspec.structs import replace

from tidemill.checks.retraining import check_retrainings
from tidemill.clock import Clock
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import Board, Books, BooksReader, JournalReader, Packages
from tidemill.core.route import Arm, Route
from tidemill.core.watch import DETECTORS
from tidemill.monitoring.alerts import alert
from tidemill.monitoring.canary import find_canary_start, validate_online
from tidemill.monitoring.keyed_regimes import judge_binding
from tidemill.monitoring.repetition import parse_repetition
from tidemill.monitoring.stored_releases import load_release
from tidemill.monitoring.watch import watch
from tidemill.registry.retrainings import list_unhelpful
from tidemill.registry.rollout import Deployer
from tidemill.registry.routing import find_current_route, list_routes
from tidemill.registry.waiting import find_waiting

_OF_CHAMPION = ("learning", "age", "growth", "silence")  # not of releases that are bound to a value
_EARLIER = 9  # evaluations of a value: the most that its repetition can name


@step
def judge_champion(
    policy: ModelPolicy, now: datetime, books: BooksReader, packages: Packages, journal: JournalReader, context: Context
) -> list[Verdict]:
    """Return a verdict for each value of the watch policy; none before there is a champion.

    A release that is bound to a value of the key is judged too, on its own rows: by the metrics and the drift of the
    policy, and against the champion. Its regime may be absent for any time, so its age and its silence are no faults.
    """
    route = find_current_route(books, context.environment, policy.name)
    champion = route.arm("champion") if route else None
    if route is None or champion is None:
        return []
    verdicts = _watch_arm(policy, route, champion, books, packages, journal, now)
    values = tuple(value for value in policy.watch.values if value.value not in _OF_CHAMPION)
    for arm in route.bound:
        own = replace(policy, watch=replace(policy.watch, values=values))
        evidence = {"key": route.key, "value": arm.value}
        found = _watch_arm(own, route, arm, books, packages, journal, now)
        verdicts += [replace(verdict, evidence=verdict.evidence | evidence) for verdict in found]
        releases = load_release(packages, arm.package), load_release(packages, champion.package)
        verdicts.append(judge_binding(policy, route, arm, releases, journal, now))
    return verdicts


def _watch_arm(
    policy: ModelPolicy,
    route: Route,
    arm: Arm,
    books: BooksReader,
    packages: Packages,
    journal: JournalReader,
    now: datetime,
) -> list[Verdict]:
    """Return the verdicts of the watch on one arm of a route, as if it were the champion."""
    repeated = {
        "change" if value.value in DETECTORS else value.value
        for value in policy.watch.values
        if parse_repetition(value) != (1, 1)
    }
    checks = {"performance", "learning", *repeated}
    earlier = [
        verdict
        for check in sorted(checks & {"performance", "drift", "change", "learning", "age", "growth", "silence"})
        for verdict in books.verdicts.find(
            check=check,
            subject=arm.release,
            environment=route.environment,
            newest=True,
            limit=_EARLIER * len(policy.watch.values),
        )
    ]
    # A change that was reported for an earlier champion is not new.
    reported = books.verdicts.find(
        check="drift",
        model=policy.name,
        environment=route.environment,
        newest=True,
        limit=_EARLIER * len(policy.watch.values) * (1 + len(route.bound)),
    )
    alone = replace(route, arms=(replace(arm, role="champion"),))
    return watch(policy, packages.load(arm.package), alone, journal, now, earlier, reported)


@step
def judge_challenger(
    policy: ModelPolicy, now: datetime, books: BooksReader, packages: Packages, journal: JournalReader, context: Context
) -> list[Verdict]:
    """Return the verdict on a challenger by its live traffic, and one on a champion that fails to answer."""
    routes = list_routes(books, context.environment, policy.name)
    if not routes:
        return []
    route, since = routes[-1], find_canary_start(routes)
    is_canary = route.arm("challenger") is not None
    signatures = {arm.release: packages.load(arm.package).manifest.signature for arm in route.arms if is_canary}
    is_awaited = is_canary and find_waiting(books, context.environment, policy.name, routes) is not None
    return validate_online(policy, signatures, route, journal, now, since, is_awaited=is_awaited)


@step
def decide_canary(
    policy: ModelPolicy, verdicts: list[Verdict], books: Books, board: Board, clock: Clock, context: Context
) -> list[str]:
    """Promote the challenger or roll it back by its verdict, then start a release that waits for its end.

    Return the reasons of changed routes.
    """
    deployer = Deployer(books, board, clock, context.environment, {"run": context.run})
    routes = [deployer.apply_canary_verdict(policy.name, verdict) for verdict in verdicts]
    routes.append(deployer.deploy_waiting(policy))
    return [route.reason for route in routes if route is not None]


@step
def roll_back_champion(
    policy: ModelPolicy, verdicts: list[Verdict], books: Books, board: Board, clock: Clock, context: Context
) -> list[str]:
    """Restore the previous champion, or unbind a release, if a verdict requires it; return why routes changed."""
    deployer = Deployer(books, board, clock, context.environment, {"run": context.run})
    routes = [deployer.apply_watch_verdict(policy.name, verdict) for verdict in verdicts]
    return [route.reason for route in routes if route is not None]


@step(cache=False)
def judge_retrainings(
    policy: ModelPolicy, watch_verdicts: list[Verdict], books: BooksReader, context: Context
) -> list[Verdict]:
    """Return a verdict once, when a retraining is due again although several in a row did not help."""
    if not any(verdict.action == "retrain" for verdict in watch_verdicts):
        return []
    unhelpful = list_unhelpful(books, context.environment, policy.name)
    if len(unhelpful) < policy.watch.experiment_after:
        return []
    since = unhelpful[-1].time.isoformat()
    reported = books.verdicts.find(
        check="retraining", subject=policy.name, environment=context.environment, newest=True, limit=1
    )
    if reported and reported[0].evidence.get("since") == since:
        return []
    reasons, checks = ([getattr(retraining, name) for retraining in unhelpful] for name in ("reason", "check"))
    limit = policy.watch.experiment_after
    return [check_retrainings(policy.name, reasons, since=since, limit=limit, checks=checks)]


@step(cache=False)
def notify(
    policy: ModelPolicy,
    watch_verdicts: list[Verdict],
    traffic_verdicts: list[Verdict],
    retraining_verdicts: list[Verdict],
    books: Books,
    clock: Clock,
    context: Context,
) -> list[str]:
    """Alert the recipients in the policy of verdicts that call for an action; return the recipients."""
    verdicts = [*watch_verdicts, *traffic_verdicts, *retraining_verdicts]
    return alert(policy, verdicts, books, clock, context.environment, context.run)


@pipeline
def watching(policy: ModelPolicy, now: datetime) -> None:
    """Decide on the challenger first; then judge the champion, and send alerts."""
    traffic_verdicts = judge_challenger(policy, now)
    decide_canary(policy, traffic_verdicts)
    watch_verdicts = judge_champion(policy, now)
    roll_back_champion(policy, watch_verdicts)
    notify(policy, watch_verdicts, traffic_verdicts, judge_retrainings(policy, watch_verdicts))
