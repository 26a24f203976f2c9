"""Images of builds for tests: made by the code of CI, from the environment of the build."""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tests.delivery.builds import add_build
from tidemill.core.build import Build
from tidemill.core.ci import BuildHost, Ci
from tidemill.delivery.checkout import Checkout
from tidemill.delivery.environment import BuildEnvironment
from tidemill.delivery.image import make_image
from tidemill.delivery.runtime import prepare_runtime, select_required
from tidemill.flow.session import Session


def share_layout(session: Session, layout: Path) -> None:
    """Let a session keep the images of its builds in a folder of other tests, which has their layers."""
    folder = session.resource(BuildHost).folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images").symlink_to(layout)


def add_build_with_image(session: Session, number: int, **changes: Any) -> Build:
    """A build in the ledger whose image is in the layout of the workspace."""
    build = add_build(session, number, **changes)
    workspace = session.workspace
    wheel = workspace.blobs.get(build.artifacts["wheel"])
    interpreter = prepare_runtime(build, workspace.blobs.get, workspace.root / "builds").python
    packages = select_required(build, wheel).packages
    environment = BuildEnvironment(
        key="tests",
        python=build.python,
        packages=packages | {"tidemill": "0"},
        runtime=tuple(f"{name}=={version}" for name, version in sorted(packages.items())),
    )
    host: BuildHost = session.resource(BuildHost)
    link = host.folder / "environments" / environment.key
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(interpreter.parents[1])
    checkout = Checkout(remote="", branch="main", commit=build.commit, project=build.project)
    image, judgements = make_image(Ci(image="always"), host, checkout, environment, wheel, {})
    assert image.digest, judgements
    return workspace.ledger.builds.change(build.id, lambda known: replace(known, image=image.digest))
