"""The function of processes that open a ledger at the same time; it imports little, because each process imports it."""

from tidemill.ledger.ledger import Ledger
from tidemill.testing.ledger import run


def read_and_write(number: int, url: str) -> int:
    """Return the number of runs that a search finds, and add a run."""
    ledger = Ledger(url)
    found = len(ledger.runs.find(text="zo")) + len(ledger.runs.find(text="trigger"))
    ledger.runs.add(run(10_000 + number))
    return found
