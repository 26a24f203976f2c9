"""The targets of this package: every one passes the suite, with a real build."""

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import parts
from tests.delivery.builds import share_environments
from tests.delivery.images import add_build_with_image, share_layout
from tests.projects import DOUBLING
from tidemill.compose.session import open_session
from tidemill.core.build import Build
from tidemill.core.environment import Environment
from tidemill.delivery.container import ContainerTarget
from tidemill.delivery.local import LocalTarget
from tidemill.delivery.ray_job import ADDRESS, RayTarget
from tidemill.delivery.runtime import prepare_runtime
from tidemill.delivery.target import OpenRuntime, Target, Workload
from tidemill.flow.session import Session
from tidemill.project.project import Project
from tidemill.testing.targets import TargetSuite

POLICY = '[project]\nname = "shop"\n\n[environments.test]\n'


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, build_environments: Path, image_layout: Path) -> Session:
    """The session of a small project without a model."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "tidemill.toml").write_text(POLICY)
    (folder / "pipeline.py").write_text(DOUBLING)
    session = open_session(Project(folder), "ci")
    share_environments(session, build_environments)
    share_layout(session, image_layout)
    return session


@pytest.fixture(scope="module")
def build(session: Session) -> Build:
    return add_build_with_image(session, 1)


class BuiltSuite(TargetSuite):
    """The suite with a real build of the small project."""

    @pytest.fixture
    def workload(self, session: Session, build: Build, request: pytest.FixtureRequest) -> Workload:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        root = session.workspace.root.resolve()
        return Workload(
            deployment=f"d{abs(hash(request.node.nodeid)):x}", environment="test", settings=Environment(),
            build=build.id, project=build.project, image=build.image, workspace=root, data=root.parent, port=port,
        )  # fmt: skip

    @pytest.fixture
    def runtime(self, session: Session, build: Build) -> OpenRuntime:
        return partial(prepare_runtime, build, session.workspace.blobs.get, session.workspace.root / "builds")


class TestLocalTarget(BuiltSuite):
    @pytest.fixture
    def opener(self, session: Session) -> Callable[[], Target]:
        return partial(LocalTarget, session.workspace.root)


class TestContainerTarget(BuiltSuite):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def storage(cls, container_storage: Path) -> Iterator[None]:
        with parts.containers(container_storage, keep=True):
            yield

    @pytest.fixture
    def opener(self, session: Session) -> Callable[[], Target]:
        root = session.workspace.root
        return partial(ContainerTarget, root, root / "ci" / "images")


class TestRayTarget(BuiltSuite):
    """On the cluster that RAY_API_SERVER_ADDRESS names, otherwise on one of its own, in an environment of its own."""

    @pytest.fixture(scope="class")
    @classmethod
    def address(cls) -> Iterator[str]:
        if ADDRESS in os.environ:
            yield os.environ[ADDRESS]
            return
        try:
            with parts.ray() as address:
                yield address
        except parts.PartMissing as missing:
            pytest.skip(f"not on this machine: {missing}")

    @pytest.fixture
    def opener(self, session: Session, address: str) -> Callable[[], Target]:
        return partial(RayTarget, session.workspace.root, address)
