"""What changed since the last passed build of a branch, and so decides whether CI must run."""

import hashlib
import tomllib
from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from tidemill.core.build import Build
from tidemill.core.ci import Ci
from tidemill.delivery.checkout import Checkout, list_changed_parts, list_code

Kind = Literal["code", "package", "policy", "python", "system", "tidemill"]
_NAMES: dict[str, Kind] = {"python": "python", "tidemill": "tidemill", "policy": "policy"}


class Change(Struct, frozen=True, kw_only=True):
    """A difference: `before` is empty for something new, `after` for something that is gone."""

    kind: Kind
    name: str
    before: str = ""
    after: str = ""


def list_changes(
    ci: Ci, checkout: Checkout, files: Mapping[str, bytes], last: Build, last_files: Mapping[str, bytes]
) -> list[Change]:
    """Return the differences of a commit to the last passed build, whose files are `last_files`."""
    parts = list_changed_parts(checkout, last)
    changes: list[Change] = []
    if "code" in parts:
        changes += _compare_code(ci, files, last_files)
    if "lock" in parts:
        changes += _compare_locks(ci, files, last_files)
    for name, (before, after) in parts.items():
        if name.startswith("system "):
            changes.append(Change(kind="system", name=name.removeprefix("system "), before=before, after=after))
        elif name in _NAMES:
            is_digest = name == "policy"
            shown = (before[:12], after[:12]) if is_digest else (before, after)
            changes.append(Change(kind=_NAMES[name], name=name, before=shown[0], after=shown[1]))
    return changes


def _compare_code(ci: Ci, files: Mapping[str, bytes], last_files: Mapping[str, bytes]) -> list[Change]:
    before, after = set(list_code(last_files, ci)), set(list_code(files, ci))
    changed = [name for name in before & after if files[name] != last_files[name]]
    return [
        *(_compare_file(name, last_files[name], files[name]) for name in sorted(changed)),
        *(_compare_file(name, b"", files[name]) for name in sorted(after - before)),
        *(_compare_file(name, last_files[name], b"") for name in sorted(before - after)),
    ]


def _compare_file(name: str, before: bytes, after: bytes) -> Change:
    digests = [hashlib.sha256(content).hexdigest()[:12] if content else "" for content in (before, after)]
    return Change(kind="code", name=name, before=digests[0], after=digests[1])


def _compare_locks(ci: Ci, files: Mapping[str, bytes], last_files: Mapping[str, bytes]) -> list[Change]:
    """Return the packages whose versions differ; if only comments or hashes differ, the files themselves."""
    before, after = _read_versions(ci, last_files), _read_versions(ci, files)
    changes = [
        Change(kind="package", name=name, before=before.get(name, ""), after=after.get(name, ""))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    return changes or [Change(kind="package", name="the file of the lock", before="one text", after="another text")]


def _read_versions(ci: Ci, files: Mapping[str, bytes]) -> dict[str, str]:
    if "uv.lock" in files:
        packages = tomllib.loads(files["uv.lock"].decode()).get("package", ())
        return {package["name"]: package.get("version", "") for package in packages}
    text = "\n".join(files.get(name, b"").decode(errors="replace") for name in (ci.lock, ci.test_lock))
    lines = (line.split(";")[0].split("\\")[0].split(" --")[0].strip() for line in text.splitlines())
    pairs = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.strip().lower(): version.strip() for name, _, version in pairs}
