"""Ridge regression, its exact leave-one-out scores, and the temperature."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifierCV

from dynamic_exit.passes.tiny_saver.makers.rocket.ridge import PENALTIES, Basis, Scale, class_targets, fit_ridge
from dynamic_exit.passes.tiny_saver.makers.rocket.temperature import fit_factor


def samples(count, width, classes=3, seed=0):
    """Classes with means that differ, and features of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    means = torch.randn(classes, width, generator=generator)
    features = means[labels] + 2 * torch.randn(count, width, generator=generator)
    return features * (1 + torch.arange(width)) + 5, labels


@pytest.mark.parametrize(("count", "width"), [(12, 30), (30, 30), (40, 7)])
def test_leave_one_out_scores_are_those_of_regressions_without_the_sample(count, width):
    features, labels = samples(count, width)
    values, targets = Scale.of(features).apply(features).double(), class_targets(labels, 3)
    for penalty in (0.01, 1.0, 100.0):
        found = fit_ridge(values, targets, [penalty])
        expected = torch.empty(count, 3, dtype=torch.float64)
        for row in range(count):
            others = torch.arange(count) != row
            x, y = values[others], targets[others]
            mean, level = x.mean(0), y.mean(0)
            product = (x - mean).T @ (x - mean) + penalty * torch.eye(width, dtype=torch.float64)
            weight = torch.linalg.solve(product, (x - mean).T @ (y - level))
            expected[row] = (values[row] - mean) @ weight + level
        assert torch.allclose(found.held_out, expected, atol=1e-4)


@pytest.mark.parametrize(("count", "width"), [(60, 200), (150, 20)])
@pytest.mark.parametrize("classes", [2, 4])
def test_penalty_and_predictions_are_those_of_scikit_learn(count, width, classes):
    features, labels = samples(2 * count, width, classes)
    scale = Scale.of(features[:count])
    values = scale.apply(features)
    found = fit_ridge(values[:count], class_targets(labels[:count], classes))
    theirs = RidgeClassifierCV(alphas=PENALTIES).fit(values[:count].double().numpy(), labels[:count].numpy())
    assert found.penalty == pytest.approx(theirs.alpha_)
    assert PENALTIES[0] < found.penalty < PENALTIES[-1]
    scores = values @ found.weight + found.bias
    decision = theirs.decision_function(values.double().numpy())
    if classes == 2:  # they fit one class alone
        decision = np.stack([-decision, decision], axis=1)
    np.testing.assert_allclose(scores.numpy(), decision, atol=1e-3)
    assert (scores.argmax(1).numpy() == theirs.predict(values.double().numpy())).all()


def test_both_decompositions_agree():
    features, labels = samples(25, 24)
    values = Scale.of(features).apply(features)
    wide = torch.cat([values, torch.zeros(25, 3)], dim=1)
    tall, dual = (fit_ridge(each, class_targets(labels, 3), [0.5], Basis.of(each)) for each in (values, wide))
    assert torch.allclose(tall.weight, dual.weight[:24], atol=1e-5)
    assert torch.allclose(tall.held_out, dual.held_out, atol=1e-6)


def test_constant_features_are_harmless():
    features, labels = samples(20, 6)
    scale = Scale.of(torch.cat([features, torch.full((20, 1), 0.1)], dim=1))
    values = scale.apply(torch.cat([features, torch.full((20, 1), 0.1)], dim=1))
    assert values[:, 6].abs().max() < 1e-6
    assert torch.linalg.vector_norm(values[:, :6], dim=0) == pytest.approx([1] * 6, abs=1e-4)
    assert fit_ridge(values, class_targets(labels, 3)).weight.isfinite().all()


def test_the_factor_makes_probabilities_that_are_right_as_often_as_they_say():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 4, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    assert fit_factor(logits / 7, labels) == pytest.approx(7, rel=0.05)


def test_the_factor_is_finite_where_all_samples_are_right():
    labels = torch.arange(30) % 3
    factor = fit_factor(class_targets(labels, 3), labels)
    confidence = torch.softmax(factor * class_targets(labels, 3), 1).max(1).values
    assert 0.9 < confidence.min() < 0.999
