"""The ledger of 0.1.0, which carried no stamp."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """It is there already: an empty ledger is created whole, as this version has it."""
