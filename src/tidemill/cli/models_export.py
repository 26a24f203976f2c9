"""`models export`: writes a release's package to a folder, which other tools open without Tidemill."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.models import Label, models
from tidemill.cli.session import session_here
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.core.model import Model

_FORMATS = ("package", "onnx")


@models.command("export")
def export(
    label: Label,
    to: Annotated[Path, typer.Option(help="A folder that is not there yet, or is empty.")],
    format: Annotated[str, typer.Option(help="package: a folder that MLflow opens, too; onnx: the graph.")] = "package",  # noqa: A002
) -> None:
    """Write a release's package to a folder: weights, code, lock, signature, samples, metrics and data pointers."""
    from tidemill.ledger.releases import find_release

    if format not in _FORMATS:
        raise InputError(f"there is no format {format!r}", f"use {' or '.join(_FORMATS)}")
    session = session_here()
    release = find_release(session.workspace.ledger, label)
    files = _files(session.packages.load(release.package), format)
    _write(files, to)
    output.out.print(f"{release.label}: {len(files)} files in {to}")
    if "MLmodel" in files:
        output.err.print(f"MLflow opens it: mlflow.pyfunc.load_model({str(to)!r})")


def _files(model: "Model", form: str) -> dict[str, bytes]:
    from tidemill.models.package import to_files

    if form == "package":
        return to_files(model)
    if model.manifest.flavor != "onnx":
        raise InputError(f"{model.manifest.name!r} is a model of {model.manifest.flavor}, not of ONNX", "use package")
    return {name: content for name, content in model.files.items() if name.endswith(".onnx")}


def _write(files: dict[str, bytes], to: Path) -> None:
    """All files or none: the folder appears when it is whole."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"{to} is there already", "name another folder, or empty it")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}-"))
        try:
            for name, content in files.items():
                file = draft / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            draft.chmod(0o777 & ~_umask())
            draft.rename(to)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as refused:
        raise InputError(f"{to} cannot be written: {refused.strerror}", "name another folder") from None


def _umask() -> int:
    present = os.umask(0)
    os.umask(present)
    return present
