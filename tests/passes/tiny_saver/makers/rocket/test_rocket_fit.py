"""Classifiers of series from end to end: what they learn, what remains of them, and what they refuse."""

import numpy as np
import pytest
import torch

from dynamic_exit.cost import count_macs
from dynamic_exit.errors import PassError
from dynamic_exit.graph import Classifier
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.session import PartSession
from dynamic_exit.passes.tiny_saver.makers import MAKERS, MakerTask, Teaching
from dynamic_exit.passes.tiny_saver.makers.rocket import RocketClassifier, RocketOptions, fit_rocket
from dynamic_exit.passes.training import TrainingRun

KINDS = ("rocket", "minirocket")
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


def waves(samples, seed, noise=0.5, classes=3, channels=2):
    """Series whose class is their frequency, at any phase."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % classes
    phase = 6.28 * torch.rand(samples, 1, generator=generator)
    wave = torch.sin(torch.linspace(0, 6.28, 60) * (2 + labels)[:, None] + phase)
    return wave[:, None] + noise * torch.randn(samples, channels, 60, generator=generator), labels


def accuracy(logits, labels):
    return float((logits.argmax(1) == labels).float().mean())


@EACH_KIND
@pytest.mark.parametrize("prune", [None, "pocket", "detach"])
def test_series_are_told_apart_with_few_kernels(kind, prune):
    series, labels = waves(60, 0)
    fitted = fit_rocket(series, labels, 3, RocketOptions(kind, 1000, prune, 0.2))
    unseen, truth = waves(90, 1)
    assert accuracy(fitted.classifier(unseen), truth) > 0.9
    assert fitted.held_out_accuracy > 0.9 and fitted.kept.any()
    features = fitted.classifier.features
    assert features.kernel_count == int(fitted.kept.sum()) and fitted.kept.all() == (prune is None)


@EACH_KIND
def test_pruning_leaves_its_share_of_the_multiply_adds(kind):
    series, labels = waves(30, 0)
    macs = {}
    for prune in (None, "pocket"):
        classifier = fit_rocket(series, labels, 3, RocketOptions(kind, 1000, prune, 0.25)).classifier
        macs[prune] = count_macs(classifier, [series[:4]]) - classifier.weight.numel()
    assert 0.2 < macs["pocket"] / macs[None] <= 0.25


@EACH_KIND
def test_onnxruntime_answers_alike_and_a_built_classifier_takes_the_state(kind):
    series, labels = waves(30, 0)
    classifier = fit_rocket(series, labels, 3, RocketOptions(kind, 100, "pocket", 0.2)).classifier
    part = export_part("made", Classifier(classifier).eval(), ["series"], "logits", (series[:2],))
    expected = classifier(series)
    for rows in (series[:1], series):
        np.testing.assert_allclose(PartSession(part)(rows).numpy(), expected[: len(rows)].numpy(), rtol=1e-3, atol=1e-3)
    operators = {node.op_type for node in part.proto.graph.node}
    assert "Conv" in operators and not operators & {"Loop", "Scan", "If"}
    shapes = [group.shape for group in classifier.features.kernel_groups]
    again = RocketClassifier.of_shapes(kind, shapes, 2, 3)
    again.load_state_dict(classifier.state_dict())
    assert torch.equal(again(series), expected)


@EACH_KIND
@pytest.mark.parametrize("prune", [None, "pocket", "detach"])
def test_probabilities_are_right_about_as_often_as_they_say(kind, prune):
    series, labels = waves(360, 0, noise=2.5)
    classifier = fit_rocket(series, labels, 3, RocketOptions(kind, 1000, prune, 0.3)).classifier
    unseen, truth = waves(900, 1, noise=2.5)
    logits = classifier(unseen)
    assert 0.45 < accuracy(logits, truth) < 0.95, "neither chance nor certainty"
    confidence = float(torch.softmax(logits, 1).max(1).values.mean())
    assert confidence == pytest.approx(accuracy(logits, truth), abs=0.05 if prune is None else 0.15)


def test_labels_need_not_cover_all_classes():
    series, labels = waves(30, 0)
    logits = fit_rocket(series, labels, 5, RocketOptions(count=200)).classifier(series)
    assert logits.shape == (30, 5) and logits.isfinite().all() and set(logits.argmax(1).tolist()) == {0, 1, 2}


def test_one_seed_makes_one_classifier():
    series, labels = waves(30, 0)
    first, same, other = (
        fit_rocket(series, labels, 3, RocketOptions(count=200, seed=seed)).classifier(series) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same) and not torch.allclose(first, other)


SERIES, LABELS = waves(12, 0)
BROKEN = SERIES.clone()
BROKEN[3, 0, 5], BROKEN[7, 1, 0] = torch.nan, torch.inf
REFUSALS = [
    ("rocket", SERIES[:, 0], LABELS, 3, "rocket takes series of shape (N, channels, length); got [12, 60]"),
    (
        "rocket", SERIES[:, :, :10], LABELS, 3,
        "rocket takes series of 11 steps or more, the length of its longest kernel; got 10 steps, so give longer "
        "series or make another saver",
    ),
    (
        "minirocket", SERIES[:, :, :8], LABELS, 3,
        "minirocket takes series of 9 steps or more, the length of its longest kernel; got 8 steps, so give longer "
        "series or make another saver",
    ),
    (
        "minirocket", BROKEN, LABELS, 3,
        "minirocket takes no missing values; 2 of 12 series hold NaN or infinity, first series 3, so fill them in or "
        "remove these series",
    ),
    (
        "rocket", SERIES, torch.ones(12, dtype=torch.int64), 3,
        "rocket needs samples of two classes or more; all 12 are of class 1",
    ),
    ("rocket", SERIES[:4], LABELS[:4], 5, "rocket got 4 samples for 5 classes; give it at least one a class"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "series", "labels", "classes", "message"), REFUSALS)
def test_what_cannot_be_fitted_is_refused(kind, series, labels, classes, message):
    with pytest.raises(PassError) as refused:
        fit_rocket(series, labels, classes, RocketOptions(kind, 200))
    assert str(refused.value) == message


@pytest.mark.parametrize(("kind", "length"), [("rocket", 11), ("minirocket", 9)])
def test_the_shortest_series_fit(kind, length):
    classifier = fit_rocket(SERIES[:, :, :length], LABELS, 3, RocketOptions(kind, 200)).classifier
    assert classifier(SERIES[:, :, :length]).isfinite().all()


def maker_of(kind, series, **options):
    maker = MAKERS.find(kind)
    return maker(maker.Options(make=kind, **options), MakerTask({"series": series}, 3, torch.nn.Identity()))


@EACH_KIND
def test_a_maker_refuses_what_has_no_features_before_anything_is_measured(kind):
    with pytest.raises(PassError, match=f"^{kind} takes no missing values; 2 of 12 series"):
        maker_of(kind, BROKEN).architectures(0.1)


@pytest.mark.parametrize(("kind", "shortest"), [("rocket", 11), ("minirocket", 9)])
def test_makers_suit_float_series_no_shorter_than_a_kernel(kind, shortest):
    suits = MAKERS.find(kind).suits
    assert suits({"x": SERIES[:, :, :shortest]}) and not suits({"x": SERIES[:, :, : shortest - 1]})
    assert not suits({"x": SERIES[:, 0]}) and not suits({"x": SERIES.long()}) and not suits({"x": SERIES, "y": SERIES})


@EACH_KIND
@pytest.mark.parametrize("prune", ["pocket", "none"])
def test_what_is_made_costs_no_more_than_what_was_measured(kind, prune):
    series, labels = waves(30, 0)
    size = {"kernels": 400} if kind == "rocket" else {"features": 1000}
    maker = maker_of(kind, series, prune=prune, **size)
    family = maker.architectures(0.5)
    teaching = Teaching({"series": series}, labels, 3, lambda name, view: torch.zeros(30, 3))
    for architecture in (family[0], family[-1]):
        measured = count_macs(maker.build(architecture), [series[:2]])
        made = maker.fit(architecture, teaching, TrainingRun(5, "a saver"))
        assert count_macs(made.model, [series[:2]]) == pytest.approx(measured, rel=0.15 if prune == "pocket" else 0.5)
        assert accuracy(made.model(series), labels) > 0.6
