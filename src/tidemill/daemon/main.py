"""`tidemill up`: the daemon, the prediction service and the web pages, until Ctrl-C or SIGTERM."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from tidemill.access.exposure import Exposure
from tidemill.core.signing import PackageSigner
from tidemill.daemon.daemon import Daemon, Notify
from tidemill.daemon.deployed import Deployed, start_pipelines
from tidemill.daemon.lease import Lease
from tidemill.daemon.listening import Listener
from tidemill.daemon.pages import Pages, ReadPolicies
from tidemill.daemon.patience import Patience
from tidemill.daemon.supervisor import Supervisor
from tidemill.flow.session import Session
from tidemill.monitoring.alerts import check_addresses
from tidemill.serving.server import HttpServer, end_after

_TICK_SECONDS = 1.0


class Addresses(Struct, frozen=True, kw_only=True):
    """The addresses and ports of the service and of the pages, with their protection."""

    service: Exposure
    port: int
    pages: Exposure
    pages_port: int


def up(
    session: Session,
    addresses: Addresses,
    notify: Notify,
    read_policies: ReadPolicies | None = None,
    deployment: Path | None = None,
) -> None:
    """Serve predictions and pages; fire triggers as soon as this process has the environment's lease.

    Stop cleanly on Ctrl-C or SIGTERM. `read_policies` compares policies with their promises, for the pages. The process
    of a deployment, which has the folder `deployment`, does both on private ports, writes no predictions and fires no
    triggers until it is activated.

    Raises
    ------
    InputError
        if an address is not protected, a port is in use, or an address needs tokens and there is none.
    """
    stop = threading.Event()
    policy, signer = session.project.policy, session.resource(PackageSigner)
    deployed = Deployed(deployment) if deployment else None

    def end(*_: object) -> None:
        end_after(policy.shutdown.seconds)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    listener = Listener(session)
    server = HttpServer(
        session.workspace,
        session.clock,
        addresses.service,
        addresses.port,
        policy.strict_models,
        signer,
        policy.serving,
        policy.find_hosts(session.workspace.environment),
        listener.report,
        policy.journal,
        policy.shutdown,
        is_private=deployment is not None,
    )
    listener.watch(server.find_problems)
    pages = Pages(session, addresses.pages_port, read_policies, addresses.pages)
    listener.watch(pages.find_problems)
    os.environ.setdefault("TIDEMILL_PAGES", pages.address)  # alerts link to the pages
    if deployed:
        server.test()
    server.start()
    pages.start()
    notify(f"serving at {server.address} (stop with Ctrl-C)")
    notify(f"pages at {pages.address}")
    listener.start()
    threading.Thread(target=_stop_with, args=(stop, server), name="tidemill-stop", daemon=True).start()
    supervisor = Supervisor(session, notify)
    for problem in check_addresses(session.project.policy):
        notify(problem)
    try:
        if deployed is None or deployed.wait_for_activation(server, pages, stop, notify):
            if deployment:
                start_pipelines(session, deployment.name)
            supervisor.start()
            watch(session, stop, notify)
    finally:
        stop.set()
        supervisor.stop()
        listener.stop()
        pages.stop()
        server.stop()
        notify("stopped: all open requests are answered and journaled")


def _stop_with(stop: threading.Event, server: HttpServer) -> None:
    """Stop the service as soon as the process is to end: it does not wait for the jobs of the daemon."""
    stop.wait()
    server.stop()


def watch(
    session: Session,
    stop: threading.Event,
    notify: Notify,
    make_daemon: Callable[[Session, Notify], Daemon] = Daemon,
    tick: float = _TICK_SECONDS,
) -> None:
    """Run the daemon of an environment while this process has its lease, until `stop` is set.

    If the database server loses the lease, for example when it restarts, this process acquires it again, or waits for
    the daemon that has it.
    """
    workspace = session.workspace
    lease = Lease(workspace.state_folder, workspace.database, workspace.environment)
    patience = Patience(notify)
    daemon: Daemon | None = None
    is_waiting = False

    def run_once() -> None:
        nonlocal daemon, is_waiting
        workspace.create_environment()
        if not lease.acquire():
            if not is_waiting:
                notify(
                    "another daemon runs in this environment: waiting until it stops; predictions are served meanwhile"
                )
            daemon, is_waiting = None, True
            return
        is_waiting = False
        if daemon is None:
            daemon = make_daemon(session, notify)
            notify("the daemon is running: triggers fire")
        daemon.run_once()

    try:
        while not stop.is_set():
            patience.attempt("ledger", run_once)
            stop.wait(tick)
        if daemon is not None:
            daemon.stop()
    finally:
        lease.release()
