"""Whether a model can predict: a person must not put a broken one into production."""

from tidemill.core.model import Model, Signature
from tidemill.errors import DataError
from tidemill.models.inputs import load_samples
from tidemill.models.load import load
from tidemill.models.predictions import Predictions, describe_invalid, find_valid


def require_predictions(model: Model) -> None:
    """Raise an error of Tidemill if a model cannot predict its sample rows, or a prediction is not valid.

    Raises
    ------
    DataError
        if a prediction is not finite, has another form than its signature, or probabilities with a sum other than 1.
    """
    if (rows := load_samples(model)).height:
        require_valid(model.manifest.signature, load(model).predict(rows))


def require_valid(signature: Signature, predictions: Predictions) -> None:
    """Raise `DataError` if a prediction is not valid; the service would refuse to serve such a model."""
    try:
        valid = find_valid(signature, predictions)
    except (ValueError, TypeError, IndexError) as error:
        raise DataError("its predictions have another form than its signature", "register it again") from error
    if not valid.all():
        found = describe_invalid(predictions, valid)
        raise DataError(
            f"it predicts {found} for {int((~valid).sum())} of {len(valid)} sample rows",
            "train it again; probabilities of LightGBM's multiclassova have other sums: use multiclass",
        )
