"""The security gate of a commit: reads its files, its lock and the advisories, and judges them."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tidemill.checks.security import SecurityFinding, check_pickle, find_secrets, find_vulnerable
from tidemill.core.ci import Ci
from tidemill.delivery.judgement import Judgement
from tidemill.errors import TidemillError
from tidemill.models.pickles import read_info

_PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".dill", ".sav", ".p")
_PROTOCOLS = tuple(bytes([0x80, number]) for number in range(2, 6))
_ARRAY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_LARGEST_TEXT = 1_000_000
_MOST_LISTED = 10
_KINDS = ("pickle", "secret", "vulnerability")


def check_security(ci: Ci, files: Mapping[str, bytes], packages: Mapping[str, str], project: Path) -> Judgement:
    """Judge a commit: unsafe pickles, secrets, and vulnerable packages if advisories are set.

    `packages` are the packages of its lock; `project` is the folder in which a relative path of advisories starts.
    """
    locks = {"uv.lock", ci.lock, ci.test_lock}
    findings = [_check_pickle(name, content) for name, content in _list_pickles(files)]
    findings += find_secrets(dict(_list_texts(files)), unquoted=locks)
    advised = 0
    if ci.advisories:
        try:
            advisories = list(read_advisories(project / ci.advisories))
            advised = len(advisories)
            findings += find_vulnerable(packages, advisories, ci.allowed_advisories)
        except TidemillError as unreadable:
            return Judgement(check="ci_security", outcome="undecided", reason=unreadable.problem)
    return _judge(findings, advised)


def _judge(findings: list[SecurityFinding], advised: int) -> Judgement:
    blocking = [str(finding) for finding in findings if finding.is_blocking]
    others = [str(finding) for finding in findings if not finding.is_blocking]
    evidence = {
        "problems": blocking[:_MOST_LISTED],
        "warnings": others[:_MOST_LISTED],
        "advisories": advised,
        "counts": {kind: sum(finding.kind == kind for finding in findings) for kind in _KINDS},
    }
    if blocking:
        more = f" (and {len(blocking) - 3} more)" if len(blocking) > 3 else ""
        reason = "; ".join(blocking[:3]) + more
        return Judgement(check="ci_security", outcome="fail", reason=reason, evidence=evidence)
    source = f"{advised} advisories" if advised else "no advisories are set, so packages were not checked"
    if others:
        return Judgement(check="ci_security", outcome="warn", reason="; ".join(others[:3]), evidence=evidence)
    reason = f"no unsafe pickle, no secret; {source}"
    return Judgement(check="ci_security", outcome="pass", reason=reason, evidence=evidence)


def _list_pickles(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the pickles among files, also those inside archives of models and arrays of objects."""
    for name, content in sorted(files.items()):
        if content.startswith(_ZIP):
            yield from _list_members(name, content)
        elif content.startswith(_ARRAY):
            size = int.from_bytes(content[8:10], "little") if content[6:7] == b"\x01" else 0
            if b"|O" in content[:200] or b"'O'" in content[:200]:
                yield name, content[10 + size :]
        elif content.startswith(_PROTOCOLS) or name.lower().endswith(_PICKLES):
            yield name, content


def _list_members(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in archive.infolist():
                if entry.filename.lower().endswith(_PICKLES) and entry.file_size <= 100 * _LARGEST_TEXT:
                    yield f"{name}!{entry.filename}", archive.read(entry)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError):
        return


def _check_pickle(name: str, content: bytes) -> SecurityFinding:
    info = read_info(content)
    return check_pickle(name, info.imports, whole=info.whole)


def _list_texts(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    for name, content in files.items():
        if len(content) <= _LARGEST_TEXT and b"\0" not in content[:8000]:
            try:
                yield name, content.decode()
            except UnicodeDecodeError:
                yield name, content.decode("latin-1")


def read_advisories(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the advisories in a file, a zip file or a folder of JSON files in OSV's format.

    Raises
    ------
    TidemillError
        if the path does not exist, or a file is no JSON.
    """
    if not path.exists():
        raise TidemillError(f"there are no advisories at {path}", "correct [ci] advisories in tidemill.toml")
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield from _decode(file.name, file.read_bytes())
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".json"):
                    yield from _decode(name, archive.read(name))
    else:
        yield from _decode(path.name, path.read_bytes())


def _decode(name: str, content: bytes) -> Iterator[dict[str, Any]]:
    try:
        decoded = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise TidemillError(f"the advisories in {name} are no JSON: {error}", "download them again") from None
    if isinstance(decoded, dict):
        decoded = decoded.get("vulns", [decoded])
    yield from (advisory for advisory in decoded if isinstance(advisory, dict))
