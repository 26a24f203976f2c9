"""A renewed certificate is served without a restart, and one that cannot be used changes nothing: over real TLS."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from tests.access.kit import create_certificate
from tests.daemon.test_up import until
from tests.projects import make_project
from tidemill.access.certificates import Certificate
from tidemill.access.expiry import read_expiry
from tidemill.access.exposure import Exposure
from tidemill.clock import SystemClock
from tidemill.compose.session import open_session
from tidemill.daemon.listening import Listener
from tidemill.evidence.attention import list_actions
from tidemill.serving.server import HttpServer


@pytest.fixture(scope="module")
def renewals(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Four certificates for the same address, as a renewal makes them."""
    return [create_certificate(tmp_path_factory.mktemp(f"tls{number}")) for number in range(4)]


def read_print(file: Path) -> str:
    """The fingerprint of a certificate in a file."""
    return sha256(ssl.PEM_cert_to_DER_cert(file.read_text())).hexdigest()


def ask(address: str) -> str:
    """The fingerprint of the certificate that a new connection gets."""
    host, port = address.removeprefix("https://").rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port)), 30) as plain, context.wrap_socket(plain) as connection:
        return sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()


def serves(address: str, certificate: Path) -> bool:
    return ask(address) == read_print(certificate)


def overwrite(source: tuple[Path, Path], files: tuple[Path, Path]) -> None:
    """Write both files in place, the certificate first: for a moment they do not belong together."""
    for new, file in zip(source, files, strict=True):
        file.write_bytes(new.read_bytes())


def rename(source: tuple[Path, Path], files: tuple[Path, Path]) -> None:
    """Replace both files by others with the same names and the same times, as a copy that keeps times does."""
    for new, file in zip(source, files, strict=True):
        draft = file.with_suffix(".new")
        shutil.copy(new, draft)
        status = file.stat()
        os.utime(draft, ns=(status.st_atime_ns, status.st_mtime_ns))
        draft.rename(file)


def relink(source: tuple[Path, Path], files: tuple[Path, Path]) -> None:
    """Let both names be links to other files, as certbot and Kubernetes do."""
    for new, file in zip(source, files, strict=True):
        link = file.with_suffix(".link")
        link.symlink_to(new)
        link.rename(file)


class Renewing:
    """A project that `tidemill up` serves with TLS."""

    def __init__(self, folder: Path, first: tuple[Path, Path]) -> None:
        make_project(folder)
        self.files = folder / "server.pem", folder / "server.key"
        overwrite(first, self.files)
        self.log = folder / "up.log"
        words = ("up", "--port", "0", "--pages-port", "0", "--tls-cert", "server.pem", "--tls-key", "server.key")
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                (sys.executable, "-m", "tidemill", *words), cwd=folder, stderr=output, stdout=output
            )

    def find(self, what: str) -> str:
        return str(until(lambda: re.search(rf"{what} at (https://\S+)", self.log.read_text()), self.process)[1])


@pytest.fixture
def renewing(tmp_path: Path, renewals: list[tuple[Path, Path]]) -> Iterator[Renewing]:
    served = Renewing(tmp_path / "shop", renewals[0])
    yield served
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(300) == 0


def test_service_and_pages_serve_a_renewed_certificate_without_a_restart(
    renewing: Renewing, renewals: list[tuple[Path, Path]]
) -> None:
    addresses = service, pages = renewing.find("serving"), renewing.find("pages")
    assert {ask(address) for address in addresses} == {read_print(renewals[0][0])}
    trusting = ssl.create_default_context(cafile=str(renewals[0][0]))
    with httpx.Client(verify=trusting, timeout=30) as kept:
        assert kept.get(f"{service}/health").status_code == 200
        renew: Callable[[tuple[Path, Path], tuple[Path, Path]], None]
        for renew, files in ((overwrite, renewals[1]), (rename, renewals[2]), (relink, renewals[3])):
            renew(files, renewing.files)
            for address in (service, pages):
                until(partial(serves, address, files[0]), renewing.process)
        assert kept.get(f"{service}/health").status_code == 200, "an open connection goes on"
    assert "certificate" not in httpx.get(f"{service}/ready", verify=False, timeout=60).json()


def test_a_renewed_certificate_that_cannot_be_used_changes_nothing_and_is_reported(
    renewing: Renewing, renewals: list[tuple[Path, Path]]
) -> None:
    service = renewing.find("serving")
    cert, key = renewing.files

    def report() -> str:
        return str(httpx.get(f"{service}/ready", verify=False, timeout=30).json().get("certificate", ""))

    cert.write_bytes(renewals[1][0].read_bytes())  # with the key of the earlier one
    assert "the earlier one is" in until(report, renewing.process)
    assert ask(service) == read_print(renewals[0][0])
    cert.unlink()
    assert until(lambda: "is not a file" in report(), renewing.process)
    assert ask(service) == read_print(renewals[0][0])
    cert.write_text("-----BEGIN CERTIFICATE-----\n")
    assert until(lambda: "cannot be used" in report(), renewing.process)
    assert ask(service) == read_print(renewals[0][0])
    assert "the renewed certificate is not used" in renewing.log.read_text()
    overwrite(renewals[2], (cert, key))
    until(lambda: ask(service) == read_print(renewals[2][0]), renewing.process)
    assert not report()


def test_files_that_did_not_change_are_not_read_again(tmp_path: Path, renewals: list[tuple[Path, Path]]) -> None:
    files = tmp_path / "server.pem", tmp_path / "server.key"
    overwrite(renewals[0], files)
    certificate = Certificate(*files)
    context = certificate.context
    certificate.refresh()
    assert certificate.context is context
    overwrite(renewals[1], files)
    certificate.refresh()
    assert certificate.context is not context


def test_the_expiry_is_the_one_that_a_library_reads(renewals: list[tuple[Path, Path]]) -> None:
    x509 = pytest.importorskip("cryptography.x509")
    for certificate, key in renewals:
        expected = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
        assert read_expiry(certificate) == expected
        assert read_expiry(key) is None


def test_a_certificate_that_expires_soon_is_named_until_it_is_renewed(tmp_path: Path) -> None:
    clock = SystemClock()
    files = create_certificate(tmp_path, days=20)
    certificate = Certificate(*files)
    problem = certificate.describe_problem(clock.now())
    assert f"{files[0]} expires on" in problem
    assert problem == certificate.describe_problem(clock.now() + timedelta(days=3)), "one alert, not one a day"
    assert "expired on" in certificate.describe_problem(clock.now() + timedelta(days=21))
    (tmp_path / "new").mkdir()
    rename(create_certificate(tmp_path / "new", days=90), files)
    certificate.refresh()
    assert not certificate.describe_problem(clock.now())


def test_status_names_a_certificate_that_expires_soon(tmp_path: Path) -> None:
    session = open_session(make_project(tmp_path / "shop"))
    certificate, key = create_certificate(tmp_path, days=20)
    exposure = Exposure(tls_cert=certificate, tls_key=key)
    server = HttpServer(session.workspace, session.clock, exposure, port=0)
    listener = Listener(session)
    listener.watch(server.find_problems)
    listener.check_problems()
    server.stop()
    (item,) = list_actions(session.workspace.ledger, session.workspace.environment, session.clock.now())
    assert item.what == "The certificate needs attention"
    assert f"{certificate} expires on" in item.why
