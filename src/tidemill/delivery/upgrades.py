"""Runs the reference training in the environments of two locks, and searches for the package that differs."""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.equivalence import (
    EnvironmentDifference,
    ReferenceAnswers,
    compare_answers,
    judge_upgrade,
)
from tidemill.clock import parse_duration
from tidemill.core.check import Verdict
from tidemill.core.ci import BuildHost
from tidemill.core.upgrade import Upgrade, VersionChange
from tidemill.delivery.wheel import write_running_wheel
from tidemill.errors import TidemillError
from tidemill.host.sandbox import Limits, SandboxResult, run_sandboxed
from tidemill.host.uv import check_environment, install_environment

_PROGRAM = "tidemill.testing.reference"
_ANSWERS = "answers.json"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"}
_KEPT = 8


class EnvironmentLock(Struct, frozen=True, kw_only=True):
    """What an environment is made from: the packages as `name==version`, and an interpreter or a version of Python."""

    packages: tuple[str, ...]
    python: str = ""

    @property
    def versions(self) -> dict[str, str]:
        """Return the version of each package by its name, and that of Python if it is set."""
        pinned = dict(line.split("==", 1) for line in self.packages)
        return pinned | ({"python": self.python} if self.python else {})

    def with_changes(self, changes: Sequence[VersionChange]) -> "EnvironmentLock":
        """Return the lock after some changes."""
        versions = self.versions
        for change in changes:
            versions.pop(change.package, None)
            if change.after:
                versions[change.package] = change.after
        python = versions.pop("python", "")
        return EnvironmentLock(packages=tuple(f"{name}=={versions[name]}" for name in sorted(versions)), python=python)


