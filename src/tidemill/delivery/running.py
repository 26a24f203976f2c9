"""Runs the code of a commit: its tests, and the planning of its pipelines, in the environment of its lock."""

import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from tidemill.clock import parse_duration
from tidemill.core.ci import BuildHost, Ci
from tidemill.delivery.archive import unpack_archive
from tidemill.delivery.environment import BuildEnvironment, find_interpreter
from tidemill.delivery.judgement import Judgement
from tidemill.host.sandbox import Limits, SandboxResult, run_sandboxed

_NO_TESTS = 5  # an exit status of pytest
_USAGE = (3, 4)
_MOST_NAMES = 10
_PLAN = (
    "from pathlib import Path; from tidemill.testing.project import plan_pipelines; "
    "print('pipelines:', ', '.join(plan_pipelines(Path('.'))))"
)


class TestCounts(Struct, frozen=True, kw_only=True):
    """The numbers of tests, and the names of those that failed."""

    total: int = 0
    skipped: int = 0
    failed: tuple[str, ...] = ()


def limits_of(ci: Ci) -> Limits:
    """Return the limits of a part of the build that runs code of the commit."""
    return Limits(seconds=parse_duration(ci.timeout).total_seconds(), memory_mb=ci.memory_mb)


class CommandRun(Struct, frozen=True):
    """A command that ran in the files of a commit, with the folder of these files."""

    result: SandboxResult
    folder: Path
    log: Path


@contextmanager
def run_in_checkout(
    ci: Ci, host: BuildHost, archive: bytes, environment: BuildEnvironment, arguments: list[str], log: Path
) -> Iterator[CommandRun]:
    """Run Python with these arguments in the unpacked files of a commit, which are deleted after the block.

    The process gets no address of a store, token or key, has the limits of the policy, and all its descendants are
    ended.
    """
    # In the folder for temporary files, so that pytest finds no settings of another project above it.
    with tempfile.TemporaryDirectory(prefix="tidemill-build-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / "project"
        folder.mkdir()
        unpack_archive(archive, folder)
        interpreter = str(find_interpreter(host, environment))
        result = run_sandboxed(
            [interpreter, *arguments],
            folder,
            limits_of(ci),
            home=Path(scratch) / "home",
            log=log,
            echo=lambda line: print(line, end=""),
        )
        yield CommandRun(result, folder, log)


def run_tests(ci: Ci, host: BuildHost, archive: bytes, environment: BuildEnvironment, log: Path) -> Judgement:
    """Run the project's tests and judge them."""
    report = "../tests.xml"
    arguments = ["-m", "pytest", "-v", "-p", "no:cacheprovider", f"--junitxml={report}"]
    try:
        with run_in_checkout(ci, host, archive, environment, arguments, log) as run:
            counts = _read_report(run.folder / report)
            return _judge_tests(run.result, counts, limits_of(ci), _read_tail(log))
    except OSError as error:
        return Judgement(check="ci_tests", outcome="undecided", reason=_describe_error(error))


def _judge_tests(result: SandboxResult, counts: TestCounts, limits: Limits, tail: list[str]) -> Judgement:
    evidence = {
        "tests": counts.total,
        "failed": list(counts.failed[:_MOST_NAMES]),
        "skipped": counts.skipped,
        "seconds": round(result.seconds, 1),
        "memory_limit": result.memory_limit,
        "leftover_processes": result.leftover,
    }

    def judge(outcome: str, reason: str) -> Judgement:
        return Judgement(check="ci_tests", outcome=outcome, reason=reason, evidence=evidence)  # type: ignore[arg-type]

    if result.ending != "exit":
        running = _find_running_test(tail)
        during = f" during {running}" if running else ""
        return judge("fail", f"the tests were ended{during}: pytest {result.describe(limits)}")
    if any("No module named pytest" in line for line in tail):
        return judge("undecided", "pytest is not in the lock of the tests: `tidemill ci lock` adds it")
    if result.status == _NO_TESTS:
        return judge("warn", "the project has no tests: `tidemill init` writes some for new projects")
    if counts.failed or (result.status and counts.total):
        names = ", ".join(counts.failed[:_MOST_NAMES]) or "see the log"
        return judge("fail", f"{len(counts.failed)} of {counts.total} tests failed: {names}")
    if result.status:
        last = tail[-1] if tail else ""
        is_usage = result.status in _USAGE
        return judge("undecided" if is_usage else "fail", f"pytest {result.describe(limits)}: {last}")
    left = f"; {result.leftover} processes that they started were ended" if result.leftover else ""
    return judge("pass", f"{counts.total - counts.skipped} tests passed{left}")


def plan_project(ci: Ci, host: BuildHost, archive: bytes, environment: BuildEnvironment, log: Path) -> Judgement:
    """Import the project's code and plan each of its pipelines, without running one."""
    try:
        with run_in_checkout(ci, host, archive, environment, ["-c", _PLAN], log) as run:
            result = run.result
    except OSError as error:
        return Judgement(check="ci_project", outcome="undecided", reason=_describe_error(error))
    tail = _read_tail(log)
    last = tail[-1] if tail else ""
    evidence = {"seconds": round(result.seconds, 1)}
    if result.succeeded:
        reason = f"every pipeline can be planned: {last[11:]}"
        return Judgement(check="ci_project", outcome="pass", reason=reason, evidence=evidence)
    why = last if result.ending == "exit" and last else f"Python {result.describe(limits_of(ci))}"
    reason = f"the project cannot be loaded: {why}"
    return Judgement(check="ci_project", outcome="fail", reason=reason, evidence=evidence)


def _describe_error(error: OSError) -> str:
    return f"the files of the commit cannot be written: {error.strerror or error}: free some space on the disk"


def _read_report(file: Path) -> TestCounts:
    """Return the counts in a report of pytest; nothing if there is none, as after a time limit."""
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except (OSError, ElementTree.ParseError):
        return TestCounts()
    cases = list(root.iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return TestCounts(
        total=len(cases),
        skipped=sum(case.find("skipped") is not None for case in cases),
        failed=tuple(_name(case) for case in failed),
    )


def _name(case: ElementTree.Element) -> str:
    return "::".join(filter(None, (case.get("classname", ""), case.get("name", ""))))


def _read_tail(log: Path) -> list[str]:
    try:
        text = log.read_bytes()[-20_000:].decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()]


def _find_running_test(tail: list[str]) -> str:
    """Return the test that pytest had started and not finished: its line has no result yet."""
    lines = [line for line in tail if "::" in line]
    name, _, result = lines[-1].partition(" ") if lines else ("", "", "")
    return name if not result.startswith(("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS")) else ""
