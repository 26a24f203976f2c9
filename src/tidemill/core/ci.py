"""Ci: the settings of CI, and the place on a machine where builds are made."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol

from msgspec import Meta, Struct

from tidemill.clock import DurationText


class Ci(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Continuous integration: the repository, the limits of a build, and what it makes.

    The settings of the project that runs CI apply, not those of the commit: a commit cannot change its own limits.

    Attributes
    ----------
    remote
        The repository, as a path or a URL with `https:` or `ssh:`. The default is the repository of the project's
        folder.
    folder
        The project's folder in the repository, such as `pipelines/flights`. The default is the top, or the present
        folder in the repository of the project.
    branches
        Patterns of the branches whose pushes are built, such as `release/*`.
    lock
        The file with the exact version of each package, unless the project has a `uv.lock`.
    test_lock
        The file with the exact versions of the packages that only the tests need. They are in no package or image.
    timeout
        The most time for each part that runs code of the commit, such as its tests.
    memory_mb
        The most memory of the processes that run code of the commit.
    image
        Whether a container image is built: `auto` builds one if podman, buildah or docker is installed.
    base_image
        The image to start from, such as `python:3.11-slim@sha256:…`. The default is an image with the Python of this
        machine and its shared libraries.
    registry
        Where images are pushed, such as `registry.example.com/team`; the default is nowhere.
    advisories
        A file or folder of advisories in OSV's JSON format: vulnerable packages are refused.
    allowed_advisories
        The ids of advisories that do not refuse a commit.
    status
        The kind of server that gets the state of each commit.
    status_url
        The address of the repository's API, such as `https://api.github.com/repos/OWNER/NAME`.
    status_token
        The name of the environment variable with the token for it.
    webhook_secret
        The name of the environment variable with the secret of webhooks. Without it, webhooks are refused.
    notes
        Whether the result is also written to the remote as a git note, in `refs/notes/tidemill`.
    """

    remote: str = ""
    folder: str = ""
    branches: tuple[str, ...] = ("*",)
    lock: str = "requirements.lock"
    test_lock: str = "requirements-test.lock"
    timeout: DurationText = "30m"
    memory_mb: Annotated[int, Meta(ge=256)] = 8192
    image: Literal["auto", "always", "never"] = "auto"
    base_image: str = ""
    registry: str = ""
    advisories: str = ""
    allowed_advisories: tuple[str, ...] = ()
    status: Literal["", "github", "gitlab", "gitea"] = ""
    status_url: str = ""
    status_token: str = ""
    webhook_secret: str = ""
    notes: bool = True


class BuildHost(Protocol):
    """The place on this machine where commits are built, for steps of CI."""

    writable: ClassVar[bool] = True

    @property
    def folder(self) -> Path:
        """Return the folder for environments, logs and temporary files; it is kept between builds."""
        ...

    @property
    def project(self) -> Path:
        """Return the folder of the project that runs CI."""
        ...

    @property
    def name(self) -> str:
        """Return the name of the project."""
        ...
