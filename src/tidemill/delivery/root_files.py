"""The files of a container image: Python with its shared libraries, the packages of a lock, and a project."""

import csv
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

from tidemill.errors import TidemillError

Content = Path | bytes
"""A file on this machine, or the bytes of a file."""

PYTHON_HOME = "/opt/python"
PACKAGES = "/opt/tidemill/packages"
PROJECTS = "/opt/tidemill/projects"
STATE = "/state"
USER = 10001
# Parts of the standard library that no service needs.
_OMITTED_FOLDERS = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "ensurepip", "turtledemo", "tkinter", "site-packages", "dist-packages"}
    | {"__pycache__"}
)
_OMITTED_FILES = ("_tkinter.", "_curses", "_testcapi", "_ctypes_test")
_LINKED = re.compile(r"(?:=>\s+)?(/\S+)\s+\(0x")
_ZONES = Path("/usr/share/zoneinfo")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_LDD_SECONDS = 300
_LDD_BATCH = 200


def list_python_files() -> dict[str, Content]:
    """Return the running Python with its standard library and shared libraries, by their paths in an image.

    Raises
    ------
    TidemillError
        if this machine is no Linux.
    """
    if sys.platform != "linux":
        raise TidemillError("an image with the Python of this machine can be made only on Linux", "set [ci] base_image")
    minor = f"python{sysconfig.get_python_version()}"
    executable = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    files: dict[str, Content] = {f"{PYTHON_HOME}/bin/{minor}": executable}
    standard = Path(sysconfig.get_path("stdlib"))
    for folder, folders, names in os.walk(standard):
        folders[:] = [name for name in folders if name not in _OMITTED_FOLDERS and not name.startswith("config-")]
        for name in names:
            if not name.endswith((".pyc", ".a")) and not name.startswith(_OMITTED_FILES):
                source = Path(folder) / name
                files[f"{PYTHON_HOME}/lib/{minor}/{source.relative_to(standard)}"] = source
    files |= list_shared_libraries(files)
    return files | _list_system_files()


def list_package_files(environment: Path, names: Collection[str], *, with_libraries: bool) -> dict[str, Content]:
    """Return the files of these packages of an environment, without compiled code, by their paths in an image.

    `with_libraries` adds the shared libraries of this system that they need.

    Raises
    ------
    TidemillError
        if a package of the lock is not in the environment.
    """
    site = next(environment.glob("lib/python*/site-packages"))
    installed = {_normalize(package.name): package for package in distributions(path=[str(site)])}
    files: dict[str, Content] = {}
    for name in sorted(names):
        if name not in installed:
            raise TidemillError(f"the environment has no package {name!r}, which is in the lock", "build again")
        present = [relative for relative in _list_files(installed[name]) if (site / relative).is_file()]
        files |= {f"{PACKAGES}/{relative}": site / relative for relative in present}
        files |= _write_record(installed[name], present)
    return files | list_shared_libraries(files) if with_libraries else files


def _list_files(package: Distribution) -> Iterator[str]:
    """Yield the files of a package that belong into a folder of packages; what names the build machine is left out."""
    for file in package.files or ():
        path = file.as_posix()
        is_local = path.endswith((".dist-info/direct_url.json", ".dist-info/RECORD", ".dist-info/uv_cache.json"))
        if ".." not in file.parts and "__pycache__" not in file.parts and not is_local:
            yield path


def _write_record(package: Distribution, present: Collection[str]) -> dict[str, Content]:
    """Return the list of a package's files with only those in the image: it says which package a module is from."""
    record = next((file.as_posix() for file in package.files or () if file.name == "RECORD"), None)
    if record is None:
        return {}
    lines = (package.read_text("RECORD") or "").splitlines()
    names = frozenset(present)
    kept = sorted(line for line in lines if next(csv.reader([line]), [""])[0] in names)
    return {f"{PACKAGES}/{record}": "\n".join([*kept, f"{record},,", ""]).encode()}


def list_shared_libraries(files: Mapping[str, Content]) -> dict[str, Content]:
    """Return the shared libraries of this system that files need, by their paths in an image."""
    binaries = [str(file) for name, file in files.items() if isinstance(file, Path) and _is_binary(name)]
    sources = {str(file) for file in files.values()}
    wanted: set[Path] = set()
    for start in range(0, len(binaries), _LDD_BATCH):
        command = ["ldd", *binaries[start : start + _LDD_BATCH]]
        process = subprocess.run(command, capture_output=True, text=True, timeout=_LDD_SECONDS, check=False)
        wanted |= {Path(match) for match in _LINKED.findall(process.stdout)}
    return {
        _place(library): Path(os.path.realpath(library))
        for library in sorted(wanted)
        if str(library) not in sources and "site-packages" not in library.parts
    }


def _is_binary(name: str) -> bool:
    return ".so" in name.rpartition("/")[2] or name.startswith(f"{PYTHON_HOME}/bin/")


def _place(library: Path) -> str:
    """Return the path of a library in an image: libraries of Python itself are below its home."""
    home = Path(sys.base_prefix)
    return f"{PYTHON_HOME}/lib/{library.name}" if library.is_relative_to(home) else str(library)


def _list_system_files() -> dict[str, Content]:
    """Return the users, certificates and time zones."""
    files: dict[str, Content] = {
        "/etc/passwd": (
            f"root:x:0:0:root:/:/sbin/nologin\ntidemill:x:{USER}:{USER}:tidemill:{STATE}:/sbin/nologin\n".encode()
        ),
        "/etc/group": f"root:x:0:\ntidemill:x:{USER}:\n".encode(),
        "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files dns\n",
    }
    if _CERTIFICATES.exists():
        files[str(_CERTIFICATES)] = _CERTIFICATES
    omitted = ("right", "posix")
    for zone in _ZONES.rglob("*") if _ZONES.is_dir() else ():
        if zone.is_file() and zone.relative_to(_ZONES).parts[0] not in omitted and "." not in zone.name:
            files[str(zone)] = zone
    return files


def list_project_files(wheel_files: Mapping[str, bytes], boms: Mapping[str, bytes]) -> dict[str, Content]:
    """Return the files of a project's wheel and its bills of material, by their paths in an image."""
    files: dict[str, Content] = {
        f"{PROJECTS}/{name}": content for name, content in wheel_files.items() if ".dist-info/" not in name
    }
    return files | {f"/opt/tidemill/{name}.cdx.json": content for name, content in boms.items()}


def list_path_files(home: str, minor: str) -> dict[str, Content]:
    """Return the files by which the Python in `home` finds the packages, also if it ignores environment variables.

    Debian's Python reads them from `dist-packages`.
    """
    folders = (f"{home}/lib/python{minor}/{name}" for name in ("site-packages", "dist-packages"))
    return {f"{folder}/tidemill.pth": f"{PACKAGES}\n".encode() for folder in folders}


def list_folders(files: Iterable[str]) -> list[str]:
    """Return all folders above these files, parents first."""
    folders = {str(parent) for name in files for parent in Path(name).parents}
    return sorted(folders - {"/", "."})


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
