"""`backtest` replays history under policies; `demo` does it on a year of real flights."""

import time
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import Json
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.backtest.comparison import BacktestResult
    from tidemill.core.policy import Policy
    from tidemill.project.project import Project


class Against(StrEnum):
    """The policies that are laid beside a project's own: those that everybody has already."""

    static = "static"
    weekly = "weekly"
    calendar = "calendar"


Report = Annotated[Path | None, typer.Option(help="Where the HTML report goes.")]


def backtest(
    begin: Annotated[str, typer.Option("--from", help="The first day, such as 2013-03-01.")] = "",
    end: Annotated[str, typer.Option("--to", help="The day after the last.")] = "",
    policy: Annotated[list[Path] | None, typer.Option(help="Another policy, or the tables of it that differ.")] = None,
    against: Annotated[
        list[Against] | None, typer.Option(help="What to lay beside it; without it: static and weekly.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Replay everything so many times, each with other luck.")] = 1,
    shuffle: Annotated[
        bool,
        typer.Option("--shuffle", help="Replay a history in which nothing changes: whatever fires is a false alarm."),
    ] = False,
    leaks: Annotated[
        bool, typer.Option("--leaks", help="Compare what was served live with what a backtest gives the same rows.")
    ] = False,
    model: Annotated[str, typer.Option(help="The model, where there are several.")] = "",
    environment: Annotated[str, typer.Option(help="Whose journal --leaks reads.")] = "production",
    report: Report = None,
    json: Json = False,
) -> None:
    """Replay history: the same daemon on a virtual clock, beside keeping the first model and a weekly calendar."""
    from tidemill.project.configuration import FILE, read_policy
    from tidemill.project.project import Project

    project = Project.here()
    if leaks:
        _look_for_leaks(project, environment, model, begin, end, json)
        return
    base = project.folder / FILE
    others = {file.stem: read_policy(file, base) for file in policy or []}
    if len(others) < len(policy or []):
        raise InputError("two policies have the same file name", "rename one: a policy is called by its file")
    reserved = {"loop", *Against} & set(others)
    if reserved:
        raise InputError(f"a policy cannot be called {reserved.pop()!r}", "rename the file")
    beside = tuple(against or ((Against.static,) if shuffle else (Against.static, Against.weekly)))
    comparison = _compare(project, project.policy, others, model, begin, end, beside, seeds, shuffle)
    _tell(comparison, report or project.state_folder / "backtest.html", json)


def demo(report: Report = None, json: Json = False) -> None:
    """A year of real flights: the mill validates each day, notices the seasons, retrains, tries out, promotes."""
    from tidemill.backtest.compare import list_disturbances
    from tidemill.project.configuration import FILE, read_policy
    from tidemill.project.project import Project

    folder = _example()
    project = Project(folder, read_policy(folder / "demo.toml", folder / FILE))
    output.err.print("A year of flights from New York, 2013. Asked at scheduled departure: more than 15 minutes late?")
    output.err.print("Planted disturbances:")
    for disturbance in list_disturbances(project.policy.backtest):
        output.err.print(f"  {disturbance.day}  {disturbance.about}")
    beside = (Against.static, Against.weekly)
    comparison = _compare(project, project.policy, {}, "", "2013-03-01", "2014-01-01", beside)
    _tell(comparison, report or Path("tidemill-demo.html"), json)
    if not json:
        output.out.print("next: tidemill init mine --from YOUR_TABLE.csv --label COLUMN")


def _example() -> Path:
    here = Path(__file__).resolve()
    for folder in (here.parents[3] / "examples" / "flights", here.parents[1] / "examples" / "flights"):
        if (folder / "demo.toml").exists():
            return folder
    raise InputError("the flights example is not here", "run it from a clone of the repository")


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
    from tidemill.backtest.policies import (
        PolicyPlan,
        build_calendar_policy,
        build_static_policy,
        build_weekly_policy,
        shuffle_history,
    )

    period = choose_period(project, model, begin, end)
    if shuffle:
        policy, others = shuffle_history(policy), {name: shuffle_history(other) for name, other in others.items()}
    made: dict[Against, PolicyPlan] = {
        Against.static: build_static_policy(policy),
        Against.weekly: build_weekly_policy(policy, period.begin),
        Against.calendar: lambda first: build_calendar_policy(policy, period, first.trainings),
    }
    policies: dict[str, PolicyPlan] = {"loop": policy, **others, **{one.value: made[one] for one in beside}}
    width = max(len(name) for name in policies) + (2 if seeds > 1 else 0)
    began = time.monotonic()

    def report_progress(name: str, at: datetime, message: str) -> None:
        clock = time.monotonic() - began
        output.err.print(f"{clock:5.0f} s  {at:%Y-%m-%d}  {name:{width}} {message}")

    kept = project.state_folder / "backtest"
    return compare(project, policies, model, period, report_progress, keep=kept, seeds=range(seeds))


def _look_for_leaks(project: "Project", environment: str, model: str, begin: str, end: str, json: bool) -> None:
    from tidemill.backtest.skew import find_join_leaks, format_leak_report

    report = find_join_leaks(project, environment, model, begin, end)
    if json:
        output.as_json(report)
    else:
        output.out.print(format_leak_report(report))
    if report.has_leaks:
        raise typer.Exit(3)


def _tell(comparison: "BacktestResult", report: Path, json: bool) -> None:
    from tidemill.backtest.report import as_json, render, summary

    # What took minutes is told before a report that cannot be written.
    if json:
        output.as_json(as_json(comparison))
    else:
        output.out.print(summary(comparison))
    output.write(report.resolve(), render(comparison))
