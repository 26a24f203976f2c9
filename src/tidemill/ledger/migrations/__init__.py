"""The numbered changes of the ledger's tables, oldest first.

A change is a function of a connection, inside the transaction of the upgrade, and of the database (`dialect`, and
`statement` for SQL with parameters). To add a change: write `mNNNN_SUBJECT.py`, add it at the end of `MIGRATIONS`, and
change the definitions of new tables in `ledger/table.py` and `ledger/ledger.py`. A change of bodies ends with
`seals.seal_all`.
"""

from collections.abc import Callable
from typing import Any

from tidemill.ledger.database import Database
from tidemill.ledger.migrations import m0002_search, m0003_facts, m0004_delivery, m0005_chain, m0006_seals

# Number 0001 is the ledger of version 0.1.0, which stored no number.
FIRST = "0001"
MIGRATIONS: tuple[tuple[str, Callable[[Any, Database], None]], ...] = (
    ("0002", m0002_search.upgrade),
    ("0003", m0003_facts.upgrade),
    ("0004", m0004_delivery.upgrade),
    ("0005", m0005_chain.upgrade),
    ("0006", m0006_seals.upgrade),
)
HEAD = MIGRATIONS[-1][0]
