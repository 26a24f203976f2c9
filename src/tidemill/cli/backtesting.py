"""`backtest` replays history under policies; `demo` does it on a year of real flights."""

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.opening import Json
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.core.policy import Policy
    from tidemill.evidence.comparison import Comparison
    from tidemill.project.project import Project

Report = Annotated[Path | None, typer.Option(help="Where the HTML report goes.")]


def add_to(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("backtest")(backtest)
    app.command("demo")(demo)


def backtest(
    begin: Annotated[str, typer.Option("--from", help="The first day, such as 2013-03-01.")] = "",
    end: Annotated[str, typer.Option("--to", help="The day after the last.")] = "",
    policy: Annotated[list[Path] | None, typer.Option(help="Another policy, or the tables of it that differ.")] = None,
    model: Annotated[str, typer.Option(help="The model, where there are several.")] = "",
    report: Report = None,
    json: Json = False,
) -> None:
    """Replay history: the same daemon on a virtual clock, beside keeping the first model and a weekly calendar."""
    from tidemill.project.configuration import FILE, read_policy
    from tidemill.project.project import Project

    project = Project.here()
    base = project.folder / FILE
    others = {file.stem: read_policy(file, base) for file in policy or []}
    reserved = {"loop", "static", "weekly"} & set(others)
    if reserved:
        raise InputError(f"a policy cannot be called {reserved.pop()!r}", "rename the file")
    comparison = _compare(project, project.policy, others, model, begin, end)
    _tell(comparison, report or project.state_folder / "backtest.html", json)


def demo(report: Report = None, json: Json = False) -> None:
    """A year of real flights: the mill validates each day, notices the seasons, retrains, tries out, promotes."""
    from tidemill.project.configuration import FILE, read_policy
    from tidemill.project.project import Project

    folder = _example()
    project = Project(folder, read_policy(folder / "demo.toml", folder / FILE))
    output.err.print("A year of flights from New York, 2013. Asked at scheduled departure: more than 15 minutes late?")
    output.err.print("Planted on top:")
    for line in _planted(project.policy):
        output.err.print(f"  {line}", markup=False)
    comparison = _compare(project, project.policy, {}, "", "2013-03-01", "2014-01-01")
    _tell(comparison, report or Path("tidemill-demo.html"), json)
    if not json:
        output.out.print("next: tidemill init mine --from YOUR_TABLE.csv --label COLUMN")


def _example() -> Path:
    here = Path(__file__).resolve()
    for folder in (here.parents[3] / "examples" / "flights", here.parents[1] / "examples" / "flights"):
        if (folder / "demo.toml").exists():
            return folder
    raise InputError("the flights example is not here", "run it from a clone of the repository")


def _planted(policy: "Policy") -> list[str]:
    files = [f"{one.day}  {one.about or one.path}" for one in policy.backtest.planted]
    return sorted(files + [f"{one.at[:10]}  {one.about or one.pipeline}" for one in policy.backtest.firings])


def _compare(
    project: "Project", policy: "Policy", others: "dict[str, Policy]", model: str, begin: str, end: str
) -> "Comparison":
    from tidemill.daemon.compare import compare, static, weekly
    from tidemill.daemon.part import part_of

    part = part_of(project, model, begin, end)
    policies = {"loop": policy, "static": static(policy), **others, "weekly": weekly(policy, part.begin)}
    began = time.monotonic()

    def told(name: str, at: datetime, said: str) -> None:
        clock = time.monotonic() - began
        output.err.print(f"{clock:5.0f} s  {at:%Y-%m-%d}  {name:7} {said}", markup=False)

    return compare(project, policies, model, part, told, keep=project.state_folder / "backtest")


def _tell(comparison: "Comparison", report: Path, json: bool) -> None:
    from tidemill.web.report import as_json, render, summary

    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(render(comparison), encoding="utf-8")
    if json:
        output.as_json(as_json(comparison))
    else:
        output.out.print(summary(comparison), markup=False)
        output.out.print(f"\nreport: {report.resolve()}", markup=False)
    output.err.print(f"wrote {report}", markup=False) if json else None
