"""Estimators that want a frame with names, as a project's module would define them."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import LinearSVC


def _by_name() -> Any:
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), FunctionTransformer(np.arcsinh)), ["delay", "kids"]),
        (OneHotEncoder(handle_unknown="ignore"), ["town", "vip"]),
    )


def by_name() -> Any:
    return make_pipeline(_by_name(), LogisticRegression(max_iter=500))


def by_name_numbers() -> Any:
    return make_pipeline(_by_name(), LinearRegression())


def searched(depths: Any = (0.1, 1.0)) -> Any:
    return GridSearchCV(by_name(), {"logisticregression__C": list(depths)}, cv=2)


def _longer(rows: Any) -> Any:
    return rows.select("delay").fill_null(0.0).to_numpy()


def by_polars() -> Any:
    return make_pipeline(FunctionTransformer(_longer), LogisticRegression())


def _assigned(rows: Any) -> Any:
    return rows.assign(delay=rows["delay"].fillna(0.0))[["delay"]]


def by_pandas() -> Any:
    return make_pipeline(FunctionTransformer(_assigned), LogisticRegression())


def by_type() -> Any:
    chosen = make_column_selector(dtype_include="number")
    return make_pipeline(make_column_transformer((SimpleImputer(), chosen)), LogisticRegression(max_iter=500))


def by_named_categories() -> Any:
    return HistGradientBoostingClassifier(categorical_features=["kids"], max_iter=10)


class Rule(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """It looks at one column by its name."""

    def fit(self, rows: Any, target: Any) -> "Rule":
        self.classes_ = np.unique(target)
        self.share_ = float(np.mean(target[(rows["town"] == "ulm").fill_null(value=False).to_numpy()]))
        return self

    def predict_proba(self, rows: Any) -> Any:
        positive = np.where((rows["town"] == "ulm").fill_null(value=False).to_numpy(), self.share_, 0.25)
        return np.column_stack((1 - positive, positive))

    def predict(self, rows: Any) -> Any:
        return self.classes_[self.predict_proba(rows).argmax(axis=1)]


def hinge() -> Any:
    return make_pipeline(SimpleImputer(), LinearSVC())


def broken(depth: int = 0) -> Any:
    return HistGradientBoostingClassifier(max_iter=-depth)
