"""Engines: where the steps of a run are performed; others plug in under the entry point `tidemill.engines`."""

from tidemill import plugin
from tidemill.errors import NotFound
from tidemill.flow.engines.inline import InlineEngine
from tidemill.flow.session import Session
from tidemill.flow.tasks import Engine

OWN = ("inline", "processes")


def engine_of(session: Session, name: str) -> Engine:
    """The engine of a name; it stays open, and warm, as long as its session.

    Raises
    ------
    NotFound
        where nobody offers one of that name.
    """
    if name not in session.engines:
        session.engines[name] = _opened(session, name)
    engine: Engine = session.engines[name]
    return engine


def _opened(session: Session, name: str) -> Engine:
    if name == "inline":
        return InlineEngine(session)
    if name == "processes":
        from tidemill.flow.engines.processes import ProcessEngine

        return ProcessEngine(session)
    others = list(plugin.names("engines"))
    if name not in others:
        raise NotFound(f"there is no engine {name!r}", f"use one of: {', '.join([*OWN, *others])}")
    made: Engine = plugin.load("engines", name)(session)
    return made
