"""Quick rules for the training rows and the rhythm of a new project, and whether a backtest can find better ones."""

from datetime import timedelta

SHARE_TO_REPLAY = 2 / 3
"""The part of a history that a backtest replays by default; the rows before it train the first model."""
SHARE_TO_CHOOSE = 0.6
"""The part of the replayed rows that a policy search chooses on; the later rows judge."""
NEEDED_WEEKS = 4
"""The least number of weeks of each of the two parts."""
NEEDED_LABELS = 400
"""The least number of labelled rows of each of the two parts."""
_WINDOW_ROWS = 4_000
_ROWS_OF_LOOK = 50
_ROWS_FOR_DAILY_LOOKS = 0.5
_WINDOWS = (28, 56, 84, 182)
_TWO_YEARS = 730


def suggest_window(rows: int, rows_per_day: float) -> str:
    """Return the shortest window with 4,000 rows that is at most a third of the history; empty if there is none.

    >>> suggest_window(20_000, 48), suggest_window(3_000, 33)
    ('84d', '')
    """
    if not rows_per_day:
        return ""
    days = rows / rows_per_day
    return next(
        (f"{window}d" for window in _WINDOWS if window * rows_per_day >= _WINDOW_ROWS and window * 3 <= days), ""
    )


def choose_looks(rows_per_day: float) -> str:
    """Return when a new project looks at its live rows (cron): each six hours, or less often if they bring few rows.

    >>> choose_looks(1_000), choose_looks(120), choose_looks(24), choose_looks(1 / 7)
    ('0 */6 * * *', '0 */12 * * *', '0 0 * * *', '0 0 * * 1')
    """
    if not rows_per_day or rows_per_day >= 4 * _ROWS_OF_LOOK:
        return "0 */6 * * *"
    if rows_per_day < _ROWS_FOR_DAILY_LOOKS:
        return "0 0 * * 1"
    return "0 */12 * * *" if rows_per_day >= 2 * _ROWS_OF_LOOK else "0 0 * * *"


def describe_training_rows(rows: int, rows_per_day: float) -> str:
    """Return a line of comment for `[training]`: the window to try, and when all history is the better start."""
    window = suggest_window(rows, rows_per_day)
    if not window:
        return ""
    seasons = "all history knows each season twice" if rows / rows_per_day >= _TWO_YEARS else "default: all history"
    return (
        f'# window = "{window}"'.ljust(24) + f"# only the newest rows ({seasons}; `tidemill backtest --tune` decides)\n"
    )


def describe_search(rows: int, rows_per_day: float) -> str:
    """Return whether a backtest can choose training rows and a rhythm from so many rows, as a line of `init`."""
    part = SHARE_TO_REPLAY * min(SHARE_TO_CHOOSE, 1 - SHARE_TO_CHOOSE)
    needed = timedelta(weeks=NEEDED_WEEKS) / part
    days = rows / rows_per_day if rows_per_day else 0.0
    if not rows_per_day:
        return "training rows and rhythm: without an event time, a backtest cannot choose them"
    about = f"{rows:,} rows in {days:,.0f} days"
    needs = f"{NEEDED_LABELS / part:,.0f} rows in {needed / timedelta(days=1):.0f} days"
    if rows * part < NEEDED_LABELS or timedelta(days=days) < needed:
        return f"training rows and rhythm: {about} are too few to choose them; `tidemill backtest --tune` needs {needs}"
    return f"training rows and rhythm: by simple rules; `tidemill backtest --tune` finds better ones in {about}"