def list_version_changes(old: EnvironmentLock, new: EnvironmentLock) -> tuple[VersionChange, ...]:
    """Return the packages, and Python, whose versions differ."""
    before, after = old.versions, new.versions
    return tuple(
        VersionChange(package=name, before=before.get(name, ""), after=after.get(name, ""))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


class ReferenceRunner:
    """Runs the reference training of a prepared folder in environments; equal environments run once.

    The folder has the project's code in `project`, the rows in `sources` and `requests.parquet`, and `request.json`.
    With `copies`, no file of an environment is shared with the cache of uv, so that unreviewed code cannot change it.
    """

    def __init__(self, folder: Path, host: BuildHost, limits: Upgrade, log: Path, *, copies: bool = False) -> None:
        self._copies = copies
        self._folder = folder
        self._host = host
        self._limits = Limits(seconds=parse_duration(limits.timeout).total_seconds(), memory_mb=limits.memory_mb)
        self._log = log
        self._results: dict[str, ReferenceAnswers] = {}
        self.trainings = 0

    def run(self, lock: EnvironmentLock, *, again: bool = False) -> ReferenceAnswers:
        """Return the answers in the environment of a lock; with `again`, of a second training in it."""
        key = self._digest(lock)
        if key in self._results and not again:
            return self._results[key]
        try:
            interpreter = self._find_or_build(lock, key)
        except TidemillError as error:
            answers = ReferenceAnswers(problem=error.problem, is_build=True)
        else:
            answers = self._train(interpreter)
        return answers if again else self._results.setdefault(key, answers)

    def take_rows(self, lock: EnvironmentLock, rows: int) -> str:
        """Take the rows of the project's own sources in an environment; return why that is not possible."""
        try:
            interpreter = self._find_or_build(lock, self._digest(lock))
        except TidemillError as error:
            return error.problem
        with tempfile.TemporaryDirectory(prefix="tidemill-upgrade-", ignore_cleanup_errors=True) as scratch:
            result = self._run(interpreter, self._folder, Path(scratch) / "home", str(rows))
        return "" if result.succeeded else self._find_problem(result)

    def _find_or_build(self, lock: EnvironmentLock, key: str) -> Path:
        environments = self._host.folder / "upgrades"
        folder = environments / key
        if not folder.exists():
            environments.mkdir(parents=True, exist_ok=True)
            name, wheel = write_running_wheel()
            with tempfile.TemporaryDirectory(dir=environments, prefix="draft-", ignore_cleanup_errors=True) as draft:
                file = Path(draft) / name
                file.write_bytes(wheel)
                made = Path(draft) / "environment"
                install_environment(
                    lock.python or sys.executable, list(lock.packages), [file], made, copies=self._copies
                )
                check_environment(made / "bin" / "python")
                with suppress(OSError):  # another process made it first
                    made.rename(folder)
            _delete_old(environments, folder)
        folder.touch()
        return folder / "bin" / "python"

    def _digest(self, lock: EnvironmentLock) -> str:
        wheel = hashlib.sha256(write_running_wheel()[1]).hexdigest()
        parts = [wheel, sys.version, "copies" if self._copies else "links", lock.python, *sorted(lock.packages)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def _train(self, interpreter: Path) -> ReferenceAnswers:
        self.trainings += 1
        with tempfile.TemporaryDirectory(prefix="tidemill-upgrade-", ignore_cleanup_errors=True) as scratch:
            folder = Path(scratch) / "reference"
            shutil.copytree(self._folder, folder)
            result = self._run(interpreter, folder, Path(scratch) / "home")
            answers = folder / _ANSWERS
            if result.succeeded and answers.exists():
                return msgspec.json.decode(answers.read_bytes(), type=ReferenceAnswers)
        return ReferenceAnswers(problem=self._find_problem(result))

    def _run(self, interpreter: Path, folder: Path, home: Path, *more: str) -> SandboxResult:
        command = [str(interpreter), "-m", _PROGRAM, str(folder), *more]
        return run_sandboxed(command, folder, self._limits, home=home, log=self._log, variables=_ONE_THREAD)

    def _find_problem(self, result: SandboxResult) -> str:
        """Return why a process failed: its last line of output."""
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        if result.ending == "exit" and lines:
            return lines[-1]
        return f"it {result.describe(self._limits)}"


def compare_locks(
    old: EnvironmentLock, new: EnvironmentLock, runner: ReferenceRunner, limits: Upgrade, answered: str = ""
) -> Verdict:
    """Return the verdict on the environment of a new lock, with the packages that made a difference."""
    changes = list_version_changes(old, new)
    before = runner.run(old)
    subject = changes[0].package if len(changes) == 1 else f"{len(changes)} packages"
    if before.problem:
        return judge_upgrade(subject, changes, before, EnvironmentDifference(), answered=answered)
    after = runner.run(new)
    if after.is_build:
        after = replace(after, problem=f"its environment cannot be made: {after.problem}")
    changes = tuple(_name_python(change, before, after) for change in changes)
    difference = compare_answers(before, after, limits)
    if not difference.reason:
        return judge_upgrade(subject, changes, before, difference, answered=answered)
    noise = compare_answers(before, runner.run(old, again=True), limits)
    if noise.reason:
        return judge_upgrade(subject, changes, before, difference, noise=noise, answered=answered)

    def differs(part: Sequence[VersionChange]) -> bool | None:
        answers = runner.run(old.with_changes(part))
        return None if answers.is_build else bool(compare_answers(before, answers, limits).reason)

    tried = list_version_changes(old, new)
    if len(tried) == 1:
        culprits: tuple[VersionChange, ...] = tuple(tried)
    else:
        culprits = () if after.is_build else find_culprits(tried, differs, limits.most_trainings)
    names = tuple(change.package for change in culprits)
    return judge_upgrade(subject, changes, before, difference, culprits=names, answered=answered)


def _name_python(change: VersionChange, before: ReferenceAnswers, after: ReferenceAnswers) -> VersionChange:
    """Return the change of Python with the versions that ran, in place of paths of interpreters."""
    if change.package != "python":
        return change
    versions = (answers.packages.get("python", "") for answers in (before, after))
    return VersionChange(package="python", before=next(versions) or change.before, after=next(versions) or change.after)


def find_culprits(
    changes: Sequence[VersionChange],
    differs: Callable[[Sequence[VersionChange]], bool | None],
    most: int,
) -> tuple[VersionChange, ...]:
    """Return the changes that make the difference, which all of them together make.

    Halves are tried until one change is left. If neither half differs alone, or cannot be installed alone, the changes
    that are not needed are removed one by one. Then the other changes are tried for a further one.

    Parameters
    ----------
    differs
        Whether some changes make a difference; None if they cannot be installed without the others.
    most
        The most calls of `differs`; if they are used up, the changes that are left are returned.
    """
    search = _Search(differs, most)
    found: list[VersionChange] = []
    rest = list(changes)
    while rest:
        part = search.narrow(rest)
        found += part
        rest = [change for change in rest if change not in part]
        if not rest or search.left <= 0 or not search.differs(rest):
            break
    return tuple(found)


class _Search:
    """Narrows changes down to those that make a difference, with a limited number of trials."""

    def __init__(self, differs: Callable[[Sequence[VersionChange]], bool | None], most: int) -> None:
        self._differs = differs
        self.left = most

    def differs(self, part: Sequence[VersionChange]) -> bool | None:
        """Try some changes; without trials left, the answer is unknown."""
        if self.left <= 0:
            return None
        self.left -= 1
        return self._differs(part)

    def narrow(self, part: list[VersionChange]) -> list[VersionChange]:
        """Return the changes of a part that make its difference."""
        if len(part) == 1 or self.left <= 0:
            return part
        middle = len(part) // 2
        for half in (part[:middle], part[middle:]):
            if self.differs(half):
                return self.narrow(half)
        for change in part:
            others = [other for other in part if other is not change]
            if self.differs(others):
                return self.narrow(others)
        return part


def write_reference(
    folder: Path, code: Mapping[str, bytes], sources: Mapping[str, bytes], requests: bytes, request: Mapping[str, str]
) -> None:
    """Write the folder that the reference training reads: code, the rows of sources as Parquet, and the request."""
    files = {f"project/{name}": content for name, content in code.items()}
    files |= {f"sources/{name}.parquet": content for name, content in sources.items()}
    files |= {"requests.parquet": requests} if requests else {}
    files["request.json"] = msgspec.json.encode(request)
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _delete_old(environments: Path, present: Path) -> None:
    """Delete the environments that were not used for the longest time."""
    with suppress(OSError):
        used = sorted(environments.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in used[_KEPT:]:
            if folder != present:
                shutil.rmtree(folder, ignore_errors=True)
