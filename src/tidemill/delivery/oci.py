"""OCI images: writes layers, configurations and manifests into a layout, so that equal inputs have one digest.

No builder is needed for it: a tar file with one date, one owner and a sorted order has the same bytes everywhere.
"""

import hashlib
import io
import os
import platform
import re
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from tidemill.delivery.root_files import STATE, USER, Content, list_folders
from tidemill.errors import Corrupt, TidemillError
from tidemill.locks import lock_file

_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_NAME = "org.opencontainers.image.ref.name"
_GRACE_SECONDS = 3600
_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer in a layout; `diff` is the digest of its uncompressed bytes."""

    digest: str
    size: int
    media: str = _LAYER
    diff: str = ""


class Layout:
    """A folder in OCI's image layout; several images share their layers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), (folder / "oci-layout").open("x") as file:
            file.write('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, digest: str) -> Path:
        """Return the path of a blob."""
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def find_layer(self, key: str) -> Layer | None:
        """Return the layer that was written for a key, if it is still there."""
        with suppress(OSError, msgspec.MsgspecError):
            layer = msgspec.json.decode((self.folder / "keys" / key).read_bytes(), type=Layer)
            if self.blob(layer.digest).stat().st_size == layer.size:
                os.utime(self.blob(layer.digest))
                return layer
        return None

    def write_layer(self, files: Mapping[str, Content], key: str = "", *, with_state: bool = False) -> Layer:
        """Write a layer with files by their absolute paths; `with_state` adds folders that the user may write."""
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix="draft-", delete=False) as draft:
            try:
                sink = _Hashing(draft)
                _write_tar(sink, files, with_state=with_state)
                digest, size = f"sha256:{sink.content.hexdigest()}", sink.size
                draft.close()
                Path(draft.name).chmod(0o644)
                Path(draft.name).replace(self.blob(digest))
            except OSError as error:
                raise TidemillError(
                    f"an image cannot be written to {self.folder}: {error.strerror}", "free some space on the disk"
                ) from None
            finally:
                Path(draft.name).unlink(missing_ok=True)
        layer = Layer(digest=digest, size=size, diff=digest)
        if key:
            (self.folder / "keys").mkdir(exist_ok=True)
            (self.folder / "keys" / key).write_bytes(msgspec.json.encode(layer))
        return layer

    def write_file(self, content: bytes, media: str) -> Layer:
        """Write a file as a layer of its own kind, such as a signature."""
        digest, size = self._write_blob(content)
        return Layer(digest=digest, size=size, media=media, diff=digest)

    def write_image(
        self,
        name: str,
        layers: list[Layer],
        config: dict[str, Any],
        created: str,
        notes: Sequence[Mapping[str, str]] = (),
    ) -> str:
        """Write an image with these layers under a name, and return its digest; `notes` are annotations of layers."""
        described = {
            "architecture": config.pop("architecture", None) or find_architecture(),
            "os": "linux",
            "created": created,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff for layer in layers]},
        }
        configuration = self._write_blob(msgspec.json.encode(described))
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": configuration[0], "size": configuration[1]},
            "layers": [{"mediaType": layer.media, "digest": layer.digest, "size": layer.size} for layer in layers],
        }
        for described_layer, annotations in zip(manifest["layers"], notes, strict=False):
            described_layer["annotations"] = dict(annotations)
        digest, size = self._write_blob(msgspec.json.encode(manifest))
        self._add_to_index(name, {"mediaType": _MANIFEST, "digest": digest, "size": size})
        return digest

    def read_image(self, name: str) -> tuple[list[Layer], dict[str, Any]]:
        """Return the layers and the configuration of an image in the layout.

        Raises
        ------
        TidemillError
            if there is none, or it is for several platforms.
        """
        entry = next((entry for entry in self._read_index() if entry["annotations"].get(_NAME) == name), None)
        if entry is None:
            raise TidemillError(f"there is no image {name!r} in {self.folder}", "check [ci] base_image")
        manifest = msgspec.json.decode(self.blob(entry["digest"]).read_bytes())
        configuration = msgspec.json.decode(self.blob(manifest["config"]["digest"]).read_bytes())
        diffs = configuration["rootfs"]["diff_ids"]
        layers = [
            Layer(digest=layer["digest"], size=layer["size"], media=layer["mediaType"], diff=diff)
            for layer, diff in zip(manifest["layers"], diffs, strict=True)
        ]
        return layers, configuration

    def list_annotations(self, name: str) -> list[tuple[str, dict[str, str]]]:
        """Return the digest and the annotations of each layer of an image; nothing if there is no such image."""
        entry = next((entry for entry in self._read_index() if entry["annotations"].get(_NAME) == name), None)
        if entry is None:
            return []
        with suppress(OSError, msgspec.DecodeError, KeyError):
            manifest = msgspec.json.decode(self.blob(entry["digest"]).read_bytes())
            return [(layer["digest"], layer.get("annotations") or {}) for layer in manifest["layers"]]
        return []

    def require_unchanged(self, digest: str) -> str:
        """Return the digest of an image's configuration, which names the contents of its layers.

        Raise `Corrupt` if the manifest or the configuration is not what its digest says. Whatever reads the layers
        compares them with their digests.
        """
        content = self.blob(digest).read_bytes()
        parts = [(digest, content)]
        with suppress(msgspec.DecodeError, KeyError, OSError):
            configuration = msgspec.json.decode(content)["config"]["digest"]
            parts.append((configuration, self.blob(configuration).read_bytes()))
        for expected, part in parts:
            if f"sha256:{hashlib.sha256(part).hexdigest()}" != expected:
                cure = "do not run it; build the commit again, or delete it, so that it is pulled from the registry"
                raise Corrupt(f"the image {digest[:19]} in {self.folder} was changed", cure)
        return parts[-1][0]

    def find_name(self, digest: str, name: str) -> str | None:
        """Return a name of the image with this digest; None if there is no such image.

        An image that lost its name to a later image of the same commit gets `name`.
        """
        entries = self._read_index()
        known = next((entry["annotations"][_NAME] for entry in entries if entry["digest"] == digest), None)
        if known is None and self.blob(digest).exists():
            size = self.blob(digest).stat().st_size
            self._add_to_index(name, {"mediaType": _MANIFEST, "digest": digest, "size": size})
            return name
        return known

    def prune(self, count: int) -> None:
        """Keep the images that were written last, with their signatures, and delete the blobs that no image needs.

        New blobs are kept.
        """
        with lock_file(self.folder / "lock"):
            entries = self._read_index()
            images = [entry for entry in entries if not _is_signature(entry)][-count:]
            signed = {f"{image['digest'].replace(':', '-')}.sig" for image in images}
            entries = [
                entry
                for entry in entries
                if entry in images or (_is_signature(entry) and entry["annotations"][_NAME].partition(":")[2] in signed)
            ]
            needed: set[str] = set()
            for entry in entries:
                manifest = msgspec.json.decode(self.blob(entry["digest"]).read_bytes())
                needed |= {entry["digest"], manifest["config"]["digest"]}
                needed |= {layer["digest"] for layer in manifest["layers"]}
            self._write_index(entries)
            newest = max((blob.stat().st_mtime for blob in self.blob("").iterdir()), default=0.0)
            for blob in self.blob("").iterdir():
                if f"sha256:{blob.name}" not in needed and blob.stat().st_mtime < newest - _GRACE_SECONDS:
                    blob.unlink(missing_ok=True)

    def _write_blob(self, content: bytes) -> tuple[str, int]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        draft = self.blob(digest).with_suffix(f".{os.getpid()}")
        draft.write_bytes(content)
        draft.replace(self.blob(digest))
        return digest, len(content)

    def _read_index(self) -> list[dict[str, Any]]:
        with suppress(OSError, msgspec.DecodeError, KeyError):
            return list(msgspec.json.decode((self.folder / "index.json").read_bytes())["manifests"])
        return []

    def _add_to_index(self, name: str, entry: dict[str, Any]) -> None:
        with lock_file(self.folder / "lock"):
            others = [known for known in self._read_index() if known["annotations"].get(_NAME) != name]
            entries = [*others, entry | {"annotations": {_NAME: name}}]
            self._write_index(entries)

    def _write_index(self, entries: list[dict[str, Any]]) -> None:
        draft = self.folder / f"index.{os.getpid()}"
        draft.write_bytes(msgspec.json.encode({"schemaVersion": 2, "manifests": entries}))
        draft.replace(self.folder / "index.json")


