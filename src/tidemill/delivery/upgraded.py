"""Judges a commit whose lock or Python differs from the last passed build, by a training in both environments."""

import sys
import tempfile
from pathlib import Path

from tidemill.core.build import Build
from tidemill.core.ci import BuildHost
from tidemill.core.resources import BookReader
from tidemill.core.upgrade import Upgrade
from tidemill.delivery.archive import unpack_archive
from tidemill.delivery.checkout import find_last_passed
from tidemill.delivery.environment import BuildEnvironment
from tidemill.delivery.judgement import Judgement
from tidemill.delivery.upgrades import (
    EnvironmentLock,
    ReferenceRunner,
    compare_locks,
    list_version_changes,
    write_reference,
)
from tidemill.project.configuration import FILE, read_policy

_CHECK = "upgrade_equivalence"
_PIPELINE = "training"
_PYTHON = ".python-version"


def find_locks(last: Build, environment: BuildEnvironment, python: str) -> tuple[EnvironmentLock, EnvironmentLock]:
    """Return the locks of the last passed build and of a commit, without the packages that only tests need.

    `python` is the interpreter of the commit's environment; that of an earlier version of Python is found by uv.
    """
    new = dict(line.split("==", 1) for line in environment.runtime)
    tests = environment.packages.keys() - new.keys()
    old = {name: version for name, version in last.packages.items() if name not in tests and name != "tidemill"}
    old_python = python if last.python in ("", environment.python) else last.python
    return (
        EnvironmentLock(packages=_to_lines(old), python=old_python),
        EnvironmentLock(packages=_to_lines(new), python=python),
    )


def find_last_build(builds: BookReader[Build], project: str, branch: str) -> Build | None:
    """Return the last passed build of a branch, or of the project for a branch that has none."""
    last = find_last_passed(builds, project, branch)
    if last is not None:
        return last
    return max(builds.find(project=project, state="passed"), key=lambda build: build.number, default=None)


def judge_commit(
    settings: Upgrade, host: BuildHost, archive: bytes, environment: BuildEnvironment, last: Build | None, log: Path
) -> list[Judgement]:
    """Compare the environment of a commit with that of the last passed build, by the code and rows of the commit.

    A difference refuses the commit. What cannot be compared, such as with a commit that has no rows, is a warning.
    """
    if last is None or not settings.ci:
        return []
    with tempfile.TemporaryDirectory(prefix="tidemill-reference-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        (folder / "project").mkdir()
        unpack_archive(archive, folder / "project")
        wanted = folder / "project" / _PYTHON
        old, new = find_locks(last, environment, wanted.read_text().strip() if wanted.exists() else sys.executable)
        if not list_version_changes(old, new):
            return []
        judged = []
        for model in read_policy(folder / "project" / FILE).models:
            request = {"model": model, "pipeline": _PIPELINE}
            write_reference(folder, {}, {}, b"", request)
            runner = ReferenceRunner(folder, host, settings, log, copies=True)
            problem = runner.take_rows(new, settings.rows)
            if problem:
                reason = f"the environments are not compared: {problem}"
                judged.append(Judgement(check=_CHECK, outcome="warn", reason=reason))
                continue
            verdict = compare_locks(old, new, runner, settings, "the rows of the training")
            outcome = "warn" if verdict.outcome == "undecided" else verdict.outcome
            judged.append(Judgement(check=_CHECK, outcome=outcome, reason=verdict.reason, evidence=verdict.evidence))
        return judged


def _to_lines(packages: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}=={packages[name]}" for name in sorted(packages))
