"""Signatures of model packages and images: the settings `[signing]` of `tidemill.toml`, and the ports."""

from typing import ClassVar, Protocol

from msgspec import Struct

from tidemill.core.model import Model


class Signing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys that sign and verify model packages and container images.

    `${NAME}` is replaced by an environment variable or a secret.

    Attributes
    ----------
    key
        The file with the private key (PEM, ECDSA with a NIST curve), outside the project and the workspace, or a secret
        that is the key. Without it, or if the environment variable is not set, releases are not signed.
    public_key
        The public key (PEM), as text or as the path of its file. A deployed build has only the text. An environment
        with `signed = true` loads only packages that it verifies.
    """

    key: str = ""
    public_key: str = ""


class PackageSigner(Protocol):
    """Signs model packages, and verifies them before they are loaded."""

    writable: ClassVar[bool] = True

    def sign(self, model: Model) -> str:
        """Sign a package and return the digest of its signature; empty if the project has no private key.

        Raises `ConfigurationError` if the environment demands signatures and there is no key.
        """
        ...

    def verify(self, model: Model, signature: str, name: str) -> None:
        """Raise `Corrupt` if the environment demands signatures and that of the release `name` is not valid."""
        ...


class ImageSigner(Protocol):
    """Signs texts about container images, and verifies them before an image is started."""

    writable: ClassVar[bool] = True

    def sign_text(self, text: bytes) -> bytes:
        """Return the signature of a text; empty if the project has no private key."""
        ...

    def verify_text(self, text: bytes, signature: bytes) -> bool:
        """Return whether a signature is by the key of the policy; raise `ConfigurationError` if it has no key."""
        ...
