"""Refreshes: releases that differ from the champion only in the rows that they have learned."""

from typing import Any

from tidemill.core.release import Release
from tidemill.core.resources import BooksReader
from tidemill.core.run import Run
from tidemill.errors import NotFound
from tidemill.ledger.releases import find_release

_ROWS = "until"  # the parameter of a training that chooses its rows


def is_refresh(books: BooksReader, release: Release, champion: str) -> bool:
    """Return whether a release has learned other rows than the champion, and all else is the same.

    The code, the policy, the parameters, the packages and the versions of the software of both trainings are compared;
    a release without a training, such as an adopted package, is no refresh.
    """
    try:
        trainings = [books.runs.get(run) for run in (release.run, find_release(books, champion).run)]
    except NotFound:
        return False
    newer, older = (_describe(run) for run in trainings)
    return newer == older


def _describe(run: Run) -> dict[str, Any]:
    """Return what a training depends on, without its rows."""
    return {
        "pipeline": run.pipeline,
        "code": {name: run.code.get(name, "") for name in ("digest", "policy", "image")},
        "params": {name: value for name, value in run.params.items() if name != _ROWS},
        "packages": run.packages,
        "software": run.software,
    }
