"""Security checks of a commit: pickles that run code, secrets in its files, and packages with known vulnerabilities.

The functions read what is passed to them, and open no file.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from tidemill.errors import MissingExtra

# Modules whose functions run programs, change files, open connections, or import other modules.
_DANGEROUS_MODULES = frozenset(
    {
        *("os", "posix", "nt", "sys", "subprocess", "commands", "pty", "shutil", "socket", "ssl", "ctypes", "_ctypes"),
        *("runpy", "importlib", "imp", "pkgutil", "code", "codeop", "multiprocessing", "threading", "signal", "pdb"),
        *("bdb", "timeit", "cProfile", "profile", "webbrowser", "urllib", "http", "ftplib", "smtplib", "requests"),
        *("httpx", "pip", "asyncio", "tempfile", "pathlib", "marshal", "types", "operator", "_operator", "site"),
    }
)
_DANGEROUS_BUILTINS = frozenset(
    {"eval", "exec", "execfile", "compile", "open", "file", "input", "getattr", "setattr", "delattr", "vars", "globals"}
    | {"__import__", "breakpoint", "apply", "locals"}
)
_BUILTINS = ("builtins", "__builtin__")
_HARMLESS = frozenset({"operator.itemgetter", "_operator.itemgetter", "types.SimpleNamespace"})
_UNKNOWN = "?"

_SECRETS = {
    "AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b",
    "GitLab token": r"\bgl(?:pat|dt|rt|ptt)-[A-Za-z0-9_-]{20,}",
    "Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "Google API key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "PyPI token": r"\bpypi-AgEI[A-Za-z0-9_-]{50,}",
    "npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{20,}\b",
    "secret key of an AI service": r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}\b",
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "password in a URL": r"[a-z][a-z0-9+.-]*://[^\s:/@'\"]{1,64}:(?P<secret>[^\s:/@'\"]{4,})@[^\s'\"]+",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in _SECRETS.items()}
_ASSIGNED = re.compile(
    r"(?i)[\w.-]*(?:password|passwd|secret|token|api_?key|access_?key|private_?key|credential)s?[\w.-]*['\"\]]*"
    r"\s*(?::[^=]{0,40})?[:=]\s*[rbf]{0,2}['\"](?P<secret>[^'\"\s]{8,})['\"]"
)
_QUOTED = re.compile(r"['\"](?P<secret>[A-Za-z0-9+/_=-]{32,})['\"]")
_DIGEST = re.compile(r"(?:0x)?[0-9a-fA-F-]+|(?:md5|sha1|sha256|sha384|sha512)[-:=].*")
_PLACEHOLDER = re.compile(r"(?i)[<{$%*]|\.\.\.|…|example|change[-_]?me|placeholder|dummy|xxxx|your[-_]")
_WORDS = re.compile(r"(?i)password|passwd|secret|token|test(?:ing)?|sample|user|admin|key|value|local|dev|[^A-Za-z0-9]")
_LEAST_LEFT = 6
_NAME = re.compile(r"[A-Za-z_]+(?:[._-][A-Za-z_]+)*|[A-Z0-9_]+")
_ALLOWED = ("pragma: allowlist secret", "not a secret")
_ENTROPY_OF_ASSIGNED, _ENTROPY_OF_QUOTED = 3.0, 4.3
_LONGEST_LINE = 5_000


class SecurityFinding(Struct, frozen=True, kw_only=True):
    """A problem in a file or a package; `text` never contains a secret."""

    kind: str
    subject: str
    text: str
    line: int = 0
    is_blocking: bool = True

    def __str__(self) -> str:
        position = f"{self.subject}, line {self.line}" if self.line else self.subject
        return f"{position}: {self.text}"


def check_pickle(name: str, imports: Collection[str], *, whole: bool) -> SecurityFinding:
    """Judge a pickle by the names that it would import; `whole` is whether it could be read to its end.

    A pickle that imports only data types is a warning: whoever can change the file can run code.

    >>> check_pickle("model.pkl", ["posix.system"], whole=True).text
    'it would run posix.system when it is loaded'
    """
    dangerous = sorted(path for path in imports if _is_dangerous(path))
    if dangerous:
        text = f"it would run {', '.join(dangerous[:3])} when it is loaded"
        return SecurityFinding(kind="pickle", subject=name, text=text)
    if not whole or _UNKNOWN in imports:
        return SecurityFinding(kind="pickle", subject=name, text="it cannot be read to its end without running it")
    text = "a pickle runs code when it is loaded: use a native format, or store it outside the repository"
    return SecurityFinding(kind="pickle", subject=name, text=text, is_blocking=False)


def _is_dangerous(path: str) -> bool:
    module, _, name = path.rpartition(".")
    if module in _BUILTINS:
        return name in _DANGEROUS_BUILTINS
    return path not in _HARMLESS and path.partition(".")[0] in _DANGEROUS_MODULES


def find_secrets(files: Mapping[str, str], *, unquoted: Collection[str] = ()) -> list[SecurityFinding]:
    """Return the secrets in the text of files.

    Found are the forms of known kinds of keys, a value that is assigned to a name such as `password`, and a quoted text
    of 32 or more random characters. Digests in hexadecimal and placeholders are no secrets. A line with
    `pragma: allowlist secret` is not checked. In the files `unquoted`, such as locks, only known kinds are found.
    """
    found: list[SecurityFinding] = []
    for name, text in sorted(files.items()):
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > _LONGEST_LINE or any(mark in line for mark in _ALLOWED):
                continue
            kind = _classify(line, known_only=name in unquoted)
            if kind:
                found.append(SecurityFinding(kind="secret", subject=name, line=number, text=f"it contains a {kind}"))
    return found


def _classify(line: str, *, known_only: bool) -> str:
    """Return the kind of the secret in a line; empty if it contains none."""
    for kind, pattern in _PATTERNS.items():
        match = pattern.search(line)
        if match and not ("secret" in match.groupdict() and _is_placeholder(match["secret"])):
            return kind
    if known_only:
        return ""
    for match in _ASSIGNED.finditer(line):
        value = match["secret"]
        if not _is_placeholder(value) and _measure_entropy(value) >= _ENTROPY_OF_ASSIGNED and _is_mixed(value, 2):
            return "password or key that is assigned to a name"
    for match in _QUOTED.finditer(line):
        value = match["secret"]
        is_random = _is_mixed(value, 3) and _measure_entropy(value) >= _ENTROPY_OF_QUOTED
        if is_random and not _DIGEST.fullmatch(value) and not _is_path(value):
            return "text of random characters"
    return ""


def _is_placeholder(value: str) -> bool:
    """Return whether a value is no secret: an example, a name, or the word `password` itself."""
    rest = _WORDS.sub("", value)
    return bool(_PLACEHOLDER.search(value) or _NAME.fullmatch(value)) or len(rest) < _LEAST_LEFT


def _is_path(value: str) -> bool:
    """Return whether a text consists of words, as paths and names do."""
    words = [word for word in re.split(r"[/_=+-]", value) if word]
    return bool(words) and sum(len(word) for word in words if word.isalpha()) > len(value) * 0.6


def _is_mixed(value: str, least: int) -> bool:
    kinds = (str.isupper, str.islower, str.isdigit, lambda letter: not letter.isalnum())
    return sum(any(map(kind, value)) for kind in kinds) >= least


def _measure_entropy(text: str) -> float:
    """Return the entropy of the characters of a text, in bits per character."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def find_vulnerable(
    packages: Mapping[str, str], advisories: Iterable[Mapping[str, Any]], allowed: Collection[str] = ()
) -> list[SecurityFinding]:
    """Return the packages with known vulnerabilities, by advisories in OSV's format.

    `packages` has the version of each package. An id or alias in `allowed` is reported, but does not block.

    Raises
    ------
    MissingExtra
        if `packaging`, which compares versions, is not installed.
    """
    found = []
    for advisory in advisories:
        if advisory.get("withdrawn"):
            continue
        for name, version in _match(advisory, packages):
            names = [str(advisory.get("id", "?")), *map(str, advisory.get("aliases") or ())]
            text = f"version {version} has a known vulnerability: {', '.join(names)}: {_summarize(advisory)}"
            is_blocking = not set(names) & set(allowed)
            finding = SecurityFinding(kind="vulnerability", subject=name, text=text, is_blocking=is_blocking)
            found.append(finding)
    return sorted(found, key=lambda finding: (finding.subject, finding.text))


