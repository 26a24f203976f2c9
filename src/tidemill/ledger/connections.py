"""Connections to a ledger's database: each thread has one connection, which its transactions share."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakSet

from tidemill.errors import TidemillError, Transient
from tidemill.ledger.database import Database

R = TypeVar("R")


class _ThreadState:
    """The connection of a thread, and whether a transaction is open."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.connection: Any = None
        self.writing = False
        self.changes: dict[str, int] = {}
        _ALL_STATES.add(self)

    def __del__(self) -> None:
        """Close the connection of a thread that has finished."""
        if self.connection is not None and self.process == os.getpid():
            self.connection.close()


_ALL_STATES: WeakSet[_ThreadState] = WeakSet()
_INHERITED: list[_ThreadState] = []


def _keep_inherited() -> None:
    """Keep the connections alive in a forked child, because closing them would break those of the parent."""
    while True:
        try:
            _INHERITED.extend(tuple(_ALL_STATES))
        except RuntimeError:
            # Another thread has just opened a connection.
            continue
        return


def _forget_inherited() -> None:
    _INHERITED[:] = [state for state in _INHERITED if state.process != os.getpid()]


os.register_at_fork(before=_keep_inherited, after_in_parent=_forget_inherited)


class Connections:
    """The connections of all threads of this process to one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.on_connect: Callable[[Any], None] = lambda _: None
        """Checks each new connection: a reconnection can reach another database than the one before it."""
        self.on_commit: Callable[[Any, Mapping[str, int]], None] = lambda *_: None
        """Writes how much a transaction changed the sums of books, before it is committed; see `ledger/seals`."""
        self.refusal: TidemillError | None = None
        """The error of each transaction that writes, for a ledger that does not exist."""
        self._local = threading.local()
        self._all: WeakSet[_ThreadState] = WeakSet()

    def _state(self) -> _ThreadState:
        state: _ThreadState | None = getattr(self._local, "state", None)
        if state is not None and state.process == os.getpid():
            return state
        state = self._local.state = _ThreadState()
        self._all.add(state)
        return state

    def connection(self) -> Any:
        """Return the connection of this thread; errors are those of the driver."""
        return self._connect(self._state())

    def _connect(self, state: _ThreadState) -> Any:
        if state.connection is not None:
            if not self.database.is_lost(state.connection):
                return state.connection
            self._disconnect(state)
        connection = self.database.connect()
        try:
            self.on_connect(connection)
        except BaseException:
            connection.close()
            raise
        state.connection = connection
        return connection

    def _disconnect(self, state: _ThreadState) -> None:
        connection, state.connection = state.connection, None
        with suppress(self.database.Error):
            connection.close()

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[Any]:
        """Open a transaction of this thread; a transaction inside another joins it.

        With `durable`, the commit waits for the disk.
        """
        state = self._state()
        if state.writing:
            yield state.connection
            return
        if self.refusal is not None:
            raise self.refusal
        database = self.database
        try:
            try:
                self._run_first(state, lambda connection: database.begin(connection, durable=durable))
                state.writing = True
                yield state.connection
                self.on_commit(state.connection, state.changes)
                self._require_present(state.connection)
                state.connection.execute("COMMIT")
            except BaseException:
                database.roll_back(state.connection)
                raise
            finally:
                state.writing = False
                state.changes.clear()
        except database.Error as refused:
            raise database.explain(refused) from None

    def count_change(self, book: str, change: int) -> None:
        """Add a change of the sum of a book to those of the open transaction."""
        changes = self._state().changes
        changes[book] = changes.get(book, 0) + change

    def _run_first(self, state: _ThreadState, action: Callable[[Any], R]) -> R:
        """Run the first action on a connection, and repeat it on a new connection if the server was restarted."""
        try:
            return action(self._connect(state))
        except self.database.Error as error:
            if state.connection is None:
                raise
            if self.database.is_broken(error):
                self._disconnect(state)
            elif not self.database.is_lost(state.connection):
                raise
            return action(self._connect(state))

    def _require_present(self, connection: Any) -> None:
        """Raise an error if the file of the open transaction was replaced: its commit would be lost."""
        if self.database.file is not None and self.database.is_lost(connection):
            raise Transient(
                f"the ledger at {self.database.address} was replaced during a transaction, which was rolled back",
                "try again",
            )

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query, inside the open transaction if there is one."""
        state = self._state()

        def rows(connection: Any) -> list[tuple[Any, ...]]:
            return connection.execute(sql, parameters).fetchall()  # type: ignore[no-any-return]

        if state.writing:
            return rows(state.connection)
        try:
            return self._run_first(state, rows)
        except self.database.Error as refused:
            raise self.database.explain(refused) from None

    def close(self) -> None:
        """Close all connections; the next use opens a new one."""
        for state in tuple(self._all):
            if state.process == os.getpid() and state.connection is not None:
                state.connection.close()
                state.connection = None
