"""Watching: judges what answers in production, and settles what is on trial."""

from datetime import datetime

from tidemill.clock import Clock
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import Board, Books, BooksReader, JournalReader, Packages
from tidemill.monitoring.alerts import alert
from tidemill.monitoring.watch import validate_online, watch
from tidemill.registry.rollout import Deployer
from tidemill.registry.routing import current


@step
def judge_champion(
    policy: ModelPolicy, now: datetime, books: BooksReader, packages: Packages, journal: JournalReader, context: Context
) -> list[Verdict]:
    """A verdict for each value of the watch policy; none before there is a champion."""
    route = current(books, context.environment, policy.name)
    champion = route.arm("champion") if route else None
    if route is None or champion is None:
        return []
    return watch(policy, packages.load(champion.package), route, journal, now)


@step
def judge_challenger(
    policy: ModelPolicy, now: datetime, books: BooksReader, packages: Packages, journal: JournalReader, context: Context
) -> list[Verdict]:
    """The verdict of the live traffic on a challenger, if one is on trial."""
    route = current(books, context.environment, policy.name)
    if route is None or route.arm("challenger") is None:
        return []
    signatures = {arm.release: packages.load(arm.package).manifest.signature for arm in route.arms}
    return validate_online(policy, signatures, route, journal, now)


@step
def settle(
    policy: ModelPolicy, verdicts: list[Verdict], books: Books, board: Board, clock: Clock, context: Context
) -> list[str]:
    """Promote or roll back as the traffic's verdict says; the reasons of the routes that were changed."""
    deployer = Deployer(books, board, clock, context.environment)
    settled = [deployer.settle(policy.name, verdict) for verdict in verdicts]
    return [route.reason for route in settled if route is not None]


@step
def fall_back(
    policy: ModelPolicy, verdicts: list[Verdict], books: Books, board: Board, clock: Clock, context: Context
) -> list[str]:
    """Go back to the champion before, where a value of the watch calls for it; the reasons of changed routes."""
    deployer = Deployer(books, board, clock, context.environment)
    changed = [deployer.fall_back(policy.name, verdict) for verdict in verdicts]
    return [route.reason for route in changed if route is not None]


@step(cache=False)
def tell(
    policy: ModelPolicy, judged: list[Verdict], trial: list[Verdict], books: Books, clock: Clock, context: Context
) -> list[str]:
    """Tell those whom the policy names of what calls for something; who was told."""
    return alert(policy, [*judged, *trial], books, clock, context.environment, context.run)


@pipeline
def watching(policy: ModelPolicy, now: datetime) -> None:
    """Settle the challenger first; then judge the champion, and tell."""
    trial = judge_challenger(policy, now)
    settle(policy, trial)
    judged = judge_champion(policy, now)
    fall_back(policy, judged)
    tell(policy, judged, trial)
