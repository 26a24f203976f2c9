"""What the processes do that open a ledger at once; imported by each, so it imports little."""

from tidemill.ledger.ledger import Ledger
from tidemill.testing.ledger import run


def read_and_write(place: int, url: str) -> int:
    """How many runs are found by their words; adds one more."""
    ledger = Ledger(url)
    found = len(ledger.runs.find(text="zo")) + len(ledger.runs.find(text="trigger"))
    ledger.runs.add(run(10_000 + place))
    return found
