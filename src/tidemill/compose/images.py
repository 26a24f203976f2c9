"""Finds the container images in which the steps of a project run."""

import os
import re
from pathlib import Path
from typing import ClassVar

from tidemill.core.build import Build
from tidemill.core.ci import BuildHost
from tidemill.core.engine import PipelineSettings, StepImage
from tidemill.core.signing import ImageSigner
from tidemill.delivery.container import find_store_folder
from tidemill.delivery.image import find_layout, load_digest
from tidemill.delivery.image_signature import require_signed_image
from tidemill.errors import ConfigurationError, NotFound
from tidemill.flow.session import BUILD_VARIABLE, Session
from tidemill.host.containers import find_container_runtime
from tidemill.host.key_files import KEY_VARIABLE, find_key_file, require_key_for
from tidemill.registry.deployments import find_healthy

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# A container has folders of its own with these names.
_OWN_FOLDERS = (Path("/"), Path("/tmp"))


class BuildImages:
    """The images of the builds of a project, in the workspace or in the registry of the policy."""

    writable: ClassVar[bool] = True

    def __init__(self, session: Session) -> None:
        self._session = session

    def choose(self, pipeline: str) -> StepImage:
        """Return the image for the steps of a pipeline.

        It is that of the policy, otherwise of the build that this process runs, otherwise of the build that is deployed
        in the environment, otherwise of the newest build that has passed.

        Raises
        ------
        NotFound
            if there is no image.
        ConfigurationError
            if that of the policy is no digest.
        """
        settings = self._session.project.policy.pipelines.get(pipeline, PipelineSettings())
        mounts, variables = self._list_mounts(settings), {}
        key = find_key_file(self._session.project.policy.signing.key, self._session.project.folder)
        if key is not None and key.is_file():  # else the step that signs names it
            mounts[str(require_key_for(key, self._session.workspace.root))] = "ro"
            variables = {KEY_VARIABLE: str(key)}
        if settings.image and not _DIGEST.fullmatch(settings.image):
            raise ConfigurationError(
                f"the image {settings.image!r} of pipeline {pipeline!r} is no digest",
                f'write image = "sha256:…" under [pipelines.{pipeline}]; `tidemill deploy builds` lists digests',
            )
        build = self._find_build(settings.image)
        if build is None and not settings.image:
            raise NotFound(
                f"there is no container image for the steps of {pipeline!r}: no build of the project has one",
                'set image = "always" under [ci], then build a commit: `tidemill ci run`',
            )
        if build is None:
            return StepImage(digest=settings.image, mounts=mounts, variables=variables)
        return StepImage(
            digest=build.image,
            build=build.label,
            python=build.python,
            packages=build.packages,
            mounts=mounts,
            variables=variables,
        )

    def load(self, image: StepImage) -> str:
        """Return the name under which podman or docker can run an image.

        Raises
        ------
        TidemillError
            if neither is installed, the image is neither in the workspace nor in the registry, or it is not signed
            and the environment demands it.
        """
        project = self._session.project
        layout = find_layout(self._session.resource(BuildHost))
        registry = project.policy.ci.registry
        environment = project.policy.environments.get(self._session.workspace.environment)
        if environment is not None and environment.signed:
            signer = self._session.resource(ImageSigner)
            require_signed_image(signer, layout, project.name, image.digest, registry)
        return load_digest(find_container_runtime(), layout, project.name, image.digest, registry)

    def _find_build(self, digest: str) -> Build | None:
        books, project = self._session.workspace.ledger, self._session.project.name
        own = os.environ.get(BUILD_VARIABLE, "")
        deployed = find_healthy(books, self._session.workspace.environment)
        builds = [build for build in books.builds.find(project=project, state="passed") if build.image]
        builds.sort(key=lambda build: build.number, reverse=True)
        if digest:
            return next((build for build in builds if build.image == digest), None)
        present = own or (deployed.build if deployed else "")
        return next((build for build in builds if build.id == present), builds[0] if builds else None)

    def _list_mounts(self, settings: PipelineSettings) -> dict[str, str]:
        """Return the folders that steps need, and whether they can change them."""
        project, workspace = self._session.project, self._session.workspace
        mounts = {**_with_target(project.folder, "ro"), **_with_target(project.data_folder, "ro")}
        for source in project.policy.sources.values():
            path = Path(source.path) if "://" not in source.path else Path()
            if path.is_absolute():
                folder = next(parent for parent in path.parents if parent.is_dir())
                if folder not in _OWN_FOLDERS:
                    mounts |= {name: "ro" for name in _with_target(folder, "ro") if name not in mounts}
                elif path.exists():
                    mounts[str(path)] = "ro"
        for url in workspace.urls.values():
            if (store := find_store_folder(url)) is not None:
                mounts |= _with_target(store, "rw")
        mounts |= _with_target(workspace.root, "rw")
        for more in settings.mounts:
            mounts |= _with_target(Path(more).expanduser(), "rw")
        return mounts


def _with_target(folder: Path, access: str) -> dict[str, str]:
    """Return a folder and, if it is a link or below one, also the folder that it leads to."""
    return {os.path.abspath(folder): access, str(folder.resolve()): access}  # noqa: PTH100 - it keeps links