def _summarize(advisory: Mapping[str, Any]) -> str:
    lines = str(advisory.get("summary") or advisory.get("details") or "no summary").strip().splitlines()
    return lines[0][:160] if lines else ""


def _match(advisory: Mapping[str, Any], packages: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the installed packages that an advisory affects, each once."""
    seen = set()
    for affected in advisory.get("affected") or ():
        package = affected.get("package") or {}
        name = re.sub(r"[-_.]+", "-", str(package.get("name", ""))).lower()
        is_python = str(package.get("ecosystem", "")).partition(":")[0] == "PyPI"
        if not is_python or name not in packages or name in seen:
            continue
        if _affects(affected, packages[name]):
            seen.add(name)
            yield name, packages[name]


def _affects(affected: Mapping[str, Any], version: str) -> bool:
    if version in (affected.get("versions") or ()):
        return True
    ranges = [part for part in affected.get("ranges") or () if part.get("type") in ("ECOSYSTEM", "SEMVER")]
    return any(_is_in_range(part.get("events") or (), version) for part in ranges)


def _is_in_range(events: Iterable[Mapping[str, str]], version: str) -> bool:
    """Return whether a version is in a range of OSV: events in the order of their versions switch it on and off."""
    try:
        from packaging.version import InvalidVersion, Version
    except ImportError:
        raise MissingExtra("packaging", "delivery") from None
    try:
        present = Version(version)
        ordered = sorted(
            (Version("0.dev0") if text == "0" else Version(text), kind)
            for event in events
            for kind, text in event.items()
            if kind in ("introduced", "fixed", "last_affected")
        )
    except InvalidVersion:
        return False
    inside = False
    for limit, kind in ordered:
        if kind == "introduced" and present >= limit:
            inside = True
        elif (kind == "fixed" and present >= limit) or (kind == "last_affected" and present > limit):
            inside = False
    return inside
