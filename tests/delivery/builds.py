"""Builds for tests: of the invented shop, with the packages of this environment."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from tidemill.core.build import Build
from tidemill.delivery.wheel import write_project_wheel
from tidemill.flow.session import Session

_NOT_IN_BUILDS = ("tidemill",)
_TESTS = ("pytest", "iniconfig", "pluggy", "packaging", "pygments")


def list_packages() -> dict[str, str]:
    """The packages of the builds of all tests, which so share one environment: to run, to sign, and to test engines."""
    return list_installed("signing") | {name: importlib.metadata.version(name) for name in _TESTS}


def list_installed(extra: str = "") -> dict[str, str]:
    """The packages of this environment that Tidemill needs to run, also for an extra, without Tidemill."""
    from packaging.requirements import Requirement

    needed, waiting = {}, ["tidemill"]
    while waiting:
        name = waiting.pop()
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            key = requirement.name.lower().replace("_", "-")
            if key in needed or (
                requirement.marker and not requirement.marker.evaluate({"extra": extra if name == "tidemill" else ""})
            ):
                continue
            needed[key] = importlib.metadata.version(requirement.name)
            waiting.append(requirement.name)
    return {name: version for name, version in needed.items() if name not in _NOT_IN_BUILDS}


def write_wheel(project: Path, number: int, requirements: dict[str, str], changed: dict[str, bytes]) -> bytes:
    """The wheel of a project that requires these packages."""
    files = {
        file.relative_to(project).as_posix(): file.read_bytes()
        for file in project.rglob("*")
        if file.is_file() and not file.relative_to(project).parts[0].startswith(".")
    }
    needs = [f"{name}=={version}" for name, version in sorted(requirements.items())]
    return write_project_wheel("shop", f"{number:040x}", files | changed, needs, platform.python_version())[1]


def share_environments(session: Session, environments: Path) -> None:
    """Let a session keep the environments of its builds in a folder of other tests."""
    folder = session.workspace.root / "builds"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "environments").symlink_to(environments)


def add_build(
    session: Session,
    number: int,
    *,
    packages: dict[str, str] | None = None,
    files: dict[str, bytes] | None = None,
    **changes: Any,
) -> Build:
    """A build of the session's project as it is now, with some `files` changed, in the ledger."""
    packages = list_packages() if packages is None else packages
    wheel = session.workspace.blobs.put(write_wheel(session.project.folder, number, packages, files or {}))
    fields: dict[str, Any] = {
        "id": session.clock.mint(),
        "project": session.project.name,
        "number": number,
        "commit": f"{number:040x}",
        "state": "passed",
        "created": session.clock.now(),
        "environment": "ci",
        "branch": "main",
        "authors": ("ada@example.org",),
        "pusher": "ada",
        "python": platform.python_version(),
        "packages": packages,
        "artifacts": {"wheel": wheel},
    }
    return session.workspace.ledger.builds.add(Build(**(fields | changes)))
