"""`tidemill up`: the daemon, the prediction service and the pages, until they are told to end."""

import os
import signal
import threading
from collections.abc import Callable

from tidemill.daemon.daemon import Daemon
from tidemill.daemon.lease import Lease
from tidemill.daemon.listening import Listener
from tidemill.daemon.pages import Pages
from tidemill.daemon.patience import Patience
from tidemill.flow.session import Session
from tidemill.monitoring.alerts import unheard
from tidemill.serving.server import HttpServer

_TICK = 1.0


def up(session: Session, host: str, port: int, pages_port: int, told: Callable[[str], None]) -> None:
    """Answer at once, and show the pages; fire triggers as soon as the environment's lease is ours.

    It ends cleanly on Ctrl-C or SIGTERM.

    Raises
    ------
    InputError
        if the port is in use.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server = HttpServer(session.workspace, session.clock, host, port)
    pages = Pages(session, pages_port)
    listener = Listener(session)
    os.environ.setdefault("TIDEMILL_PAGES", pages.address)  # alerts lead there
    server.start()
    pages.start()
    told(f"answering at {server.address} (Ctrl-C ends it)")
    told(f"pages at {pages.address}")
    listener.start()
    for line in unheard(session.project.policy):
        told(line)
    try:
        watch(session, ended, told)
    finally:
        listener.stop()
        pages.stop()
        server.stop()
        told("ended: what was on its way is answered and journaled")


def watch(
    session: Session,
    ended: threading.Event,
    told: Callable[[str], None],
    make: Callable[[Session, Callable[[str], None]], Daemon] = Daemon,
    tick: float = _TICK,
) -> None:
    """Be the daemon of an environment whenever its lease is ours, until it is ended.

    A lease that a server has lost, as when it was started anew, is taken again, or another daemon has it by now.
    """
    workspace = session.workspace
    lease = Lease(workspace.state_folder, workspace.database, workspace.environment)
    patience = Patience(told)
    daemon: Daemon | None = None
    waiting = False

    def turn() -> None:
        nonlocal daemon, waiting
        if not lease.held():
            if not waiting:
                told("another daemon has this environment: waiting until it ends; predictions are answered meanwhile")
            daemon, waiting = None, True
            return
        waiting = False
        if daemon is None:
            daemon = make(session, told)
            told("the daemon watches: triggers fire from now on")
        daemon.turn()

    try:
        while not ended.is_set():
            patience.attempt("ledger", turn)
            ended.wait(tick)
        if daemon is not None:
            daemon.end()
    finally:
        lease.free()
