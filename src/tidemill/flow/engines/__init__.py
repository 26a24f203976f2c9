"""Engines that run the steps of a run; other packages add engines by the entry point `tidemill.engines`."""

from tidemill import plugin
from tidemill.errors import NotFound
from tidemill.flow.engines.inline import InlineEngine
from tidemill.flow.session import Session
from tidemill.flow.tasks import Engine

BUILT_IN = ("inline", "processes", "container")


def open_engine(session: Session, name: str) -> Engine:
    """Return the engine with this name; it stays open as long as its session.

    Raises
    ------
    NotFound
        If no engine has this name.
    """
    if name not in session.engines:
        session.engines[name] = _create(session, name)
    engine: Engine = session.engines[name]
    return engine


def _create(session: Session, name: str) -> Engine:
    if name == "inline":
        return InlineEngine(session)
    if name == "processes":
        from tidemill.flow.engines.processes import open_process_engine

        return open_process_engine(session)
    if name == "container":
        from tidemill.flow.engines.container import open_container_engine

        return open_container_engine(session)
    plugins = list(plugin.list_names("engines"))
    if name not in plugins:
        raise NotFound(f"there is no engine {name!r}", f"use one of: {', '.join([*BUILT_IN, *plugins])}")
    engine: Engine = plugin.load("engines", name)(session)
    return engine
