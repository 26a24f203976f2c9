"""`models export`: writes the package of a release to a folder that other tools open without Tidemill."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.models import LabelArgument, models
from tidemill.cli.session import load_session
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.core.model import Model

_FORMATS = ("package", "onnx")


@models.command("export")
def export(
    label: LabelArgument,
    to: Annotated[Path, typer.Option(help="A new or empty folder.")],
    format: Annotated[  # noqa: A002
        str, typer.Option(help="package: all files; onnx: only the ONNX graph.")
    ] = "package",
) -> None:
    """Write the package of a release to a folder: weights, code, lock, signature, samples, metrics, data references."""
    from tidemill.ledger.releases import find_release
    from tidemill.models.signing import SIGNATURE

    if format not in _FORMATS:
        raise InputError(f"there is no format {format!r}", f"use {' or '.join(_FORMATS)}")
    session = load_session()
    release = find_release(session.workspace.ledger, label)
    files = _files(session.packages.load(release.package), format)
    if release.signature and format == "package":
        files[SIGNATURE] = session.workspace.blobs.get(release.signature)
    _write(files, to)
    output.out.print(f"{release.label}: {len(files)} files in {to}")
    if "MLmodel" in files:
        output.err.print(f"to load it in MLflow: mlflow.pyfunc.load_model({str(to)!r})")


def _files(model: "Model", file_format: str) -> dict[str, bytes]:
    from tidemill.models.package import to_files

    if file_format == "package":
        return to_files(model)
    if model.manifest.flavor != "onnx":
        raise InputError(
            f"model {model.manifest.name!r} has the flavor {model.manifest.flavor}, not onnx", "use --format package"
        )
    return {name: content for name, content in model.files.items() if name.endswith(".onnx")}


def _write(files: dict[str, bytes], to: Path) -> None:
    """Write all files or none: the folder appears when it is complete."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"{to} exists and is not empty", "use another folder, or empty it")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}-"))
        try:
            for name, content in files.items():
                file = draft / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            draft.chmod(0o777 & ~_read_umask())
            draft.rename(to)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{to} cannot be written: {error.strerror}", "use another folder") from None


def _read_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
