"""Connections to a ledger's database: one for each thread, which its transactions share."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakSet

from tidemill.ledger.database import Database

R = TypeVar("R")


class _Own:
    """What a thread has for itself."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.connection: Any = None
        self.writing = False
        _EVERY.add(self)

    def __del__(self) -> None:
        """A thread that ends gives its connection back."""
        if self.connection is not None and self.process == os.getpid():
            self.connection.close()


_EVERY: WeakSet[_Own] = WeakSet()
_INHERITED: list[_Own] = []


def _hold() -> None:
    """A forked child must not even close what its parent goes on using, as it would when it forgets its threads."""
    while True:
        try:
            _INHERITED.extend(tuple(_EVERY))
        except RuntimeError:
            # Another thread has just opened one.
            continue
        return


def _release() -> None:
    _INHERITED[:] = [own for own in _INHERITED if own.process != os.getpid()]


os.register_at_fork(before=_hold, after_in_parent=_release)


class Connections:
    """The connections of all threads of this process to one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._local = threading.local()
        self._all: WeakSet[_Own] = WeakSet()

    def _own(self) -> _Own:
        own: _Own | None = getattr(self._local, "own", None)
        if own is not None and own.process == os.getpid():
            return own
        own = self._local.own = _Own()
        self._all.add(own)
        return own

    def connection(self) -> Any:
        """This thread's connection; raises the driver's own errors."""
        return self._connected(self._own())

    def _connected(self, own: _Own) -> Any:
        if own.connection is None or self.database.lost(own.connection):
            own.connection = self.database.connect()
        return own.connection

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[Any]:
        """One transaction for all that this thread writes inside; a transaction within one joins it.

        `durable` returns only once the disk has it.
        """
        own = self._own()
        if own.writing:
            yield own.connection
            return
        database = self.database
        try:
            try:
                self._first(own, lambda connection: database.begin(connection, durable=durable))
                own.writing = True
                yield own.connection
                own.connection.execute("COMMIT")
            except BaseException:
                database.roll_back(own.connection)
                raise
            finally:
                own.writing = False
        except database.Error as refused:
            raise database.explain(refused) from None

    def _first(self, own: _Own, act: Callable[[Any], R]) -> R:
        """Do what comes first on a connection, and so can be done again where the server was started anew since."""
        try:
            return act(self._connected(own))
        except self.database.Error:
            if own.connection is None or not self.database.lost(own.connection):
                raise
            return act(self._connected(own))

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of one query; inside a transaction, as that sees them."""
        own = self._own()

        def rows(connection: Any) -> list[tuple[Any, ...]]:
            return connection.execute(sql, parameters).fetchall()  # type: ignore[no-any-return]

        if own.writing:
            return rows(own.connection)
        try:
            return self._first(own, rows)
        except self.database.Error as refused:
            raise self.database.explain(refused) from None

    def close(self) -> None:
        """Give all connections back; the next use opens one anew."""
        for own in tuple(self._all):
            if own.process == os.getpid() and own.connection is not None:
                own.connection.close()
                own.connection = None
