"""`backtest` replays history under policies; `demo` replays a year of real flights."""

import time
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import Json
from tidemill.cli.tuning import store_promise_of, tune_policy
from tidemill.errors import InputError, TidemillError

if TYPE_CHECKING:
    from tidemill.backtest.comparison import BacktestResult
    from tidemill.core.policy import Policy
    from tidemill.project.project import Project


class Against(StrEnum):
    """The standard policies to compare with the policy of a project."""

    static = "static"
    weekly = "weekly"
    calendar = "calendar"
    drift = "drift"
    performance = "performance"
    cost = "cost"
    regret = "regret"
    cara = "cara"


ReportOption = Annotated[Path | None, typer.Option(help="The HTML report to write.")]


def backtest(
    begin: Annotated[str, typer.Option("--from", help="The first day, such as 2013-03-01.")] = "",
    end: Annotated[str, typer.Option("--to", help="The day after the last day.")] = "",
    policy: Annotated[
        list[Path] | None,
        typer.Option(help="A file with another policy, or with only the tables that differ; can be repeated."),
    ] = None,
    against: Annotated[
        list[Against] | None,
        typer.Option(help="A standard policy to compare with; can be repeated. Default: static and weekly."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="The number of replays; each has another random seed.")] = 1,
    shuffle: Annotated[
        bool,
        typer.Option(
            "--shuffle", help="Shuffle the rows, so that nothing changes over time: every alarm is a false alarm."
        ),
    ] = False,
    leaks: Annotated[
        bool,
        typer.Option(
            "--leaks", help="Compare the predictions of the live service with those of a backtest on the same rows."
        ),
    ] = False,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Search for training rows, a rhythm and limits that cost less, and propose changes to tidemill.toml.",
        ),
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Write the changes that --tune proposes.")] = False,
    budget: Annotated[str, typer.Option(help="The time for the search of --tune, such as 45m.")] = "30m",
    model: Annotated[str, typer.Option(help="The model. Default: the only model of the project.")] = "",
    environment: Annotated[
        str,
        typer.Option("--env", help="The environment whose journal --leaks reads, and whose ledger keeps the promise."),
    ] = "production",
    report: ReportOption = None,
    json: Json = False,
) -> None:
    """Replay history with the daemon on a virtual clock, and compare the policy with standard policies."""
    from tidemill.project.configuration import FILE, read_policy
    from tidemill.project.project import Project

    project = Project.find()
    if leaks:
        _report_leaks(project, environment, model, begin, end, json)
        return
    if tune:
        unused = {"--policy": policy, "--against": against, "--shuffle": shuffle, "--seeds": seeds > 1}
        if given := [name for name, value in unused.items() if value]:
            raise InputError(f"--tune cannot be combined with {given[0]}", "omit one of the two")
        tune_policy(
            project,
            model,
            begin,
            end,
            budget=budget,
            apply=apply,
            environment=environment,
            report=report,
            json=json,
        )
        return
    if apply:
        raise InputError("--apply has no effect without --tune", "add --tune")
    base = project.folder / FILE
    others = {file.stem: read_policy(file, base) for file in policy or []}
    if len(others) < len(policy or []):
        raise InputError("two policies have the same file name", "rename one file: its name is the name of the policy")
    reserved = {"loop", *Against} & set(others)
    if reserved:
        raise InputError(f"the name of policy {reserved.pop()!r} is reserved", "rename the file")
    beside = tuple(against or ((Against.static,) if shuffle else (Against.static, Against.weekly)))
    comparison = _compare(project, project.policy, others, model, begin, end, beside, seeds, shuffle)
    _report(comparison, report or project.state_folder / "backtest.html", json)
    if not shuffle and not comparison.disturbances:
        store_promise_of(project, environment, comparison)


def demo(report: ReportOption = None, json: Json = False) -> None:
    """Replay a year of real flights: check each day, detect drift, retrain, run canaries, promote."""
    from tidemill.backtest.compare import list_disturbances
    from tidemill.project.configuration import FILE, read_policy
    from tidemill.project.project import Project

    folder = _find_example()
    project = Project(folder, read_policy(folder / "demo.toml", folder / FILE))
    output.err.print(
        "A year of flights from New York, 2013. Question at scheduled departure: more than 15 minutes late?"
    )
    output.err.print("Planted disturbances:")
    for disturbance in list_disturbances(project.policy.backtest):
        output.err.print(f"  {disturbance.day}  {disturbance.about}")
    beside = (Against.static, Against.weekly)
    comparison = _compare(project, project.policy, {}, "", "2013-03-01", "2014-01-01", beside)
    _report(comparison, report or Path("tidemill-demo.html"), json)
    if not json:
        output.out.print("next: tidemill init mine --from YOUR_TABLE.csv --label COLUMN")


def _find_example() -> Path:
    file = Path(__file__).resolve()
    for folder in (file.parents[3] / "examples" / "flights", file.parents[1] / "examples" / "flights"):
        if (folder / "demo.toml").exists():
            return folder
    raise InputError("the flights example is not installed", "run the command from a clone of the repository")


def _compare(
    project: "Project",
    policy: "Policy",
    others: "dict[str, Policy]",
    model: str,
    begin: str,
    end: str,
    beside: tuple[Against, ...],
    seeds: int = 1,
    shuffle: bool = False,
) -> "BacktestResult":
    from tidemill.backtest.compare import compare
    from tidemill.backtest.period import choose_period
    from tidemill.backtest.policies import PolicyPlan, shuffle_history
    from tidemill.backtest.standards import build_standard

    period = choose_period(project, model, begin, end)
    if shuffle:
        policy, others = shuffle_history(policy), {name: shuffle_history(other) for name, other in others.items()}

    policies: dict[str, PolicyPlan] = {
        "loop": policy,
        **others,
    }
    width = max(len(name) for name in (*policies, *(name.value for name in beside))) + (2 if seeds > 1 else 0)
    start = time.monotonic()

    def report_progress(name: str, at: datetime, text: str) -> None:
        elapsed = time.monotonic() - start
        output.err.print(f"{elapsed:5.0f} s  {at:%Y-%m-%d}  {name:{width}} {text}")

    policies |= {
        name.value: build_standard(name.value, project, policy, model, period, report_progress) for name in beside
    }
    folder = project.state_folder / "backtest"
    return compare(project, policies, model, period, report_progress, keep=folder, seeds=range(seeds))


def _report_leaks(project: "Project", environment: str, model: str, begin: str, end: str, json: bool) -> None:
    from tidemill.backtest.skew import find_join_leaks, format_leak_report

    report = find_join_leaks(project, environment, model, begin, end)
    if json:
        output.print_json(report)
    else:
        output.out.print(format_leak_report(report))
    if report.has_leaks:
        raise typer.Exit(3)


def _report(comparison: "BacktestResult", report: Path, json: bool) -> None:
    from tidemill.backtest.findings import list_failures
    from tidemill.backtest.report import as_json, render, summary

    # The result of minutes of work is printed first, in case the report cannot be written.
    if json:
        output.print_json(as_json(comparison))
    else:
        output.out.print(summary(comparison))
    output.write_file(report.resolve(), render(comparison))
    if failures := list_failures(comparison):
        raise TidemillError(
            f"the comparison is not valid: {failures[0]}", "fix this error, then run the backtest again"
        )
