"""Starts the real parts that tests run against: PostgreSQL, an S3 endpoint, Chromium.

Each is found on the machine and started for the tests alone, on loopback, in a temporary folder, and goes when
the process that asked for it goes, however that ends. A part that is not there raises `PartMissing`.
"""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Its standard input is a pipe that this process holds: when that closes, be it by kill -9, the server is stopped
# and its folder removed. INT is PostgreSQL's fast stop; TERM everyone else's, as a shell's background job ignores INT.
_GUARD = 'folder=$1; shift; "$@" & cat; kill -INT $!; kill -TERM $!; wait $!; rm -rf "$folder"'


class PartMissing(Exception):
    """A real part is not on this machine; the message names it and how to get it."""


class PartFailed(Exception):
    """A real part was found but did not start; the message ends with its log."""


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server for the block; yields the address of its `postgres` database.

    Raises
    ------
    PartMissing
        There is no PostgreSQL server on this machine.
    PartFailed
        It did not start.
    """
    initdb = _postgres_command("initdb")
    with _folder() as folder:
        data = folder / "data"
        options = ["-U", "tidemill", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [initdb, "-D", data, *options], cwd=folder, user=_server_user(), capture_output=True, text=True
        )
        if made.returncode:
            raise PartFailed(f"PostgreSQL's initdb failed:\n{made.stdout}{made.stderr}")
        port = _free_port()
        settings = [
            f"port={port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={folder}",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "max_connections=200",
        ]
        command = [_postgres_command("postgres"), "-D", str(data), *(f"-c{setting}" for setting in settings)]
        url = f"postgresql://tidemill@127.0.0.1:{port}/postgres"
        with _server("PostgreSQL", command, folder, lambda: psycopg.connect(url, connect_timeout=20).close()):
            yield url


@contextmanager
def postgres_database(server: str) -> Iterator[str]:
    """Make an empty database on a server for the block; yields its SQLAlchemy URL."""
    name = f"test_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        address = server.removesuffix("/postgres").removeprefix("postgresql")
        yield f"postgresql+psycopg{address}/{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def cut_connections(postgres_url: str) -> None:
    """Close every connection to a database, as a restart of the server does."""
    plain = make_url(postgres_url).set(drivername="postgresql", database="postgres")
    with psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True) as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [make_url(postgres_url).database],
        )


@contextmanager
def s3() -> Iterator[str]:
    """Run an S3 endpoint (moto: the protocol, not the durability) for the block; yields its http address.

    Raises
    ------
    PartMissing
        The package moto is not installed.
    PartFailed
        It did not start.
    """
    if importlib.util.find_spec("moto") is None:
        raise PartMissing("S3 (the package moto[server] is not installed)")
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    with _folder() as folder:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

        def answers() -> None:
            urllib.request.urlopen(f"{address}/moto-api/", timeout=20).close()

        with _server("S3", command, folder, answers, as_server_user=False):
            yield address


def s3_bucket(endpoint: str) -> str:
    """Make an empty bucket on an endpoint; returns its name."""
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT"), timeout=10).close()
    return name


@contextmanager
def registry() -> Iterator[str]:
    """Run a registry of container images for the block; yields its address, such as 127.0.0.1:5000.

    Raises
    ------
    PartMissing
        docker-registry is not installed.
    PartFailed
        It did not start.
    """
    command = shutil.which("docker-registry")
    if command is None:
        raise PartMissing("docker-registry (scripts/install-system-parts)")
    address = f"127.0.0.1:{_free_port()}"
    with _folder() as folder:
        settings = folder / "registry.yml"
        settings.write_text(
            f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {folder}/images\nhttp:\n  addr: {address}\n"
        )
        settings.chmod(0o644)

        def answers() -> None:
            urllib.request.urlopen(f"http://{address}/v2/", timeout=20).close()

        with _server("the registry", [command, "serve", str(settings)], folder, answers, as_server_user=False):
            yield address


def require_containers() -> None:
    """Raise `PartMissing` if this machine cannot run containers."""
    for tool in ("podman", "skopeo", "runc"):
        if shutil.which(tool) is None:
            raise PartMissing(f"{tool} (scripts/install-system-parts)")


@contextmanager
def containers(folder: Path, *, keep: bool = False) -> Iterator[None]:
    """Let podman and skopeo of this process keep images in a folder of their own, without a daemon, for the block.

    With `keep`, its images stay for a later block with the same folder, which then need not load them again.
    """
    storage = folder / "containers"
    storage.mkdir(exist_ok=True)
    settings = {"CONTAINERS_STORAGE_CONF": storage / "storage.conf"}
    settings["CONTAINERS_STORAGE_CONF"].write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{storage}/graph"\nrunroot = "{storage}/run"\n'
    )
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= {name: str(file) for name, file in settings.items()}
    try:
        yield
    finally:
        for verb in (
            ("rm",) if keep else ("rm", "rmi")
        ):  # of this storage only; `system reset` would also delete the networks of the machine
            subprocess.run(["podman", verb, "--all", "--force"], capture_output=True, check=False)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@contextmanager
def ray() -> Iterator[str]:
    """Run a Ray cluster of one node for the block; yields the address of its dashboard. uv installs Ray for it.

    Raises
    ------
    PartMissing
        Ray cannot be installed, as without a network.
    PartFailed
        It did not start.
    """
    with _folder() as folder:
        program = folder / "environment" / "bin" / "ray"
        uv = (sys.executable, "-m", "uv")
        # Compiled now: Ray gives its own processes 30 s to start, of which they would spend most with compiling.
        install = ("pip", "install", "-q", "--compile-bytecode", "--python", str(program.with_name("python")))
        for command in (
            (*uv, "venv", "-q", "--python", sys.executable, str(folder / "environment")),
            (*uv, *install, "ray[default]"),
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise PartMissing(f"Ray, which cannot be installed: {done.stderr[-500:]}")
        address = f"http://127.0.0.1:{_free_port()}"
        options = ["--head", "--block", "--disable-usage-stats", "--num-cpus=1", "--object-store-memory=80000000"]
        places = ["--dashboard-host=127.0.0.1", f"--dashboard-port={address.rpartition(':')[2]}", "--port=0"]
        starting = [str(program), "start", *options, *places, f"--temp-dir={folder / 'ray'}"]

        def answers() -> None:
            with urllib.request.urlopen(f"{address}/api/v0/nodes", timeout=10) as reply:
                if b'"ALIVE"' not in reply.read():
                    raise OSError("the node is not alive")

        with _server("Ray", starting, folder, answers, as_server_user=False, seconds=600):
            yield address


def find_chromium() -> str:
    """Where the system's Chromium or Chrome is, or the one that Playwright fetched.

    Raises
    ------
    PartMissing
        There is none, or Playwright cannot start here to drive it.
    """
    driver = subprocess.run([sys.executable, "-m", "playwright", "--version"], capture_output=True, text=True)
    if driver.returncode:
        raise PartMissing(f"Playwright, whose driver does not start: {driver.stderr.strip()}")
    named = os.environ.get("TIDEMILL_CHROMIUM")
    if named:
        return named
    for command in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(command)
        if found:
            return found
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache/ms-playwright")
    for path in sorted(cache.glob("chromium-*/chrome-linux*/chrome"), reverse=True):
        return str(path)
    raise PartMissing("Chromium (scripts/install-system-parts, or .venv/bin/playwright install --with-deps chromium)")


def find_second_python() -> Path:
    """Where a Python of another minor version is that Tidemill runs on.

    Raises
    ------
    PartMissing
        There is none; `TIDEMILL_SECOND_PYTHON` names one.
    """
    named = os.environ.get("TIDEMILL_SECOND_PYTHON")
    minors = [minor for minor in (13, 12, 11) if minor != sys.version_info.minor]
    found = [Path(named)] if named else []
    for minor in minors:
        found += [Path(path) for path in [shutil.which(f"python3.{minor}")] if path]
        found += sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"), reverse=True)
        found += sorted(Path("/opt/tidemill").glob(f"*/usr/bin/python3.{minor}"))
    for path in found:
        asked = subprocess.run(
            [path, "-c", "import sys, ssl, venv; print(sys.version_info.minor)"], capture_output=True
        )
        if asked.returncode == 0 and int(asked.stdout) in minors:
            return path
    raise PartMissing("a second Python (scripts/install-system-parts, or TIDEMILL_SECOND_PYTHON)")


def _postgres_command(name: str) -> str:
    found = shutil.which(name)
    if found:
        return found
    places = [*Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), *Path("/usr").glob(f"pgsql-*/bin/{name}")]
    if not places:
        raise PartMissing("PostgreSQL (scripts/install-system-parts)")
    return str(max(places, key=lambda path: [int(part) for part in path.parts[-3].split("-")[-1].split(".")]))


def _server_user() -> str | None:
    """Whom servers run as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    return "postgres" if "postgres" in {user.pw_name for user in pwd.getpwall()} else "nobody"


@contextmanager
def _folder() -> Iterator[Path]:
    # Not pytest's tmp_path: its parents are closed to another user, and a socket's path may have 107 letters only.
    folder = Path(tempfile.mkdtemp(prefix="tidemill-"))
    try:
        user = _server_user()
        if user:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _server(
    name: str,
    command: list[str],
    folder: Path,
    connect: Callable[[], None],
    *,
    as_server_user: bool = True,
    seconds: float = 300,
) -> Iterator[None]:
    log = folder / "log"
    with log.open("wb") as output:
        guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "sh", str(folder), *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=_server_user() if as_server_user else None,
            start_new_session=True,
        )
    assert guard.stdin is not None
    try:
        _wait_until(connect, name, log, seconds)
        yield
    finally:
        guard.stdin.close()
        guard.wait(timeout=60)


def _wait_until(connect: Callable[[], None], name: str, log: Path, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return connect()
        except (OSError, psycopg.OperationalError) as error:
            if time.monotonic() > deadline:
                raise PartFailed(
                    f"{name} did not answer within {seconds:.0f} s: {error}\n{log.read_text()[-4000:]}"
                ) from error
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
