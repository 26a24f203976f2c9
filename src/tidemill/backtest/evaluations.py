"""Replays of many policies on one period; each is stored at once, so that an interrupted search continues."""

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tidemill.backtest.compare import CompareProgress, replay_each
from tidemill.backtest.comparison import Period, PolicyResult
from tidemill.compose.session import open_history
from tidemill.core.policy import Policy
from tidemill.errors import TidemillError
from tidemill.project.configuration import digest_policy
from tidemill.project.project import Project

TuneProgress = Callable[[str], None]
"""A callback for progress: one line of text."""
_PACKAGE = Path(__file__).parents[1]
_PARALLEL = 3
_SILENCE = 30.0  # seconds between two lines about replays that still run


class _Stored(Struct, frozen=True):
    """A replay that is done: its key, and its result or the error that ended it."""

    key: str
    result: PolicyResult | None = None
    error: str = ""
    cure: str = ""


class Evaluations:
    """The replays of policies of one project; each is done once, also over several calls of the command.

    `folder` keeps the results in `evaluations.jsonl`, and while a search lasts the models that replays share.
    """

    def __init__(self, project: Project, model: str, folder: Path, report_progress: TuneProgress) -> None:
        self._project, self._model, self._folder = project, model, folder
        self._report_progress = report_progress
        self._file = folder / "evaluations.jsonl"
        self._inputs = _fingerprint_inputs(project, model)
        self._stored = self._read()
        self.seconds: list[float] = []

    def replay(self, policies: Mapping[str, Policy], period: Period) -> dict[str, PolicyResult | TidemillError]:
        """Replay at most three policies that were not replayed before, and return the results of all of them."""
        keys = {name: self._build_key(policy, period) for name, policy in policies.items()}
        missing = {name: policy for name, policy in policies.items() if keys[name] not in self._stored}
        names = list(missing)
        for first in range(0, len(names), _PARALLEL):
            batch = names[first : first + _PARALLEL]
            began = time.monotonic()
            replays = {f"replay-{index}": missing[name] for index, name in enumerate(batch)}
            # Replays share models with those of the same period only: the same version of a table has the same rows.
            shared = self._folder / f"{period.begin:%Y-%m-%dT%H%M}"
            with self._reporting() as report:
                found = replay_each(self._project, replays, self._model, period, shared, report)
            self.seconds.append((time.monotonic() - began) / len(batch))
            for name, label in zip(batch, replays, strict=True):
                self._store(keys[name], found[label])
                shutil.rmtree(shared / label, ignore_errors=True)
        return {name: _unpack(name, self._stored[keys[name]]) for name in policies}

    def has(self, policy: Policy, period: Period) -> bool:
        """Return whether the result of a policy on a period is stored."""
        return self._build_key(policy, period) in self._stored

    def clean(self) -> None:
        """Delete the models that replays shared; the results stay."""
        for folder in self._folder.glob("*/"):
            shutil.rmtree(folder, ignore_errors=True)

    def _build_key(self, policy: Policy, period: Period) -> str:
        parts = (self._inputs, digest_policy(policy), period.begin.isoformat(), period.end.isoformat())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @contextmanager
    def _reporting(self) -> Iterator[CompareProgress]:
        """Report every half a minute that replays still run, and the latest virtual day that one of them reported."""
        latest, done = "", threading.Event()

        def receive(label: str, at: datetime, text: str) -> None:  # noqa: ARG001 - many replays, one line
            nonlocal latest
            latest = f" {at:%Y-%m-%d}"

        def repeat() -> None:
            while not done.wait(_SILENCE):
                self._report_progress(f"  … replaying{latest}")

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield receive
        finally:
            done.set()
            thread.join()

    def _store(self, key: str, result: PolicyResult | TidemillError) -> None:
        if isinstance(result, TidemillError):
            stored = _Stored(key, error=result.problem, cure=result.cure)
        else:
            stored = _Stored(key, replace(result, timeline=result.failures))
        self._stored[key] = stored
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._file.open("ab") as file:
            file.write(msgspec.json.encode(stored) + b"\n")

    def _read(self) -> dict[str, _Stored]:
        """Return the stored results; a line that an interruption cut off is left out."""
        stored = {}
        if self._file.exists():
            for line in self._file.read_bytes().splitlines():
                try:
                    entry = msgspec.json.decode(line, type=_Stored)
                except msgspec.DecodeError:
                    continue
                stored[entry.key] = entry
        return stored


def _unpack(name: str, stored: _Stored) -> PolicyResult | TidemillError:
    if stored.result is None:
        return TidemillError(stored.error, stored.cure)
    return replace(stored.result, name=name)


def _fingerprint_inputs(project: Project, model: str) -> str:
    """Return a digest of what decides about a replay besides the policy: the rows, and the code of both."""
    history = open_history(project).source_history(project.model(model).problem.source)
    digest = hashlib.sha256(f"{project.model(model).name} {history.height} {history.schema}".encode())
    digest.update(str(history.hash_rows().sum() if history.width else 0).encode())
    for folder in (_PACKAGE, project.folder):
        for file in sorted(folder.rglob("*.py")):
            if not any(part.startswith(".") for part in file.relative_to(folder).parts):
                digest.update(file.read_bytes())
    return digest.hexdigest()
