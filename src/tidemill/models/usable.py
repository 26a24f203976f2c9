"""Whether a model can predict: a person must not put a broken one into production."""

from tidemill.core.model import Model
from tidemill.models.inputs import load_samples
from tidemill.models.load import load


def require_predictions(model: Model) -> None:
    """Raise an error of Tidemill if a model cannot predict its sample rows."""
    if (rows := load_samples(model)).height:
        load(model).predict(rows)
