"""Model packages as uncompressed zip files without dates: equal packages result in equal bytes."""

import io
import zipfile
from typing import Any, BinaryIO

import msgspec

from tidemill.core.model import Manifest, Model

_DATE = (1980, 1, 1, 0, 0, 0)


class ModelCodec:
    """A package: its manifest, then its files by name."""

    kind = "model"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Model)

    def write(self, value: Model, sink: BinaryIO) -> None:
        files = {"manifest.json": msgspec.json.format(msgspec.json.encode(value.manifest)), **value.files}
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as package:
            for name in sorted(files):
                package.writestr(zipfile.ZipInfo(name, _DATE), files[name])
        sink.write(archive.getbuffer())

    def read(self, source: BinaryIO, annotation: Any) -> Model:  # noqa: ARG002 - required by the protocol
        with zipfile.ZipFile(source) as package:
            files = {name: package.read(name) for name in package.namelist()}
        manifest = msgspec.json.decode(files.pop("manifest.json"), type=Manifest)
        return Model(manifest=manifest, files=files)

    def summary(self, value: Model) -> dict[str, Any]:
        return {"flavor": value.manifest.flavor, "metrics": value.manifest.metrics, "files": sorted(value.files)}
