"""Adopts model files, and tries packages, in a child process with limits: a hostile file ends only the child.

A file can make its library end the process, or use all memory. So what was trained elsewhere is read, loaded and asked
for the predictions of its sample rows in a child first. The package that the child returns names the digest of its
files; a package of which Tidemill recorded no such digest is tried before it is loaded.
"""

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from msgspec import Struct

from tidemill.core.model import Manifest, Model, PredictionTask
from tidemill.errors import ConfigurationError, DataError, InputError, NotFound
from tidemill.host.sandbox import Limits, SandboxResult, run_sandboxed

ADOPTED, PROBED = "adopted", "probed"
REQUEST, ROWS, PACKAGE, RESULT = "request.json", "rows.arrow", "package.msgpack", "result.json"
SECONDS, MEMORY_MB = 120.0, 2_000
_KINDS = {kind.__name__: kind for kind in (DataError, InputError, ConfigurationError, NotFound)}
_PROGRAM = "tidemill.models.adopt_process"
# Only an address space can be limited without a control group, and libraries reserve more of it than they use.
_RESERVED_MB = 3_000


class AdoptionRequest(Struct, frozen=True, kw_only=True):
    """What the child has to do: adopt the file at `path`, or without one try the package beside the request."""

    path: str = ""
    name: str = ""
    task: PredictionTask | None = None
    classes: tuple[str, ...] = ()
    label: str = ""
    trusted: bool = False


class AdoptionResult(Struct, frozen=True, kw_only=True):
    """The error for which the child refuses the file, or the problem with which it cannot predict its samples."""

    error: str = ""
    kind: str = ""
    cure: str = ""
    problem: str = ""


class Adoption(Struct, frozen=True, kw_only=True):
    """An adopted package, and why it cannot predict its sample rows; empty if it can."""

    model: Model
    problem: str = ""


def adopt_in_child(path: Path, samples: pl.DataFrame, *, memory_mb: int = MEMORY_MB, **settings: Any) -> Adoption:
    """Return the package of a model file as `adopt` does, read and tried in a child process with limits.

    Raises
    ------
    TidemillError
        as `adopt` does, and if the child needs more memory or time than allowed, or its library ends it.
    """
    with tempfile.TemporaryDirectory(prefix="tidemill-") as name:
        folder = Path(name)
        samples.write_ipc(folder / ROWS)
        request = AdoptionRequest(path=str(path.absolute()), **settings)
        result = _run_child(folder, request, str(path), memory_mb)
        return Adoption(model=_read_package(folder), problem=result.problem)


def require_tried(model: Model) -> None:
    """Raise unless a child process with limits has loaded a package, and predicted its sample rows.

    A package that was made here, or whose recorded digest is that of its files, is not tried again.

    Raises
    ------
    DataError
        if the child ended while it loaded the package.
    """
    adopted = model.manifest.data.get(ADOPTED)
    if not isinstance(adopted, dict) or not model.manifest.trusted:
        return  # an untrusted pickle is never loaded
    digest = digest_files(model)
    if adopted.get(PROBED) == digest or digest in _tried:
        return
    with tempfile.TemporaryDirectory(prefix="tidemill-") as name:
        write_package(Path(name), model)
        _run_child(Path(name), AdoptionRequest(), f"model {model.manifest.name!r}", MEMORY_MB)
    _tried.add(digest)


def note_tried(model: Model) -> None:
    """Note that this process may load a package itself."""
    _tried.add(digest_files(model))


_tried: set[str] = set()


def digest_files(model: Model) -> str:
    """Return the SHA-256 of the files of a package."""
    digest = hashlib.sha256()
    for name, content in sorted(model.files.items()):
        digest.update(f"{name} {len(content)} ".encode() + content)
    return digest.hexdigest()


def write_package(folder: Path, model: Model) -> None:
    """Write a package for the other process."""
    parts = msgspec.msgpack.encode((msgspec.json.encode(model.manifest), model.files))
    (folder / PACKAGE).write_bytes(parts)


def read_package(folder: Path) -> Model:
    """Read a package that the other process wrote; nothing in it is executed."""
    manifest, files = msgspec.msgpack.decode((folder / PACKAGE).read_bytes(), type=tuple[bytes, dict[str, bytes]])
    return Model(manifest=msgspec.json.decode(manifest, type=Manifest), files=files)


def _read_package(folder: Path) -> Model:
    try:
        return read_package(folder)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"the process that read the model wrote no package: {error}", "save the model again") from None


def _run_child(folder: Path, request: AdoptionRequest, about: str, memory_mb: int) -> AdoptionResult:
    """Run the child, and raise the error that it reports, or what ended it."""
    (folder / REQUEST).write_bytes(msgspec.json.encode(request))
    limits = Limits(seconds=SECONDS, memory_mb=memory_mb + _RESERVED_MB)
    command = [sys.executable, "-P", "-m", _PROGRAM, str(folder), str(memory_mb)]
    ended = run_sandboxed(
        command, folder, limits, home=folder / "home", log=folder / "log", variables={"OMP_NUM_THREADS": "1"}
    )
    try:
        result = msgspec.json.decode((folder / RESULT).read_bytes(), type=AdoptionResult)
    except (OSError, msgspec.MsgspecError):
        raise _explain(about, ended, memory_mb, folder / "log") from None
    if result.error:
        raise _KINDS.get(result.kind, DataError)(result.error, result.cure)
    if not ended.succeeded:
        raise _explain(about, ended, memory_mb, folder / "log")
    return result


def _explain(about: str, ended: SandboxResult, memory_mb: int, log: Path) -> DataError:
    text = log.read_text(errors="replace")[-2_000:] if log.exists() else ""
    if ended.ending == "memory" or any(word in text for word in ("MemoryError", "bad_alloc", "memory allocation of")):
        problem, cure = f"{about} needs more than {memory_mb} MB of memory", "allow more: --max-memory-mb of `register`"
    else:
        how = ended.describe(Limits(seconds=SECONDS, memory_mb=memory_mb))
        problem, cure = f"{about} cannot be loaded: the process that tried it {how}", "save the model again"
    return DataError(f"{problem}; it was read in a process of its own, and nothing else was harmed", cure)
