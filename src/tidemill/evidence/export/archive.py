"""The archive of an evidence file: a zip file without times and compression, so that equal files have equal bytes."""

import io
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from tidemill.errors import Corrupt, InputError
from tidemill.evidence.export import seal

_LARGEST = 1_000_000_000
_TIME = (1980, 1, 1, 0, 0, 0)


class EvidenceCheck(Struct, frozen=True, kw_only=True):
    """The result of a check of an evidence file: the names of its changed, missing and added files, and its signature.

    `signature` is `unsigned`; `valid` by the given key; `unproven`: by the key that the file itself contains, which
    proves nothing about the signer; or `invalid`, and then `problem` says why.
    """

    release: str
    project: str
    files: int
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    signature: str = "unsigned"
    signer: str = ""
    problem: str = ""

    @property
    def intact(self) -> bool:
        """Return whether no file was changed, removed or added, and the signature is not invalid."""
        return not (self.changed or self.missing or self.added or self.problem)


def write_archive(file: Path, files: Mapping[str, bytes]) -> None:
    """Write files to an archive; raise `InputError` if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.part")
        draft.write_bytes(build_archive(files))
        draft.replace(file)
    except OSError as error:
        raise InputError(
            f"{file} cannot be written: {error.strerror}", "choose a folder with write permission"
        ) from None


def build_archive(files: Mapping[str, bytes]) -> bytes:
    """Return the bytes of an archive; equal files result in equal bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return sink.getvalue()


def check_archive(file: Path, public_key: bytes | None = None) -> EvidenceCheck:
    """Compare the files of an archive with its statement, and verify its signature; no network is used.

    Raises
    ------
    InputError
        if the file cannot be read.
    Corrupt
        if it is no archive of evidence.
    """
    content = _read(file)
    files, doubled = _read_files(content, file)
    if seal.STATEMENT not in files:
        raise Corrupt(f"{file} has no {seal.STATEMENT}: it is no evidence file, or it was changed", "export it again")
    statement = seal.read_statement(files[seal.STATEMENT])
    listed = statement.digests
    present = {name: sha256(data).hexdigest() for name, data in files.items()}
    sealed = {seal.STATEMENT, seal.SIGNATURE}
    changed = {name for name in listed.keys() & present.keys() if listed[name] != present[name]}
    added = (present.keys() - listed.keys() - sealed) | doubled
    signature, signer, problem = _check_signature(files, statement, public_key)
    if not problem and not changed and not added and content != build_archive(files):
        problem = "the archive has bytes outside its files"
    return EvidenceCheck(
        release=str(statement.predicate.get("release", "")),
        project=str(statement.predicate.get("project", "")),
        files=len(files),
        changed=tuple(sorted(changed)),
        missing=tuple(sorted(listed.keys() - present.keys())),
        added=tuple(sorted(added)),
        signature=signature,
        signer=signer,
        problem=problem,
    )


def _check_signature(
    files: Mapping[str, bytes], statement: seal.SealStatement, public_key: bytes | None
) -> tuple[str, str, str]:
    """Return the state of the signature, its signer, and the problem if it is invalid."""
    signed = seal.SIGNATURE in files
    if not signed and statement.predicate.get("signed"):
        return "invalid", "", f"{seal.SIGNATURE} is missing: the file was signed"
    if not signed and public_key is not None:
        return "invalid", "", "the file is not signed"
    if not signed:
        return "unsigned", "", ""
    envelope = seal.read_envelope(files[seal.SIGNATURE])
    signer = envelope.signatures[0].keyid if envelope.signatures else ""
    problem = seal.find_seal_problem(files[seal.STATEMENT], envelope, public_key or envelope.public_key.encode())
    if problem:
        return "invalid", signer, problem
    return ("valid" if public_key is not None else "unproven"), signer, ""


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > _LARGEST:
            raise InputError(f"{file} is too large for an evidence file", "choose another file")
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "check the path") from None


def _read_files(content: bytes, file: Path) -> tuple[dict[str, bytes], set[str]]:
    """Return the files of an archive, and the names that it has twice."""
    files: dict[str, bytes] = {}
    doubled: set[str] = set()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise Corrupt(f"{file} is too large when it is unpacked", "choose another file")
            for entry in archive.infolist():
                if entry.filename in files:
                    doubled.add(entry.filename)
                files[entry.filename] = _read_entry(archive, entry)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise Corrupt(f"{file} is no archive: {error}", "export the evidence again") from None
    return files, doubled


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return the content of an entry; if its checksum does not match, the bytes as they are."""
    try:
        return archive.read(entry)
    except zipfile.BadZipFile:
        with archive.open(entry) as source:
            source._expected_crc = None  # type: ignore[attr-defined]  # the digest in the statement decides
            return source.read()
