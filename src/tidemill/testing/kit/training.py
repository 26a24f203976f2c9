"""Trains a project on its reference sample, in a workspace of its own, and records what each step did."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
from msgspec import Struct

from tidemill.blobs.artifacts import write_artifact
from tidemill.clock import VirtualClock
from tidemill.compose.backends import open_workspace
from tidemill.compose.session import open_session
from tidemill.compose.signing import NoSignatures
from tidemill.core.check import Verdict
from tidemill.core.model import Model
from tidemill.core.pipeline import Step
from tidemill.core.policy import ModelPolicy
from tidemill.core.probe import Environments, PackageProbe
from tidemill.core.run import Run, StepRun
from tidemill.core.signing import PackageSigner
from tidemill.errors import TidemillError
from tidemill.flow.engine import run
from tidemill.flow.session import Session
from tidemill.flow.tasks import Task
from tidemill.host.prober import PackageProber
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.sample import Sample

_PACKAGES = "packages.json"
_NOT_CODE = {".tidemill", "__pycache__", ".pytest_cache", ".git", ".venv", "node_modules", ".hypothesis"}


class Call(Struct, frozen=True):
    """One call of a step: what it returned, the digest of that, and the files that it wrote into the project."""

    node: str
    step: Step[Any]
    returned: Any
    digest: str
    files: tuple[str, ...]

    @property
    def frames(self) -> list[pl.DataFrame]:
        """The frames that it returned."""
        values = self.returned if isinstance(self.returned, tuple | list) else (self.returned,)
        return [value for value in values if isinstance(value, pl.DataFrame)]


class SampleTraining(Struct, frozen=True):
    """A training on the reference sample.

    Attributes
    ----------
    sample
        The sample.
    run
        The run, with its state and error.
    error
        Why it did not finish.
    calls
        The calls of steps, in their order.
    steps
        The records of the steps, with what they printed.
    verdicts
        The verdicts of the run.
    probes
        The results of tests of the package in a fresh process.
    folder
        The folder of its workspace.
    """

    sample: Sample
    run: Run
    error: TidemillError | None
    calls: tuple[Call, ...]
    steps: tuple[StepRun, ...]
    verdicts: tuple[Verdict, ...]
    probes: tuple[PackageProbe, ...]
    folder: Path

    @property
    def model(self) -> Model:
        """The last model package that a step returned."""
        models = [call.returned for call in self.calls if isinstance(call.returned, Model)]
        if not models:
            reason = self.error.problem if self.error else "no step returned a Model"
            fail(f"pipeline {self.run.pipeline!r} trained no model on the sample: {reason}", "correct that step first")
        return models[-1]

    def find_verdicts(self, check: str) -> list[Verdict]:
        """Return the verdicts of a check."""
        return [verdict for verdict in self.verdicts if verdict.check == check]

    def list_frames(self, *columns: str) -> Iterator[tuple[Call, pl.DataFrame]]:
        """Yield the frames that steps returned and that have these columns, with their calls."""
        for call in self.calls:
            for frame in call.frames:
                if set(columns) <= set(frame.columns):
                    yield call, frame


def train_sample(
    sample: Sample,
    folder: Path,
    pipeline: str = "training",
    *,
    probes: tuple[PackageProbe, ...] | None = None,
    variables: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | None = None,
) -> SampleTraining:
    """Run a pipeline of the project on its sample, in a workspace in `folder`.

    With `probes`, packages are not tested in fresh processes again: the results of an earlier training are used.
    `variables` are set in the environment while it runs.
    """
    project = sample.project
    if pipeline not in project.code.pipelines:
        known = ", ".join(project.code.pipelines) or "none"
        fail(
            f"pipeline.py defines no pipeline {pipeline!r}", f"override the fixture training_pipeline; it has: {known}"
        )
    workspace = open_workspace(folder, "test", urls={})
    recorder = _Recorder(project.folder)
    _share_packages(folder)
    tested = _Probes(_open_prober(), probes)
    session = open_session(
        project,
        "test",
        VirtualClock(sample.until),
        frames=sample.frames,
        workspace=workspace,
        # CI has no private key, and the releases of a test exist only in its workspace.
        replacements={Environments: tested, PackageSigner: NoSignatures()},
    )
    session.observe = recorder.record
    recorder.session = session
    with _set_variables(variables or {}):
        finished, error = _run(session, pipeline, {"model": sample.policy.name, **(params or {})})
    _share_packages(folder)
    books = workspace.ledger
    return SampleTraining(
        sample=sample,
        run=finished,
        error=error,
        calls=tuple(recorder.calls),
        steps=tuple(sorted(books.steps.find(run=finished.id), key=lambda step: step.position)),
        verdicts=tuple(books.verdicts.find(run=finished.id)),
        probes=tuple(tested.results),
        folder=folder,
    )


def _run(session: Session, pipeline: str, params: dict[str, Any]) -> tuple[Run, TidemillError | None]:
    code = session.project.code.pipeline(pipeline)
    if not any(hint is ModelPolicy for hint in code.hints.values()):
        params.pop("model")
    return run(session, code, params)


@cache
def _share_folder() -> Path:
    """Return a folder of this process for what all its trainings have in common; it is deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tidemill-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _open_prober() -> PackageProber:
    """Return the prober of this process: it keeps a process with the packages of each lock."""
    return PackageProber(_share_folder())


def _share_packages(folder: Path) -> None:
    """Copy the list of installed packages from an earlier training, since reading it is slow, or for a later one."""
    shared, own = _share_folder() / _PACKAGES, folder / _PACKAGES
    if own.exists() != shared.exists():
        source, target = (own, shared) if own.exists() else (shared, own)
        shutil.copyfile(source, target)


class _Recorder:
    """Records the calls of steps of a session."""

    session: Session

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = _list_files(folder)
        self.calls: list[Call] = []

    def record(self, task: Task, arguments: Mapping[str, Any], returned: Any) -> None:  # noqa: ARG002
        files = _list_files(self._folder)
        written = tuple(sorted(name for name, state in files.items() if self._files.get(name) != state))
        self._files = files
        self.calls.append(Call(task.node, task.step, returned, self._digest(returned), written))

    def _digest(self, value: Any) -> str:
        try:
            return write_artifact(self.session.workspace.blobs, value).digest
        except Exception:  # noqa: BLE001 - a value that cannot be stored is reported by the step itself
            return ""


class _Probes:
    """Tests packages in fresh processes, or returns the results of an earlier training."""

    writable: ClassVar[bool] = False

    def __init__(self, environments: PackageProber, earlier: tuple[PackageProbe, ...] | None) -> None:
        self._environments = environments
        self._earlier = list(earlier or ())
        self.results: list[PackageProbe] = []

    def probe(
        self, files: dict[str, bytes], rows: list[dict[str, Any]], warm: Sequence[str] = (), *, strict: bool = False
    ) -> PackageProbe:
        """Return the next result of the earlier training, or test the package."""
        result = (
            self._earlier.pop(0) if self._earlier else self._environments.probe(files, rows, tuple(warm), strict=strict)
        )
        self.results.append(result)
        return result


def _list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the files of a project, with their sizes and times of change."""
    found = {}
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_CODE]
        for name in names:
            file = Path(path) / name
            if file.is_file():
                status = file.stat()
                found[file.relative_to(folder).as_posix()] = status.st_size, status.st_mtime_ns
    return found


@contextmanager
def _set_variables(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
