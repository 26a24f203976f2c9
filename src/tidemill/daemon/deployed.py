"""The process of a deployment: ready on private ports, then public when it is activated."""

import os
import threading
from pathlib import Path

from msgspec.structs import replace

from tidemill.daemon.daemon import Notify
from tidemill.daemon.pages import Pages
from tidemill.delivery.folder import DeploymentFolder, ProcessFacts
from tidemill.errors import TidemillError
from tidemill.serving.server import HttpServer

_POLL_SECONDS = 0.2


class Deployed:
    """The process of the deployment whose folder is `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = DeploymentFolder(folder)

    def wait_for_activation(self, server: HttpServer, pages: Pages, stop: threading.Event, notify: Notify) -> bool:
        """Report the addresses, and open the public port when it is requested; return False if stopped before."""
        facts = ProcessFacts(process=os.getpid(), service=server.address, pages=pages.address)
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
                    self._folder.report(replace(facts, public=public))
                    notify(f"public at {public}")
                    return True
            stop.wait(_POLL_SECONDS)
        return False
