"""The program that runs the tests of several projects in one process, and prints the result of each test as JSON.

Arguments: the folders. One process imports the libraries once.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

_OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "tmp_path_retention_policy=all")


class Results:
    """Collects the outcome, the kinds and the message of each test."""

    def __init__(self) -> None:
        self.tests: dict[str, dict[str, Any]] = {}
        self._kinds: dict[str, list[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._kinds = {
            item.nodeid: [kind for mark in item.iter_markers("covers") for kind in mark.args] for item in session.items
        }

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.tests[report.nodeid] = {"outcome": "failed", "kinds": [], "message": str(report.longrepr)}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash is not None else str(report.longrepr or "")
            name = report.nodeid
            self.tests[name] = {"outcome": report.outcome, "kinds": self._kinds.get(name, []), "message": message}


def run_tests(folder: Path) -> dict[str, dict[str, Any]]:
    """Run the tests of one project and return the result of each."""
    results, paths = Results(), list(sys.path)
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            pytest.main([*_OPTIONS, "--rootdir", str(folder), "tests"], plugins=[results])
    finally:
        sys.path[:] = paths
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
    return results.tests


if __name__ == "__main__":
    print(json.dumps({folder: run_tests(Path(folder)) for folder in sys.argv[1:]}))
