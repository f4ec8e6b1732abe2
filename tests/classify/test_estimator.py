"""The estimator in the hands of scikit-learn."""

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import metavision
from metavision.classify.heads import KINDS
from metavision.errors import InputError

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]


@pytest.mark.parametrize("head", KINDS)
def test_it_learns_under_cross_validation_in_a_pipeline(head: str) -> None:
    made = make_pipeline(StandardScaler(), metavision.FewShotClassifier(head))
    assert is_classifier(made)
    assert cross_val_score(made, X, NAMES, cv=3).mean() > 0.75


def test_a_search_finds_settings() -> None:
    search = GridSearchCV(metavision.FewShotClassifier(), {"head": ["prototypes", "ridge"]}, cv=3).fit(X, Y)
    assert search.best_params_["head"] in KINDS


def test_conventions() -> None:
    made = metavision.FewShotClassifier("ridge", penalty=0.3)
    assert clone(made).get_params() == made.get_params() == {"head": "ridge", "penalty": 0.3}
    assert made.fit(X, NAMES) is made
    assert made.classes_.tolist() == sorted(set(NAMES)) and made.n_features_in_ == 4
    p = made.predict_proba(X)
    np.testing.assert_allclose(p.sum(1), 1)
    assert (made.classes_[p.argmax(1)] == made.predict(X)).all()
    assert made.score(X, NAMES) == (made.predict(X) == NAMES).mean()
    assert repr(made) == "FewShotClassifier(head='ridge', penalty=0.3)"


def test_bad_input() -> None:
    made = metavision.FewShotClassifier()
    with pytest.raises(InputError, match="not fitted"):
        made.predict(X)
    for x, y, message in [
        (X, Y[:3], "y is of shape"),
        (X[0], Y, "features \\(n, d\\) are needed"),
        (X, np.zeros(150), "1 class; at least 2"),
        (np.where(X > 7, np.nan, X), Y, "NaN or infinity"),
    ]:
        with pytest.raises(InputError, match=message):
            made.fit(x, y)
    with pytest.raises(InputError, match="did you mean ridge"):
        metavision.FewShotClassifier("rigde").fit(X, Y)
    with pytest.raises(InputError, match="X has 2 features"):
        made.fit(X, Y).predict(X[:, :2])
    with pytest.raises(InputError, match="no parameter heads"):
        made.set_params(heads="ridge")
