"""TLS and other addresses than loopback: what is refused, and a real connection with a self-signed certificate."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import warnings
from pathlib import Path

import httpx
import pytest

from tests.access.kit import Tokens, create_certificate
from tests.daemon.test_up import until
from tests.projects import make_project, tidemill
from tests.serving.kit import MODEL, ROW, ServingKit, package
from tidemill.access.exposure import Exposure, check_exposure, require_tokens
from tidemill.clock import SystemClock
from tidemill.errors import InputError
from tidemill.serving.server import HttpServer


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return create_certificate(tmp_path_factory.mktemp("tls"))


def test_the_service_speaks_tls_on_every_address_and_needs_tokens(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    kit = ServingKit(tmp_path)
    kit.route(kit.arm(1, package(samples=[ROW])))
    exposure = Exposure(host="0.0.0.0", tls_cert=certificate[0], tls_key=certificate[1])
    with pytest.raises(InputError, match="no token exists"):
        HttpServer(kit.workspace, SystemClock(), exposure, 0)
    tokens = Tokens(kit.workspace)
    server = HttpServer(kit.workspace, SystemClock(), exposure, 0)
    server.start()
    try:
        port = server.address.rpartition(":")[2]
        assert server.address == f"https://0.0.0.0:{port}"
        trusted = ssl.create_default_context(cafile=str(certificate[0]))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusted, timeout=60) as client:
            body = {"rows": [ROW]}
            assert client.get("/health").status_code == 200
            assert client.post(f"/predict/{MODEL}", json=body).status_code == 401
            headers = {"authorization": f"Bearer {tokens.by_role['predict']}"}
            assert client.post(f"/predict/{MODEL}", json=body, headers=headers).status_code == 200
            described = client.get(f"/predict/{MODEL}", headers=headers).json()
            assert f"https://127.0.0.1:{port}/predict" in described["curl"]
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://127.0.0.1:{port}/health", timeout=60)  # nobody vouches for this certificate
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=60)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://127.0.0.1:{port}/health", verify=old, timeout=60)
    finally:
        server.stop()


def test_what_an_address_needs(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    for host in ("127.0.0.1", "::1", "localhost", "127.8.9.1"):
        check_exposure(Exposure(host=host))
        assert not Exposure(host=host).needs_tokens
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(InputError, match="without TLS") as refused:
            check_exposure(Exposure(host=host))
        assert "--tls-cert" in refused.value.cure
        for protected in (Exposure(host=host, tls_cert=cert, tls_key=key), Exposure(host=host, behind_proxy=True)):
            check_exposure(protected)
            assert protected.needs_tokens
            with pytest.raises(InputError, match="no token exists"):
                require_tokens(protected, has_tokens=False)
            require_tokens(protected, has_tokens=True)
    assert Exposure(behind_proxy=True).needs_tokens
    assert Exposure(require_tokens=True).needs_tokens


def test_a_certificate_that_cannot_be_used_is_an_error(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    other = tmp_path / "other"
    other.mkdir()
    other_key = create_certificate(other)[1]
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", str(key), "-aes128", "-passout", "pass:secret", "-out", str(locked)],
        check=True,
        capture_output=True,
    ) if shutil.which("openssl") else locked.write_text("no key")
    for wrong, text_of_error in (
        (Exposure(tls_cert=cert), "--tls-key is missing"),
        (Exposure(tls_key=key), "--tls-cert is missing"),
        (Exposure(tls_cert=cert, tls_key=tmp_path / "none.pem"), "is not a file"),
        (Exposure(tls_cert=text, tls_key=key), "cannot be used"),
        (Exposure(tls_cert=cert, tls_key=other_key), "cannot be used"),
        (Exposure(tls_cert=cert, tls_key=locked), "cannot be used"),
    ):
        with pytest.raises(InputError, match=text_of_error) as refused:
            check_exposure(wrong)
        assert refused.value.cure


def test_up_serves_both_with_tls_and_tokens(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    folder = tmp_path / "shop"
    make_project(folder)
    refused = tidemill(folder, "up", "--host", "0.0.0.0", code=2)
    assert "without TLS" in refused.stderr
    assert "--behind-proxy" in refused.stderr
    cert, key = map(str, certificate)
    refused = tidemill(folder, "serve", "--host", "0.0.0.0", "--tls-cert", cert, "--tls-key", key, code=2)
    assert "no token exists" in refused.stderr
    token = tidemill(folder, "tokens", "create", "ada", "--role", "viewer").stdout.strip()
    log = folder / "up.log"
    words = ("up", "--port", "0", "--pages-port", "0", "--tls-cert", cert, "--tls-key", key)
    with log.open("w") as output:
        process = subprocess.Popen(
            (sys.executable, "-m", "tidemill", *words), cwd=folder, stderr=output, stdout=output, env=os.environ
        )
    try:
        service = until(lambda: re.search(r"serving at (https://\S+)", log.read_text()), process)[1]
        pages = until(lambda: re.search(r"pages at (https://\S+)", log.read_text()), process)[1]
        context = ssl.create_default_context(cafile=cert)
        with httpx.Client(verify=context, timeout=30) as client:
            assert client.get(f"{service}/health").status_code == 200
            assert client.get(f"{service}/metrics").status_code == 401
            headers = {"authorization": f"Bearer {token}"}
            assert client.get(f"{service}/metrics", headers=headers).status_code == 200
            assert client.get(f"{pages}/runs").status_code == 303
            assert client.get(f"{pages}/runs", headers=headers).status_code == 200
            reply = client.post(f"{pages}/login", data={"token": token}, headers={"origin": pages})
            assert reply.headers["set-cookie"].startswith("__Host-")
            assert client.get(f"{pages}/runs").status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
