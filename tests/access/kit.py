"""Tokens of every kind, and servers of the service and of the pages over real HTTP."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn

from tests.web.kit import Mill
from tidemill.access.control import AccessControl
from tidemill.access.roles import ROLES
from tidemill.access.tokens import create_token, publish_tokens, revoke_token
from tidemill.clock import Clock, SystemClock, VirtualClock
from tidemill.core.policy import ModelPolicy
from tidemill.core.token import Role
from tidemill.web.app import create_app
from tidemill.web.decisions import Desk
from tidemill.workspace.workspace import Workspace

CLOCK = SystemClock()
YEARS_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Tokens:
    """Secrets of a workspace: one for each role, and those that must not work."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.by_role = {role: self.create(f"a-{role}", role) for role in ROLES}
        self.forged = self.by_role["admin"][:-1] + ("A" if self.by_role["admin"][-1] != "A" else "B")
        self.expired = self.create("old", "admin", clock=VirtualClock(YEARS_AGO), days=1)
        self.revoked = self.create("lost", "admin")
        self.elsewhere = self.create("tester", "admin", environment="test")
        self.revoke("lost")

    def create(
        self, name: str, *roles: Role, clock: Clock = CLOCK, days: float = 1, environment: str = "", owner: str = "Ada"
    ) -> str:
        """Create a token, publish it, and return its secret."""
        _, secret = create_token(
            self._workspace.ledger,
            clock,
            name=name,
            owner=owner,
            roles=roles,
            by="root",
            environments=(environment,) if environment else (),
            lifetime=timedelta(days=days),
        )
        self.publish()
        return secret

    def revoke(self, name: str) -> None:
        """Revoke a token and publish it."""
        revoke_token(self._workspace.ledger, CLOCK, name, by="root", reason="a test")
        self.publish()

    def publish(self) -> None:
        publish_tokens(self._workspace.ledger, [self._workspace.board])


def create_site(mill: Mill, policy: ModelPolicy | None = None, **options: Any) -> Any:
    """The application of the pages with decisions, on the real clock."""

    def find_policy(_: str) -> ModelPolicy:
        assert policy is not None
        return policy

    workspace = mill.workspace
    desk = Desk(mill.books, mill.board, workspace.packages, CLOCK, "production", find_policy, lambda: None)
    control = AccessControl(mill.board, CLOCK, "production", required=options.pop("required", False))
    return create_app(mill.books, mill.board, "flights", "production", control, desk=desk, **options)


@contextmanager
def serving_pages(app: Any, **options: Any) -> Iterator[str]:
    """The address of an application that runs on a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


def create_certificate(folder: Path, days: float = 90) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    files = folder / "server.pem", folder / "server.key"
    files[0].write_bytes(certificate.public_bytes(pem))
    files[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return files
