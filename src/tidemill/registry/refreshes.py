"""Refreshes: releases that differ from the champion only in the rows that they have learned."""

from typing import Any

from tidemill.core.policy import ModelPolicy
from tidemill.core.release import Release
from tidemill.core.resources import BooksReader
from tidemill.core.route import Arm
from tidemill.core.run import Run
from tidemill.errors import NotFound
from tidemill.ledger.releases import find_release
from tidemill.registry.routing import make_arm, split_requests

_ROWS = "until"  # the parameter of a training that chooses its rows


def begin_canary(
    books: BooksReader, release: Release, champion: Arm, policy: ModelPolicy
) -> tuple[tuple[Arm, ...], str]:
    """Return the arms of a new canary, and a text with the share of the challenger.

    A refresh that passed its gate can start with a larger share. Both releases predict all rows then.
    """
    share, larger = policy.rollout.share, policy.rollout.refresh_share
    if larger is None or not policy.gate.enabled or not is_refresh(books, release, champion.release):
        return split_requests(champion, make_arm(release, "challenger", share)), f"{share:.0%}"
    arms = split_requests(champion, make_arm(release, "challenger", larger), on_all_rows=True)
    return arms, f"{larger:.0%}: it differs from {champion.release} only in the rows that it has learned"


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
