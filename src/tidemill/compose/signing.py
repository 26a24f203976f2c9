"""Signs and verifies the packages of a project with the keys of its policy."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import ClassVar

from tidemill.core.model import Model
from tidemill.core.resources import BooksReader, PackageStore
from tidemill.credentials import fill_secrets
from tidemill.errors import ConfigurationError, Corrupt, TidemillError
from tidemill.host.key_files import BEGIN, KEY_VARIABLE
from tidemill.host.keys import (
    CREATE_KEY,
    find_repository,
    is_signed_by,
    parse_public_key,
    read_private_key,
    read_public_key,
    require_outside,
    sign_bytes,
    to_pem,
)
from tidemill.project.project import Project
from tidemill.workspace.workspace import Workspace


class KeySigner:
    """Signs and verifies packages; an environment with `signed = true` loads no package without a valid signature."""

    writable: ClassVar[bool] = True

    def __init__(self, project: Project, workspace: Workspace) -> None:
        self._project = project
        self._workspace = workspace

    @property
    def is_required(self) -> bool:
        """Whether the environment demands signatures."""
        settings = self._project.policy.environments.get(self._workspace.environment)
        return settings is not None and settings.signed

    def sign(self, model: Model) -> str:
        """Sign a package, store the signature and return its digest; empty if the project has no private key.

        Raises
        ------
        ConfigurationError
            if the environment demands signatures and there is no key, or the key is inside the project.
        InputError
            if the key cannot be used.
        """
        with self._open_key() as key:
            if key is None:
                return ""
            from tidemill.models.signing import sign_package

            return self._workspace.blobs.put(sign_package(model, key), durable=True)

    def verify(self, model: Model, signature: str, name: str) -> None:
        """Verify the signature of a release with a digest, if the environment demands it.

        Raises
        ------
        ConfigurationError
            if there is no public key.
        Corrupt
            if the release is not signed, or was signed by another key, or was changed since.
        """
        if self.is_required:
            self.require_signature(model, signature, name)

    def require_signature(self, model: Model, signature: str, name: str, public_key: bytes = b"") -> bytes:
        """Verify the signature of a release in any environment, by the key of the policy or by another one.

        Return the key in PEM format; the errors are those of `verify`.
        """
        public_key = public_key or self._read_public_key()
        if not public_key:
            raise ConfigurationError(
                f"the signature of {name} cannot be verified: there is no public key",
                "set public_key under [signing] in tidemill.toml",
            )
        sign = f"sign it: `tidemill models sign {name} --reason …`, then `tidemill models promote {name} --reason …`"
        if not signature:
            demand = f", and {self._workspace.environment} loads only signed models" if self.is_required else ""
            raise Corrupt(f"{name} is not signed{demand}", sign)
        from tidemill.models.signing import verify_package

        try:
            content = self._workspace.blobs.get(signature)
        except TidemillError as error:
            raise Corrupt(f"the signature of {name} cannot be read: {error.problem}", sign) from None
        verify_package(model, content, public_key, name)
        return public_key

    def sign_text(self, text: bytes) -> bytes:
        """Return the signature of a text; empty if the project has no private key. The errors are those of `sign`."""
        with self._open_key() as key:
            return b"" if key is None else sign_bytes(read_private_key(key), text)

    def verify_text(self, text: bytes, signature: bytes) -> bool:
        """Return whether a signature is by the key of the policy.

        Raises
        ------
        ConfigurationError
            if there is no public key.
        """
        key = self._read_public_key()
        if not key:
            raise ConfigurationError(
                "the signature of an image cannot be verified: there is no public key",
                "set public_key under [signing] in tidemill.toml",
            )
        return is_signed_by(parse_public_key(key, "public_key under [signing]"), signature, text)

    @contextmanager
    def _open_key(self) -> Iterator[Path | None]:
        """Yield the file of the private key; None if the project has none, or none on this machine."""
        setting, environment = self._project.policy.signing.key, self._workspace.environment
        if setting.lstrip().startswith(BEGIN):
            raise ConfigurationError(
                "the private key is in tidemill.toml", "name a file or a secret there, not the key"
            )
        try:
            text = os.environ.get(KEY_VARIABLE) or fill_secrets(setting, "key under [signing]")
        except ConfigurationError as absent:
            if self.is_required:
                problem = f"{environment} loads only signed models, and there is no private key: {absent.problem}"
                raise ConfigurationError(problem, absent.cure) from None
            text = ""
        if not text and self.is_required:
            raise ConfigurationError(
                f"{environment} loads only signed models, and there is no private key",
                f"set key under [signing] in tidemill.toml; {CREATE_KEY}",
            )
        if text.startswith(BEGIN):  # a secret of a file or a plug-in
            with NamedTemporaryFile("w", suffix=".pem") as file:  # only the user can read it
                file.write(text + "\n")
                file.flush()
                yield Path(file.name)
            return
        key = self._to_path(text)
        if key is not None:
            require_outside(key, (find_repository(self._project.folder), self._workspace.root))
        yield key

    def _read_public_key(self) -> bytes:
        """Return the public key of the policy in PEM format; empty if it has none."""
        text = fill_secrets(self._project.policy.signing.public_key, "public_key under [signing]").strip()
        if text.startswith(BEGIN):
            return text.encode() + b"\n"
        file = self._to_path(text)
        return to_pem(read_public_key(file)) if file is not None else b""

    def _to_path(self, text: str) -> Path | None:
        """Return the file of a setting, relative to the project; None if it is empty."""
        if not text:
            return None
        path = Path(text).expanduser()
        return path if path.is_absolute() else self._project.folder / path


class SignedPackages:
    """The packages of an environment that demands signatures: each is verified before a step or a command gets it."""

    writable: ClassVar[bool] = True

    def __init__(self, packages: PackageStore, signer: KeySigner, books: Callable[[], BooksReader]) -> None:
        self._packages = packages
        self._signer = signer
        self._books = books
        self._verified: set[str] = set()

    def load(self, digest: str) -> Model:
        """Return the package of a release.

        Raises
        ------
        NotFound
            if there is no such package.
        Corrupt
            if it belongs to no release, or its signature is not valid.
        """
        model = self._packages.load(digest)
        if digest not in self._verified:
            releases = self._books().releases.find(package=digest)
            if not releases:
                raise Corrupt(f"the package {digest[:12]} belongs to no release", "register it, which signs it")
            release = next((release for release in releases if release.signature), releases[-1])
            self._signer.verify(model, release.signature, release.label)
            self._verified.add(digest)
        return model

    def save(self, model: Model) -> str:
        """Store a package and return its digest."""
        return self._packages.save(model)


class NoSignatures:
    """Signs and verifies nothing: the releases of a backtest, or of a test, exist only in a temporary workspace."""

    writable: ClassVar[bool] = True

    def sign(self, model: Model) -> str:  # noqa: ARG002 - required by the protocol
        return ""

    def verify(self, model: Model, signature: str, name: str) -> None:
        """Accept every package."""
