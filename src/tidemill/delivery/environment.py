"""Environments of builds: made from the lock of a commit by uv, and kept by the digest of what is in them."""

import hashlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

from msgspec import Struct

from tidemill.clock import parse_duration
from tidemill.core.ci import BuildHost, Ci
from tidemill.delivery.wheel import write_running_wheel
from tidemill.faults import maybe_crash
from tidemill.host.libraries import list_system_libraries
from tidemill.host.python import normalize_name, read_headers
from tidemill.host.sandbox import Limits, run_sandboxed
from tidemill.host.uv import find_uv

_UV_LOCK, _PYPROJECT, _PYTHON = "uv.lock", "pyproject.toml", ".python-version"
# Where packages come from; uv and the builds of source distributions get them, and no other variables.
_INDEX_VARIABLES = (
    *("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_OFFLINE"),
    *(
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "https_proxy",
        "http_proxy",
        "no_proxy",
    ),
)
_PIN = re.compile(
    r"[A-Za-z0-9][\w.-]*(\[[\w,.-]+\])?==[^\s;@]+(\s*;[^@]*)?(\s+--hash=\w+:\w+)*\s*\\?|--hash=\w+:\w+\s*\\?"
)


class BuildEnvironment(Struct, frozen=True, kw_only=True):
    """The environment of a build.

    Attributes
    ----------
    key
        The digest of what it was made from.
    python
        The version of Python.
    packages
        The version of each installed package.
    runtime
        The packages of the lock without those that only tests need, as `name==version`.
    system
        The system libraries that it depends on, with their versions.
    problem
        Why it could not be made.
    tidemill
        The digest of the wheel of Tidemill in it.
    reused
        Whether an earlier build made it.
    """

    key: str = ""
    python: str = ""
    packages: dict[str, str] = {}
    runtime: tuple[str, ...] = ()
    system: dict[str, str] = {}
    problem: str = ""
    tidemill: str = ""
    reused: bool = False

    @property
    def deployed(self) -> dict[str, str]:
        """Return the packages that a deployment needs: those of the lock without tests, and Tidemill."""
        names = {normalize_name(line.partition("==")[0]) for line in self.runtime} | {"tidemill"}
        return {name: version for name, version in self.packages.items() if name in names}


def find_interpreter(host: BuildHost, environment: BuildEnvironment) -> Path:
    """Return the path of the interpreter of an environment."""
    return find_environment(host, environment) / "bin" / "python"


def find_environment(host: BuildHost, environment: BuildEnvironment) -> Path:
    """Return the folder of an environment."""
    return _folder(host, environment.key)


def make_environment(ci: Ci, host: BuildHost, files: Mapping[str, bytes], log: Path) -> BuildEnvironment:
    """Return the environment of a commit, from the lock in its files; make it if no earlier build did.

    `problem` says why it could not be made, in the words of uv.
    """
    system = list_system_libraries()
    uv = find_uv()
    if uv is None:
        return BuildEnvironment(system=system, problem="uv is not installed on this machine: pip install uv")
    if problem := _find_problem(ci, files):
        return BuildEnvironment(system=system, problem=problem)
    try:
        return _make(ci, host, files, log, uv, system)
    except OSError as error:
        reason = f"the environment cannot be written below {host.folder}: {error.strerror}"
        return BuildEnvironment(system=system, problem=reason)


def _find_problem(ci: Ci, files: Mapping[str, bytes]) -> str:
    """Return why a lock cannot be used: there is none, or a line is not an exact version."""
    if _UV_LOCK in files:
        return ""
    if ci.lock not in files:
        return f"the commit has no {ci.lock} and no {_UV_LOCK}: write one with `tidemill ci lock`, and commit it"
    for name in (ci.lock, ci.test_lock):
        for number, line in enumerate(files.get(name, b"").decode(errors="replace").splitlines(), 1):
            text = line.split(" #")[0].strip()
            if text and not text.startswith("#") and not _PIN.fullmatch(text):
                return f"{name}, line {number} is not an exact version, such as polars==2.1.0: {text[:80]!r}"
    return ""


def _make(
    ci: Ci, host: BuildHost, files: Mapping[str, bytes], log: Path, uv: str, system: dict[str, str]
) -> BuildEnvironment:
    wanted = files.get(_PYTHON, b"").decode(errors="replace").strip() or sys.executable
    name, wheel = write_running_wheel()
    inputs = [files.get(part, b"") for part in (_UV_LOCK, _PYPROJECT, ci.lock, ci.test_lock)]
    parts = [wanted.encode(), platform.python_version().encode(), platform.machine().encode(), wheel, *inputs]
    key = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:32]
    folder = _folder(host, key)
    reused = folder.exists()
    if not reused:
        host.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=host.folder, prefix="draft-", ignore_cleanup_errors=True) as draft:
            problem = _Maker(ci, uv, Path(draft), log).make(files, wanted, name, wheel)
            if problem:
                return BuildEnvironment(system=system, problem=problem)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # another build made it first
                (Path(draft) / "environment").rename(folder)
            maybe_crash("environment is made")
    with suppress(OSError):
        os.utime(folder)
    return BuildEnvironment(
        key=key,
        python=(folder / "python.txt").read_text(),
        packages=_list_installed(folder),
        runtime=tuple((folder / "runtime.txt").read_text().splitlines()),
        system=system,
        tidemill=hashlib.sha256(wheel).hexdigest(),
        reused=reused,
    )


