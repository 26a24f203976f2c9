"""Engine settings of a pipeline, the image in which its steps run, and the port that finds it."""

from typing import ClassVar, Protocol

from msgspec import Struct


class PipelineSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a pipeline runs.

    Attributes
    ----------
    engine
        Where its steps run, unless `--engine` names another one: `inline` (one after the other, in the process of the
        run), `processes` (in parallel, in processes), `container` (in parallel, in containers), or an engine of another
        package.
    image
        The digest of the container image for the engine `container`, such as `sha256:4f2a…`. The default is the image
        of the build that is deployed in the environment, otherwise of the newest build that has passed.
    mounts
        More folders of this machine that the containers have, at the same paths. Steps can write to them.
    """

    engine: str = "inline"
    image: str = ""
    mounts: tuple[str, ...] = ()


class StepImage(Struct, frozen=True, kw_only=True):
    """A container image for steps, and the build that it is from; without a known build, `packages` is empty.

    `mounts` are the folders and files of this machine that its containers have, with `rw` or `ro`. `variables` are
    their own environment variables.
    """

    digest: str
    build: str = ""
    python: str = ""
    packages: dict[str, str] = {}
    mounts: dict[str, str] = {}
    variables: dict[str, str] = {}


class StepImages(Protocol):
    """The container images in which steps run."""

    writable: ClassVar[bool] = True

    def choose(self, pipeline: str) -> StepImage:
        """Return the image for the steps of a pipeline; raise `NotFound` if there is none."""
        ...

    def load(self, image: StepImage) -> str:
        """Return the name under which podman or docker can run an image, after its signature is verified."""
        ...
