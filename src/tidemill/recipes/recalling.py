"""Recalling: an earlier release becomes the champion again if the regime that it knows has returned (auto deploy)."""

from datetime import datetime

from tidemill.checks.gate import Finding
from tidemill.checks.package import check_probe, check_signature_change
from tidemill.clock import Clock
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy
from tidemill.core.probe import Environments
from tidemill.core.resources import Board, Books, BooksReader, JournalReader, Packages, TableReader
from tidemill.errors import TidemillError
from tidemill.models.package import LOCK, is_portable
from tidemill.monitoring.alerts import alert
from tidemill.monitoring.earlier_releases import find_failed_window, judge_earlier
from tidemill.monitoring.keyed_regimes import judge_values
from tidemill.monitoring.regimes import RegimeCase
from tidemill.monitoring.regimes import judge_regime as judge
from tidemill.monitoring.stored_releases import StoredRelease, load_release
from tidemill.recipes.judging import probe_package
from tidemill.recipes.scoring import score_samples
from tidemill.registry.bindings import find_counts
from tidemill.registry.regimes import (
    find_episode,
    find_replaced,
    find_start,
    list_earlier,
    list_recallable,
    list_requests,
)
from tidemill.registry.rollout import Deployer
from tidemill.registry.routing import find_current_route
from tidemill.registry.withdrawals import list_learned_withdrawn

_NEWEST_VERDICTS, _NAMED = 20, 3


@step
def judge_regime(
    policy: ModelPolicy,
    now: datetime,
    books: BooksReader,
    packages: Packages,
    journal: JournalReader,
    tables: TableReader,
    environments: Environments,
    context: Context,
) -> list[Verdict]:
    """Return the verdict on the regime of the newest rows; none before there is a champion.

    If a key names the regimes, it is the verdict on the values of the key. Else a release that is recalled passes the
    checks of its package first: its signature is the champion's, it predicts the same in a fresh process with the
    packages of its lock as here, and it did not learn from a batch that a person has withdrawn since.
    """
    route = find_current_route(books, context.environment, policy.name)
    champion = route.arm("champion") if route else None
    if route is None or champion is None:
        return []
    if policy.regimes.key:
        counts = find_counts(books, context.environment, policy.name, policy.regimes.key)
        return [judge_values(policy, champion, route, counts, journal, now)]
    deployed = load_release(packages, champion.package).manifest.signature

    def examine(release: str, stored: StoredRelease) -> str:
        if withdrawn := list_learned_withdrawn(books, tables, context.environment, release):
            return f"it learned from withdrawn rows: {', '.join(withdrawn[:_NAMED])}"
        findings = list(check_signature_change(deployed, stored.manifest.signature, policy.gate))
        if not any(finding.outcome == "fail" for finding in findings):
            findings += _probe(stored, policy, environments)
        return "; ".join(finding.reason for finding in findings if finding.outcome == "fail")

    episode = find_episode(books, context.environment, route)
    start = find_start(books, context.environment, policy.name)
    current = episode.since if episode else start
    case = RegimeCase(
        champion,
        list_recallable(books, context.environment, policy.name),
        episode,
        start,
        list_requests(books, context.environment, policy.name, current),
        find_replaced(books, context.environment, policy.name),
    )
    verdict = judge(policy, case, packages, journal, now, examine)
    # A season that returns can look like a new regime: an earlier release that is proven to be better comes first.
    if verdict.action != "recall":
        judged = books.verdicts.find(
            check="performance",
            subject=champion.release,
            environment=context.environment,
            newest=True,
            limit=_NEWEST_VERDICTS,
        )
        if window := find_failed_window(policy, champion.release, judged, now):
            earlier = list_earlier(books, context.environment, policy.name, policy.regimes.candidates)
            better = judge_earlier(policy, champion, earlier, packages, journal, window, now, examine)
            verdict = better or verdict
    return [verdict]


def _probe(stored: StoredRelease, policy: ModelPolicy, environments: Environments) -> list[Finding]:
    """Check that a stored package still predicts its sample rows, here and in a fresh process with its lock."""
    model = stored.model
    try:
        _ = stored.inputs  # what the watch needs when it is the champion
        scores = score_samples(model)
    except Exception as error:  # noqa: BLE001 - a model of another version can fail in any way
        reason = f"its package cannot be loaded: {getattr(error, 'problem', None) or error}"
        return [Finding(about="package", outcome="fail", reason=reason)]
    if not is_portable(model):
        return []
    if LOCK not in model.files:
        return [Finding(about="package", outcome="fail", reason=f"its package has no lock ({LOCK})")]
    try:
        probe = probe_package(model, policy.gate, environments)
    except TidemillError as error:
        return [Finding(about="package", outcome="fail", reason=f"its package cannot be probed: {error.problem}")]
    findings = list(check_probe(probe, scores, policy.gate))
    if probe.warning:
        findings.append(Finding(about="package", outcome="fail", reason=probe.warning))
    return findings


@step
def recall_release(
    policy: ModelPolicy, verdicts: list[Verdict], books: Books, board: Board, clock: Clock, context: Context
) -> list[str]:
    """Make the release of a verdict the champion again; return the reasons of changed routes.

    If the policy names another key of the regimes than the route, the route gets it first.
    """
    deployer = Deployer(books, board, clock, context.environment, {"run": context.run})
    routes = [deployer.set_key(policy), *(deployer.recall(policy.name, verdict) for verdict in verdicts)]
    return [route.reason for route in routes if route is not None]


@step(cache=False)
def notify_recall(
    policy: ModelPolicy, verdicts: list[Verdict], books: Books, clock: Clock, context: Context
) -> list[str]:
    """Alert the recipients in the policy of a recall or of a new regime; return the recipients."""
    return alert(policy, verdicts, books, clock, context.environment, context.run)


@pipeline
def recalling(policy: ModelPolicy, now: datetime) -> None:
    """Judge the regime of the newest rows, recall an earlier release if it fits them better, and send alerts."""
    verdicts = judge_regime(policy, now)
    recall_release(policy, verdicts)
    notify_recall(policy, verdicts)
