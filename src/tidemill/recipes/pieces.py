"""Pieces of an ingestion: accepted batches are appended and recorded together, so that many small files are fast.

A piece ends after some files, rows, bytes or seconds. What is recorded is not judged again, also if the process of the
ingestion is killed.
"""

from collections.abc import Callable, Iterable
from functools import partial

import polars as pl
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.batch import Batch
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.resources import Books, Tables
from tidemill.errors import TidemillError, Unreadable
from tidemill.faults import maybe_crash

_MOST_FILES = 256
_MOST_ROWS = 200_000
_MOST_BYTES = 64_000_000
_MOST_SECONDS = 2.0
_MOST_BAD_ROWS = 100_000

Refuse = Callable[[Batch, Unreadable], Verdict]
"""A function that returns the verdict on a batch that cannot be read or stored."""


class Pieces:
    """The results of an ingestion: its verdicts in the order of the batches, and the bad rows of stopped ones."""

    def __init__(
        self, source: str, tables: Tables, books: Books, clock: Clock, context: Context, refuse: Refuse
    ) -> None:
        self._source, self._tables, self._books, self._clock, self._context = source, tables, books, clock, context
        self._refuse = refuse
        self._waiting: list[tuple[Batch, int, pl.DataFrame]] = []
        self._rows = self._bytes = 0
        self._since = clock.monotonic()
        self._bad: list[pl.DataFrame] = []
        self._bad_rows = 0
        self.verdicts: list[Verdict] = self._find_recorded()

    def _find_recorded(self) -> list[Verdict]:
        """Return the verdicts of this run that an earlier attempt has recorded for accepted batches of the source."""
        verdicts = self._books.verdicts.find(
            run=self._context.run, check="schema", action="proceed", environment=self._context.environment
        )
        return [verdict for verdict in verdicts if verdict.subject.startswith(f"{self._source}/")]

    def accept(self, batch: Batch, verdict: Verdict, rows: pl.DataFrame) -> None:
        """Append the rows of a batch, and record its verdict, with the next ones."""
        if self._waiting and dict(self._waiting[0][2].schema) != dict(rows.schema):
            self.flush()
        self._waiting.append((batch, len(self.verdicts), rows))
        self.verdicts.append(verdict)
        self._rows += rows.height
        self._bytes += int(rows.estimated_size())
        is_full = self._rows >= _MOST_ROWS or self._bytes >= _MOST_BYTES or len(self._waiting) >= _MOST_FILES
        if is_full or self._clock.monotonic() - self._since >= _MOST_SECONDS:
            self.flush()

    def accept_parts(self, batch: Batch, verdict: Verdict, parts: Callable[[], Iterable[pl.DataFrame]]) -> None:
        """Append the rows of a batch that comes in parts, all or none, and record its verdict."""
        self.flush()
        self.verdicts.append(verdict)
        self._append_alone(
            len(self.verdicts) - 1, batch, lambda: self._tables.append_parts(self._source, batch.id, parts)
        )

    def stop(self, verdict: Verdict) -> None:
        """Add the verdict on a batch that is not appended; the step returns it, and it stops the run."""
        self.verdicts.append(verdict)

    def keep_bad_rows(self, rows: pl.DataFrame) -> int:
        """Keep rows for inspection, as many as there is space for; return their number."""
        kept = rows.head(_MOST_BAD_ROWS - self._bad_rows)
        if kept.height or not self._bad:
            self._bad.append(kept)
            self._bad_rows += kept.height
        return kept.height

    def flush(self) -> None:
        """Append and record the batches that wait."""
        waiting, self._waiting = self._waiting, []
        self._rows = self._bytes = 0
        self._since = self._clock.monotonic()
        if not waiting:
            return
        try:
            self._tables.append_all(self._source, {batch.id: rows for batch, _, rows in waiting})
        except TidemillError:
            if len(waiting) == 1:
                raise
            for batch, index, rows in waiting:  # only the batch that the table refuses is left out
                self._append_alone(index, batch, partial(self._tables.append_all, self._source, {batch.id: rows}))
            return
        maybe_crash("piece is appended")
        self._record([(index, self.verdicts[index]) for _, index, _ in waiting])
        maybe_crash("piece is recorded")

    def _append_alone(self, index: int, batch: Batch, append: Callable[[], object]) -> None:
        try:
            append()
        except TidemillError as refused:
            if isinstance(refused.__cause__, OSError):
                raise
            self.verdicts[index] = self._refuse(batch, Unreadable(refused.problem, refused.cure))
            return
        self._record([(index, self.verdicts[index])])

    def _record(self, accepted: list[tuple[int, Verdict]]) -> None:
        with self._books.transaction():
            for index, verdict in accepted:
                self.verdicts[index] = self._books.verdicts.add(
                    replace(
                        verdict,
                        id=self._clock.mint(),
                        run=self._context.run,
                        environment=self._context.environment,
                        model=verdict.model or self._context.model,
                        time=self._clock.now(),
                    )
                )

    def stack_bad_rows(self) -> pl.DataFrame | None:
        """Stack the bad rows; where their types cannot be reconciled, all values become text."""
        if not self._bad:
            return None
        try:
            return pl.concat(self._bad, how="diagonal_relaxed")
        except pl.exceptions.PolarsError:
            texts = [frame.select(pl.all().cast(pl.String, strict=False)) for frame in self._bad]
            return pl.concat(texts, how="diagonal")
