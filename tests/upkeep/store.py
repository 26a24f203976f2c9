"""A ledger and blobs of any age, for the tests of collection."""

import os
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tidemill.blobs.disk import DiskBlobs
from tidemill.clock import VirtualClock, uuid7
from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.policy import Retention
from tidemill.core.release import Release
from tidemill.core.route import Arm, Role, Route
from tidemill.core.run import Run, RunState, StepRun
from tidemill.ledger.ledger import Ledger
from tidemill.upkeep import gc

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


class Store:
    """A ledger and blobs of any age."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self.ledger = Ledger(url or f"sqlite:///{folder / 'ledger.db'}")
        self.blobs = DiskBlobs(folder / "blobs")

    def mint(self, age: timedelta) -> str:
        return uuid7(NOW - age, random.getrandbits(74))

    def blob(self, content: str, age: timedelta = 200 * DAY) -> str:
        digest = self.blobs.put(content.encode())
        at = time.time() - age.total_seconds()  # not from NOW, which is earlier in a long run of tests
        os.utime(self.folder / "blobs" / digest[:2] / digest, (at, at))
        return digest

    def artifact(self, content: str, age: timedelta = 200 * DAY) -> str:
        artifact = Artifact(id=self.blob(content, age), kind="json", size=len(content))
        return self.ledger.artifacts.add(artifact).id

    def run(self, age: timedelta, *outputs: str, state: RunState = "done", **facts: Any) -> Run:
        """A run of that age, with one step that gave these digests."""
        began = NOW - age
        about = {name: facts.pop(name) for name in ("expires", "log_blob", "inputs") if name in facts}
        run = self.ledger.runs.add(
            Run(id=self.mint(age), pipeline="p", environment="test", state=state, started=began, **facts)
        )
        self.ledger.steps.add(
            StepRun(
                id=self.mint(age),
                run=run.id,
                step="s",
                position=0,
                state="ran",
                reason="",
                key="",
                code="",
                executor="inline",
                started=began,
                outputs={f"output{place}": digest for place, digest in enumerate(outputs)},
                **about,
            )
        )
        return run

    def release(self, version: int, package: str, run: str = "", age: timedelta = 200 * DAY) -> Release:
        return self.ledger.releases.add(
            Release(
                id=self.mint(age),
                name="m",
                version=version,
                package=package,
                flavor="f",
                environment="test",
                created=NOW - age,
                run=run,
            )
        )

    def route(self, version: int, since: datetime = NOW, **roles: Release) -> None:
        arms = tuple(
            Arm(release=r.label, version=r.version, package=r.package, role=_ROLES[n]) for n, r in roles.items()
        )
        self.ledger.routes.add(
            Route(
                id=self.mint(DAY),
                environment="test",
                model="m",
                version=version,
                arms=arms,
                since=since,
                reason="",
            )
        )

    def judge_regime(self, age: timedelta, start: timedelta) -> None:
        """Store the verdict that a regime is new since a time."""
        began = (NOW - start).isoformat()
        verdict = Verdict(
            id=self.mint(age),
            check="regime",
            subject="m/1",
            outcome="fail",
            action="retrain",
            reason="",
            evidence={"start": began, "novel": {"since": began}},
            environment="test",
            model="m",
            time=NOW - age,
        )
        self.ledger.verdicts.add(verdict)

    def collect(self, **retention: Any) -> gc.Collected:
        planned = gc.plan(self.ledger, self.blobs, Retention(**retention), NOW)
        return gc.collect(self.ledger, self.blobs, planned, VirtualClock(NOW))

    def has(self, *digests: str) -> list[bool]:
        return [self.blobs.has(digest) for digest in digests]


_ROLES: dict[str, Role] = {"champion": "champion", "challenger": "challenger", "shadow": "shadow", "bound": "bound"}