def _is_signature(entry: Mapping[str, Any]) -> bool:
    return str(entry["annotations"].get(_NAME, "")).endswith(".sig")


def name_repository(project: str) -> str:
    """Return the name of a project in registries and in the storage of images.

    A name that cannot be one there gets a part of its hash, so that different projects have different names.

    >>> name_repository("Late_Flights")
    'late_flights'
    >>> name_repository("Größe")
    'gr-e-aedc3f80'
    """
    if _REPOSITORY.fullmatch(project.lower()):
        return project.lower()
    plain = re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-")[:100]
    return f"{plain or 'project'}-{hashlib.sha256(project.encode()).hexdigest()[:8]}".strip("-")


def find_architecture() -> str:
    """Return the architecture of this machine, as OCI names it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


class _Hashing(io.RawIOBase):
    """A writable file that computes the digest and the size of what is written."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self.content = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, chunk: Any) -> int:
        self.content.update(chunk)
        self.size += len(chunk)
        return self._sink.write(chunk)


def _write_tar(sink: _Hashing, files: Mapping[str, Content], *, with_state: bool) -> None:
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for folder in list_folders(files):
            archive.addfile(_entry(folder, 0o755, kind=tarfile.DIRTYPE))
        if with_state:
            archive.addfile(_entry(STATE, 0o755, kind=tarfile.DIRTYPE, owner=USER))
            archive.addfile(_entry("/tmp", 0o1777, kind=tarfile.DIRTYPE))
        for name, content in sorted(files.items()):
            if isinstance(content, bytes):
                archive.addfile(_entry(name, 0o644, size=len(content)), io.BytesIO(content))
                continue
            with content.open("rb") as source:
                status = os.fstat(source.fileno())
                mode = 0o755 if status.st_mode & 0o100 else 0o644
                archive.addfile(_entry(name, mode, size=status.st_size), source)


def _entry(name: str, mode: int, *, size: int = 0, kind: bytes = tarfile.REGTYPE, owner: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.mode, entry.size, entry.type = mode, size, kind
    entry.uid = entry.gid = owner
    entry.mtime = 0
    return entry
