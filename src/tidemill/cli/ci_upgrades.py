"""`ci propose-upgrades`: tries newer versions of packages or of Python, and shows whether they change the model."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.ci import ci
from tidemill.cli.run import create_progress, describe_user_cause, stop_on_signal
from tidemill.cli.session import EnvironmentOption, Json, load_session
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.core.check import Verdict


@ci.command("propose-upgrades")
def propose_upgrades(
    package: Annotated[str, typer.Option(help="Only this package, and what it needs. Default: all packages.")] = "",
    python: Annotated[str, typer.Option(help="Another Python: a version such as 3.13, or its path.")] = "",
    model: Annotated[str, typer.Option(help="The model to train. Default: the only one.")] = "",
    pipeline: Annotated[str, typer.Option(help="The pipeline that trains it.")] = "training",
    write: Annotated[bool, typer.Option("--write", help="Write the new lock if the models are equivalent.")] = False,
    env: EnvironmentOption = "production",
    json: Json = False,
) -> int:
    """Find the newest versions that fit together, and compare the models of both environments.

    The same training runs in the environment of the lock and in the new one. Both models answer the last month of the
    journal, or the rows of the training. If answers or metrics differ beyond the limits of the policy, the package
    that made the difference is named.
    """
    from tidemill.delivery.proposals import ProjectLock
    from tidemill.delivery.upgrades import list_version_changes
    from tidemill.flow.engine import run as run_pipeline

    session = load_session(env, create=True)
    project = session.project
    settings = project.policy.ci
    names = [name for name in ("uv.lock", "pyproject.toml", settings.lock) if (project.folder / name).is_file()]
    lock = ProjectLock({name: (project.folder / name).read_bytes() for name in names}, settings.lock)
    old = lock.read()
    new, content = lock.propose(package, python)
    changes = list_version_changes(old, new)
    if not changes:
        message = f"{package or 'every package'} of {lock.file} has the newest version that fits"
        output.print_json({"changes": [], "verdict": None}) if json else output.out.print(message)
        return 0
    progress = create_progress(session, quiet=json)
    params: dict[str, Any] = {"settings": project.policy.upgrade, "old": old, "new": new, "training_pipeline": pipeline}
    if model:
        params["model"] = model
    if not json:
        for change in changes:
            output.err.print(f"  {change}")
    with stop_on_signal(progress):
        done, failed = run_pipeline(
            session, session.pipeline("upgrade"), params, cause=describe_user_cause(session), progress=progress.report
        )
    verdicts = session.workspace.ledger.verdicts.find(run=done.id)
    if json:
        output.print_json({"changes": changes, "verdict": verdicts[0] if verdicts else None})
    elif verdicts:
        _print_verdict(verdicts[0])
    if failed is not None:
        raise failed
    if write:
        if python:
            raise InputError("--write does not write the version of Python", "write it to .python-version")
        (project.folder / lock.file).write_bytes(content)
        output.err.print(f"wrote {lock.file}")
    return 0


def _print_verdict(verdict: "Verdict") -> None:
    difference = verdict.evidence["difference"]
    output.out.print(f"{verdict.outcome}: {verdict.reason}")
    if difference["rows"]:
        output.out.print(
            f"  {difference['rows']:,} answers ({verdict.evidence['answered']}): largest difference "
            f"{difference['largest']:.3g}, mean {difference['mean']:.3g}; other class {difference['decisions']:.1%}"
        )
        rows = [[name, f"{old:.4f}", f"{new:.4f}"] for name, (old, new) in sorted(difference["metrics"].items())]
        output.print_table(("metric", "before", "after"), rows, indent=2)
