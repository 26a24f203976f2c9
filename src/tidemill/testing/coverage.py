"""Which kinds of ML tests a project has: pytest collects its tests, and their marks name the kinds."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
from msgspec import Struct

from tidemill.errors import TidemillError
from tidemill.testing.collecting import VARIABLE
from tidemill.testing.kit.kinds import KINDS

_TIMEOUT_SECONDS = 300


class KindCoverage(Struct, frozen=True, kw_only=True):
    """The tests of one kind; `add` is the command or the edit that adds one, empty if there are tests."""

    kind: str
    meaning: str
    tests: tuple[str, ...]
    add: str = ""


class Coverage(Struct, frozen=True, kw_only=True):
    """The tests of a project by kind, and the tests without a kind."""

    kinds: tuple[KindCoverage, ...]
    other: tuple[str, ...] = ()

    @property
    def lacking(self) -> tuple[str, ...]:
        """Return the kinds without a test."""
        return tuple(kind.kind for kind in self.kinds if not kind.tests)


def measure_coverage(folder: Path) -> Coverage:
    """Collect the tests of a project in a child process, without running one, and return them by kind.

    Raises
    ------
    TidemillError
        if pytest is not installed, or a test file cannot be imported.
    """
    tests = _collect(folder) if (folder / "tests").is_dir() else {}
    by_kind: dict[str, list[str]] = {}
    for test, kinds in tests.items():
        for kind in kinds:
            by_kind.setdefault(kind, []).append(test)
    return Coverage(
        kinds=tuple(
            KindCoverage(
                kind=kind.name,
                meaning=kind.meaning,
                tests=tuple(by_kind.get(kind.name, ())),
                add="" if kind.name in by_kind else kind.how_to_add,
            )
            for kind in KINDS
        ),
        other=tuple(test for test, kinds in tests.items() if not kinds),
    )


def _collect(folder: Path) -> dict[str, list[str]]:
    with tempfile.TemporaryDirectory(prefix="tidemill-") as temporary:
        file = Path(temporary) / "tests.json"
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "tidemill.testing.collecting"]
        process = subprocess.run(
            [*command, "-p", "no:cacheprovider", "tests"],
            cwd=folder,
            env={**os.environ, VARIABLE: str(file)},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        if process.returncode not in (0, 5) or not file.exists():  # 5: there is no test
            lines = [line for line in process.stdout.splitlines() if line.startswith(("E ", "ERROR"))]
            reason = (lines or process.stderr.strip().splitlines() or ["unknown"])[0].removeprefix("E ").strip()
            raise TidemillError(
                f"the tests of {folder.name} cannot be collected: {reason}", "run `python -m pytest tests`"
            )
        return msgspec.json.decode(file.read_bytes(), type=dict[str, list[str]])
