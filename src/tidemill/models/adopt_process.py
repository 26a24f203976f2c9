"""The program of the child process that adopts a model file or tries a package: `adopt_process FOLDER MEMORY_MB`."""

import resource
import sys
from pathlib import Path

import msgspec
import polars as pl
from msgspec.structs import replace

from tidemill.core.model import Model
from tidemill.errors import TidemillError
from tidemill.models.adopt import adopt
from tidemill.models.adopting import (
    ADOPTED,
    PROBED,
    REQUEST,
    RESULT,
    ROWS,
    AdoptionRequest,
    AdoptionResult,
    digest_files,
    read_package,
    write_package,
)
from tidemill.models.inputs import load_samples
from tidemill.models.load import load_here
from tidemill.models.usable import require_valid


def main(folder: Path, memory_mb: int) -> None:
    """Do what the request asks for, and write the result; without a result, the process was ended."""
    _limit_memory(memory_mb)
    request = msgspec.json.decode((folder / REQUEST).read_bytes(), type=AdoptionRequest)
    try:
        model = _adopt(folder, request) if request.path else read_package(folder)
    except TidemillError as error:
        result = AdoptionResult(error=error.problem, kind=type(error).__name__, cure=error.cure)
    else:
        problem = _try(model)
        if request.path:
            write_package(folder, _add_digest(model))
        result = AdoptionResult(problem=problem)
    draft = folder / f".{RESULT}"
    draft.write_bytes(msgspec.json.encode(result))
    draft.rename(folder / RESULT)


def _limit_memory(memory_mb: int) -> None:
    """Limit the memory that this process uses beyond what it uses now, so that imports do not count."""
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize() if _has_proc() else 0
    most = used + (memory_mb << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _has_proc() -> bool:
    return Path("/proc/self/statm").exists()


def _adopt(folder: Path, request: AdoptionRequest) -> Model:
    return adopt(
        Path(request.path),
        pl.read_ipc(folder / ROWS),
        name=request.name,
        task=request.task,
        classes=request.classes,
        label=request.label,
        trusted=request.trusted,
    )


def _try(model: Model) -> str:
    """Load a package and predict its sample rows; return why it cannot, empty if it can."""
    try:
        rows = load_samples(model)
        predictor = load_here(model)
        if rows.height:
            require_valid(model.manifest.signature, predictor.predict(rows))
    except TidemillError as error:
        return str(error)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        return f"{type(error).__name__}: {error}"
    return ""


def _add_digest(model: Model) -> Model:
    origin = model.manifest.data[ADOPTED] | {PROBED: digest_files(model)}
    return replace(model, manifest=replace(model.manifest, data=model.manifest.data | {ADOPTED: origin}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
