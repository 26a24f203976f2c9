"""The process of a deployment: ready on private ports, then public when it is activated."""

import os
import threading
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from tidemill.access.tokens import create_secret
from tidemill.core.environment import Environment
from tidemill.daemon.daemon import Notify
from tidemill.daemon.pages import Pages
from tidemill.daemon.triggers import Triggers
from tidemill.delivery.folder import DeploymentFolder, ProcessFacts
from tidemill.errors import Conflict, TidemillError
from tidemill.flow.session import Session
from tidemill.serving.server import HttpServer

_POLL_SECONDS = 0.2


class Deployed:
    """The process of the deployment whose folder is `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = DeploymentFolder(folder)

    def wait_for_activation(self, server: HttpServer, pages: Pages, stop: threading.Event, notify: Notify) -> bool:
        """Report the addresses, and open the public port when it is requested; return False if stopped before."""
        secret = create_secret()
        server.control.admit_secret(secret, "deployment", ("predict", "viewer"))
        facts = ProcessFacts(process=os.getpid(), service=server.address, pages=pages.address, secret=secret)
        self._folder.report(facts)
        problem = ""
        while not stop.is_set():
            activation = self._folder.read_activation()
            if activation is not None:
                try:
                    public = server.publish(activation.port)
                except TidemillError as refused:
                    if refused.problem != problem:
                        problem = refused.problem
                        self._folder.report(replace(facts, problem=problem))
                else:
                    server.control.forget_secrets()
                    self._folder.report(replace(facts, public=public, secret=""))
                    notify(f"public at {public}")
                    return True
            stop.wait(_POLL_SECONDS)
        return False


def start_pipelines(session: Session, deployment: str) -> None:
    """Create the first job of each model in a new deployment: what is deployed is the pipeline, which trains there."""
    policy, workspace = session.project.policy, session.workspace
    settings = policy.environments.get(workspace.environment, Environment())
    triggers = Triggers(policy, workspace.ledger, session.clock, workspace.environment)
    for model in policy.models:
        with suppress(Conflict):  # the process of this deployment was started before
            key = f"{deployment}/{model}"
            triggers.create_job("deployment", settings.pipeline, {}, key, model)
