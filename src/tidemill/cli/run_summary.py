"""Prints the result of a run in a few lines: its rows, its metrics beside the baseline, its verdict and its release."""

from contextlib import suppress
from typing import TYPE_CHECKING

from tidemill.cli import output
from tidemill.core.check import SchemaEvidence, Verdict
from tidemill.core.metric import METRICS, find_metric_info
from tidemill.core.run import Metrics, Run
from tidemill.errors import TidemillError
from tidemill.evidence.formatting import format_number

if TYPE_CHECKING:
    from tidemill.flow.session import Session

_WAITING_KINDS = ("release.waiting", "approval.needed", "watch.missing", "model.frozen", "release.retired")
_MAX_EVENTS = 20
_MAX_OWN_METRICS = 3


def print_summary(session: "Session", run: Run, *, succeeded: bool) -> None:
    """Print the result of a run that succeeded, or what a run that was stopped has measured."""
    books = session.workspace.ledger
    steps = books.steps.find(run=run.id)
    reused = sum(step.state == "cached" for step in steps)
    how = f"{len(steps)} steps" + (f", {reused} of them from the cache" if reused else "")
    if succeeded:
        output.out.print(f"{run.pipeline} done in {run.seconds or 0:.1f} s ({how})  run {output.shorten_id(run.id)}")
    verdicts = books.verdicts.find(run=run.id)
    _print_rows([verdict for verdict in verdicts if verdict.check == "schema"])
    measured = read_metrics(session, run.id)
    _print_metrics(measured, succeeded=succeeded)
    if not succeeded:
        return
    for verdict in [verdict for verdict in verdicts if verdict.check == "gate"][-1:]:
        output.out.print(f"  gate: {verdict.outcome}: {verdict.reason}")
    _print_releases(session, run.id)
    if measured:
        shown = output.shorten_id(run.id)
        output.out.print(f"next: `tidemill serve`; every step and metric: `tidemill runs show {shown}`")


def _print_rows(verdicts: list[Verdict]) -> None:
    accepted = [verdict for verdict in verdicts if not verdict.stops]
    rows = sum(verdict.read(SchemaEvidence).rows for verdict in accepted)
    noun = "batch" if len(accepted) == 1 else "batches"
    if accepted:
        output.out.print(f"  rows: {rows:,} new in {len(accepted)} accepted {noun}")


def read_metrics(session: "Session", run: str) -> dict[str, Metrics]:
    """Return the metrics of a run by their rows (test, baseline, train), without those that were collected."""
    from tidemill.blobs.artifacts import read_artifact

    books = session.workspace.ledger
    found: dict[str, Metrics] = {}
    for step in books.steps.find(run=run) if run else ():
        if step.step.partition("-")[0] not in ("measure_on", "measure_baseline"):
            continue
        for digest in step.outputs.values():
            with suppress(TidemillError):
                measured: Metrics = read_artifact(session.workspace.blobs, books.artifacts.get(digest), Metrics)
                found[measured.about] = measured
    return found


def _print_metrics(measured: dict[str, Metrics], *, succeeded: bool) -> None:
    test = measured.get("test")
    if test is None:
        return
    baseline = measured.get("baseline", Metrics(values={}))
    names = [name for name, info in METRICS.items() if info.standard and name in test.values]
    names += [name for name in test.values if name not in METRICS][:_MAX_OWN_METRICS]
    rows = []
    for name in names:
        low, high = test.intervals.get(name, (None, None))
        interval = f"{format_number(low)} to {format_number(high)}" if low is not None else ""
        cells = [find_metric_info(name).words, format_number(test.values[name]), interval]
        rows.append([*cells, format_number(baseline.values.get(name))])
    counted = f"{test.count:,} test rows" if test.count else "test rows"
    columns = (counted, "value", "interval", "baseline")
    output.print_table(columns, rows, indent=2, errors=not succeeded)


def _print_releases(session: "Session", run_id: str) -> None:
    from tidemill.registry.publication import is_foreign
    from tidemill.registry.routing import find_current_route

    books, environment = session.workspace.ledger, session.workspace.environment
    releases = books.releases.find(run=run_id)
    for release in releases:
        route = find_current_route(books, environment, release.name)
        on_board = session.workspace.board.routes().get(release.name)
        arm = next((a for a in route.arms if a.release == release.label), None) if route else None
        if arm is None or route is None:
            events = books.events.find(subject=release.label, newest=True, limit=_MAX_EVENTS)
            reasons = [event.announcement.reason for event in events if event.kind in _WAITING_KINDS]
            why = next((reason for reason in reasons if reason), "see `tidemill events list`")
            output.out.print(f"release {release.label} does not serve yet: {why}")
        elif on_board is None or on_board.version < route.version or is_foreign(books, environment, on_board):
            there = f"version {on_board.version} of the route" if on_board is not None else "no route"
            output.out.print(
                f"release {release.label} does not serve yet: its route is version {route.version}, and the board has "
                f"{there}; to publish it: `tidemill up`"
            )
        else:
            output.out.print(f"release {release.label} serves as {arm.role} ({arm.portion}): {route.reason}")
    if not releases:
        _print_equal_release(session, run_id)


def _print_equal_release(session: "Session", run_id: str) -> None:
    """Print the release of an earlier training with an equal model, and the reason of its last event."""
    from tidemill.blobs.artifacts import read_artifact

    books = session.workspace.ledger
    for step in books.steps.find(run=run_id, step="release"):
        for digest in step.outputs.values():
            with suppress(TidemillError):
                label = read_artifact(session.workspace.blobs, books.artifacts.get(digest), str)
                events = books.events.find(subject=label, newest=True, limit=1)
                reason = f" ({events[0].announcement.reason})" if events and events[0].announcement.reason else ""
                output.out.print(f"no new release: the model is equal to {label}{reason}")