class _Maker:
    """Makes an environment in a temporary folder."""

    def __init__(self, ci: Ci, uv: str, draft: Path, log: Path) -> None:
        self._uv = uv
        self._ci = ci
        self._draft = draft
        self._log = log
        self._limits = Limits(seconds=parse_duration(ci.timeout).total_seconds(), memory_mb=ci.memory_mb)

    def make(self, files: Mapping[str, bytes], python: str, name: str, wheel: bytes) -> str:
        """Make the environment; return why it cannot be made."""
        draft, folder = self._draft, self._draft / "environment"
        locks, runtime = self._write_locks(files)
        if not locks:
            return self._describe(f"{_UV_LOCK} cannot be read")
        (draft / name).write_bytes(wheel)
        interpreter = str(folder / "bin" / "python")
        requirements = [part for lock in locks for part in ("-r", str(lock))]
        install = ("pip", "install", "--no-deps", "--python", interpreter, *requirements, str(draft / name))
        steps = (
            ("venv", "--relocatable", "--no-python-downloads", "--python", python, str(folder)),
            install,
            ("pip", "check", "--python", interpreter),
        )
        for step in steps:
            if not self._run(*step):
                return self._describe(f"uv {' '.join(step[:2])} failed")
        (folder / "runtime.txt").write_text("\n".join(_list_pins(runtime)))
        version = run_sandboxed(
            [interpreter, "-I", "-c", "import platform; print(platform.python_version())"],
            draft,
            self._limits,
            home=draft / "home",
            log=draft / "version.txt",
        )
        if not version.succeeded:
            return f"the Python of the environment does not start: it {version.describe(self._limits)}"
        (folder / "python.txt").write_text((draft / "version.txt").read_text().strip())
        return ""

    def _write_locks(self, files: Mapping[str, bytes]) -> tuple[list[Path], str]:
        """Write the lock as files that pip reads; return them, and the text of the lock without tests."""
        draft = self._draft
        if _UV_LOCK not in files:
            texts = [files[name] for name in (self._ci.lock, self._ci.test_lock) if name in files]
            locks = [draft / f"lock{index}.txt" for index in range(len(texts))]
            for lock, text in zip(locks, texts, strict=True):
                lock.write_text(_remove_tidemill(text.decode(errors="replace")))
            return locks, files[self._ci.lock].decode(errors="replace") if self._ci.lock in files else ""
        project = draft / "project"
        project.mkdir()
        for name in (_UV_LOCK, _PYPROJECT):
            (project / name).write_bytes(files.get(name, b""))
        export = ("export", "--frozen", "--no-emit-project", "--quiet", "--project", str(project), "-o")
        everything, runtime = draft / "lock.txt", draft / "runtime.txt"
        if not self._run(*export, str(everything), "--all-groups"):
            return [], ""
        if not self._run(*export, str(runtime), "--no-dev"):
            return [], ""
        everything.write_text(_remove_tidemill(everything.read_text()))
        return [everything], runtime.read_text()

    def _run(self, *arguments: str) -> bool:
        variables = {name: os.environ[name] for name in _INDEX_VARIABLES if name in os.environ}
        variables["UV_CACHE_DIR"] = os.environ.get("UV_CACHE_DIR") or str(_find_cache())
        # Copies, not links: code of a commit could otherwise change the files in the cache of uv.
        variables["UV_LINK_MODE"] = "copy"
        configuration = Path.home() / ".config" / "uv" / "uv.toml"
        if configuration.exists():
            variables["UV_CONFIG_FILE"] = str(configuration)
        result = run_sandboxed(
            [self._uv, *arguments],
            self._draft,
            self._limits,
            home=self._draft / "home",
            log=self._log,
            variables=variables,
            echo=lambda line: print(line, end=""),
        )
        self._ending = result.describe(self._limits)
        return result.succeeded

    def _describe(self, what: str) -> str:
        """Return the reason of a failure: the last message of uv."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        message = " ".join(line.strip(" ×╰─▶│├╭") for line in lines[-12:] if line.strip())
        return f"the lock cannot be installed: {what}: {message or self._ending}"[:2000]


def _find_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"


def _folder(host: BuildHost, key: str) -> Path:
    return host.folder / "environments" / key


def _remove_tidemill(text: str) -> str:
    """Return a lock without Tidemill and its hashes: the running version is installed."""
    return re.sub(r"(?m)^tidemill==[^\n]*(?:\n\s+--hash[^\n]*)*\n?", "", text)


def _list_pins(text: str) -> list[str]:
    """Return the lines `name==version` of a lock, without hashes and conditions."""
    lines = (line.split(";")[0].split("\\")[0].split(" --")[0].strip() for line in text.splitlines())
    return sorted({line for line in lines if "==" in line and not line.startswith(("#", "-", "tidemill=="))})


def _list_installed(folder: Path) -> dict[str, str]:
    site = [str(path) for path in folder.glob("lib/python*/site-packages")]
    found = [read_headers(package) for package in distributions(path=site)]
    return dict(sorted((normalize_name(str(each["Name"])), str(each["Version"])) for each in found))
