"""`backtest --tune`: searches a policy, prints its report and its difference, and writes it with `--apply`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.cli import output

if TYPE_CHECKING:
    from tidemill.backtest.comparison import BacktestResult
    from tidemill.backtest.tune import TuningResult
    from tidemill.core.policy import Policy
    from tidemill.project.project import Project


def tune_policy(
    project: "Project",
    model: str,
    begin: str,
    end: str,
    *,
    budget: str,
    apply: bool,
    environment: str,
    report: Path | None,
    json: bool,
) -> None:
    """Search for a policy within a budget, and print what it proposes."""
    from tidemill.backtest import tuning_report
    from tidemill.backtest.period import choose_period
    from tidemill.backtest.tune import tune
    from tidemill.clock import parse_duration
    from tidemill.errors import TidemillError
    from tidemill.project.configuration import FILE
    from tidemill.project.editing import edit_policy, require_unchanged, show_difference, write_policy

    seconds = parse_duration(budget)
    period = choose_period(project, model, begin, end)
    start = time.monotonic()

    def report_progress(text: str) -> None:
        output.err.print(f"{time.monotonic() - start:5.0f} s  {text}")

    result, policy = tune(project, model, period, seconds, project.state_folder / "tuning", report_progress)
    file = project.folder / FILE
    before = after = file.read_text(encoding="utf-8-sig")
    failed: TidemillError | None = None
    if result.changes_policy:
        try:
            require_unchanged(file, project.policy)
            after = edit_policy(file, project.policy, policy)
        except TidemillError as error:
            failed = error
    difference = show_difference(before, after)
    # The result of minutes of work is printed first, in case a file cannot be written.
    if json:
        output.print_json(tuning_report.as_json(result, difference))
    else:
        output.out.print(tuning_report.summary(result))
        if difference:
            output.out.print(f"\n{difference}\n")
    if result.evaluations:
        output.write_file(
            (report or project.state_folder / "tuning.html").resolve(), tuning_report.render(result, difference)
        )
        _store_promises(project, policy, environment, result)
    if failed is not None:
        raise failed
    if not result.changes_policy:
        return
    if apply:
        write_policy(file, after)
        output.err.print(f"wrote {file}")
    elif not json:
        output.out.print("next: the same command with --apply writes these changes; no replay is repeated")


def store_promise_of(project: "Project", environment: str, comparison: "BacktestResult") -> None:
    """Store what a backtest states about the policy of a project; a backtest without labels states nothing."""
    from tidemill.backtest.promise import state_promise, store_promise
    from tidemill.compose.session import open_session

    result = comparison.outcomes[0]
    if result.weeks:
        session = open_session(project, environment)
        promise = state_promise(project.policy, comparison.model, result, comparison.period, session, by="backtest")
        store_promise(session, promise)
        output.err.print("stored what this backtest promises of the policy: see `tidemill policy status`")


def _store_promises(project: "Project", policy: "Policy", environment: str, result: "TuningResult") -> None:
    """Store what the later rows state about the proposed policy and about the present one."""
    from tidemill.backtest.promise import state_promise, store_promise
    from tidemill.backtest.tune import TUNED, WRITTEN
    from tidemill.compose.session import open_session

    session = open_session(project, environment)
    written = WRITTEN if result.settings else TUNED
    stated = {written: project.policy} | ({TUNED: policy} if result.changes_policy else {})
    for name, judged in stated.items():
        promise = state_promise(judged, result.model, result.results[name], result.judge, session, by="tune")
        store_promise(session, promise)
