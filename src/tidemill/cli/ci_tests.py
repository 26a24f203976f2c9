"""`ci generate-tests` and `ci coverage`: the ML tests of a project."""

import importlib.util
from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.ci import ci
from tidemill.cli.session import Json
from tidemill.errors import TidemillError

_STATES = {"edited": "edited by a person: kept", "unchanged": "up to date"}


@ci.command("generate-tests")
def generate_tests(
    sample: Annotated[
        bool,
        typer.Option(
            "--sample", help="Also write a sample of the rows to tests/reference/, for machines without data."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Write the missing ML tests of the project, and update those that nobody has edited."""
    from tidemill.project.generated_tests import write_test_files
    from tidemill.project.project import Project

    project = Project.find()
    files = [{"path": file.path, "state": file.state} for file in write_test_files(project.folder)]
    if sample:
        _require_pytest()
        from tidemill.testing.kit import take_sample, write_references

        for policy in project.policy.models.values():
            for file in write_references(take_sample(project, policy)):
                files.append({"path": file.relative_to(project.folder).as_posix(), "state": "written"})
    if json:
        output.print_json(files)
        return
    output.print_table(("file", "state"), [[file["path"], _STATES.get(file["state"], file["state"])] for file in files])
    output.err.print("next: python -m pytest tests")


@ci.command("coverage")
def coverage(json: Json = False) -> None:
    """List the kinds of ML tests that the project has, and how to add those that it lacks."""
    from tidemill.project.project import Project

    _require_pytest()
    from tidemill.testing.coverage import measure_coverage

    measured = measure_coverage(Project.find().folder)
    if json:
        output.print_json(measured)
        return
    rows = [[kind.kind, str(len(kind.tests)), kind.add or kind.meaning] for kind in measured.kinds]
    output.print_table(("kind", "tests", "meaning, or how to add it"), rows)
    lacking = ", ".join(measured.lacking)
    output.out.print(f"the project lacks: {lacking}" if lacking else "the project has every kind of test")


def _require_pytest() -> None:
    if importlib.util.find_spec("pytest") is None:
        raise TidemillError("pytest is not installed", "pip install pytest")
