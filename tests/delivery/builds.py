"""Builds for tests: of the invented shop, with the packages of this environment."""

import importlib.metadata
import io
import platform
import zipfile
from pathlib import Path

from tidemill.core.build import Build
from tidemill.flow.session import Session

_NOT_IN_BUILDS = ("tidemill",)


def list_installed() -> dict[str, str]:
    """The packages of this environment that Tidemill needs to run, without Tidemill."""
    from packaging.requirements import Requirement

    needed, waiting = {}, ["tidemill"]
    while waiting:
        name = waiting.pop()
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            key = requirement.name.lower().replace("_", "-")
            if key in needed or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            needed[key] = importlib.metadata.version(requirement.name)
            waiting.append(requirement.name)
    return {name: version for name, version in needed.items() if name not in _NOT_IN_BUILDS}


def write_wheel(project: Path) -> bytes:
    """The files of a project as a wheel: one package folder."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for file in sorted(project.rglob("*")):
            name = file.relative_to(project).as_posix()
            if file.is_file() and file.suffix in (".py", ".toml") and not name.startswith((".", "tests")):
                archive.writestr(zipfile.ZipInfo(f"shop_pipeline/{name}", (1980, 1, 1, 0, 0, 0)), file.read_bytes())
    return sink.getvalue()


def add_build(session: Session, number: int, *, state: str = "passed", **changes: object) -> Build:
    """A build of the session's project, in the ledger."""
    wheel = session.workspace.blobs.put(write_wheel(session.project.folder))
    fields = {
        "id": session.clock.mint(),
        "project": session.project.name,
        "number": number,
        "commit": f"{number:040x}",
        "state": state,
        "created": session.clock.now(),
        "environment": "ci",
        "branch": "main",
        "authors": ("ada@example.org",),
        "pusher": "ada",
        "python": platform.python_version(),
        "packages": list_installed(),
        "artifacts": {"wheel": wheel},
    }
    return session.workspace.ledger.builds.add(Build(**(fields | changes)))  # type: ignore[arg-type]
