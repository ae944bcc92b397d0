"""How long savers are trained, in which precision, and which epoch of a training is kept."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from dynamic_exit.passes.tiny_saver.makers import MAKERS, MakerTask, Teaching
from dynamic_exit.passes.tiny_saver.makers.stanza import TrainedMakerStanza
from dynamic_exit.passes.tiny_saver.makers.trained import _BestEpoch
from dynamic_exit.passes.training import TrainingRun


@pytest.mark.parametrize(
    ("samples", "options", "epochs", "views", "patience", "steps"),
    [
        # nine tenths are trained on, in batches of 128 or all at once
        (50_000, {}, 20, 4, 10, 20 * 351),
        (2_000, {}, 43, 8, 10, 43 * 14),
        (900, {}, 100, 20, 25, 100 * 6),
        (100, {}, 200, 32, 50, 200),
        (900, {"epochs": 3}, 3, 3, 10, 3 * 6),
        (900, {"epochs": 40, "views": 2, "patience": 1, "batch_size": 64, "validation": 0.5}, 40, 2, 1, 40 * 7),
        (900, {"views": 300}, 100, 100, 25, 100 * 6),
    ],
)
def test_small_splits_are_passed_over_more_often(samples, options, epochs, views, patience, steps):
    found = TrainedMakerStanza(make="convnet", **options).schedule(samples)
    assert (found.epochs, found.views, found.patience, found.steps) == (epochs, views, patience, steps)


class Scripted(nn.Module):
    """Answers two classes for every input: the sign of its value times a factor, which is the model's state."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.0))

    def forward(self, values):
        return torch.stack([-values[:, 0], values[:, 0]], dim=1) * self.factor


def test_of_epochs_that_are_right_as_often_the_surest_is_kept():
    values = torch.tensor([[1.0], [2.0], [-1.0], [-3.0]])
    teaching = SimpleNamespace(inputs={"x": values}, truth=torch.tensor([1, 1, 0, 0]))
    maker = SimpleNamespace(input_names=("x",), schedule=SimpleNamespace(epochs=9, patience=3))
    best, model = _BestEpoch(maker, teaching, torch.arange(4), TrainingRun(0, "a saver")), Scripted()
    stopped = []
    # wrong everywhere, right everywhere, right and surer, right and less sure three times: then patience is over
    for epoch, factor in enumerate([-1.0, 0.5, 2.0, 1.0, 1.0, 1.0], start=1):
        model.factor.data.fill_(factor)
        stopped.append(best(epoch, model))
    best.restore(model)
    assert (float(model.factor), best.epoch, best.best[0]) == (2.0, 3, 1.0)
    assert stopped == [False] * 5 + [True]


def brightest_quadrant(precision: bool | None, monkeypatch) -> nn.Module:
    """Train a saver to tell which quadrant of an image is bright, on a device that is said to be fast in bfloat16."""
    monkeypatch.setattr("dynamic_exit.passes.training.is_fast_in_bfloat16", lambda device: True)
    labels = torch.arange(64) % 4
    images = torch.zeros(64, 1, 8, 8)
    for image, label in zip(images, labels, strict=True):
        image[0, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] = 1.0
    kind = MAKERS.find("convnet")
    stanza = kind.Options(make="convnet", epochs=20, batch_size=16, augment="none", mixed_precision=precision)
    maker = kind(stanza, MakerTask({"x": images}, 4, nn.Identity()))
    teaching = Teaching({"x": images}, labels, 4, lambda name, view: 9.0 * functional.one_hot(labels, 4).float())
    smallest = next(iter(maker.architectures(0.1)))
    model = maker.fit(smallest, teaching, TrainingRun(0, "a saver")).model
    with torch.no_grad():
        assert (model(images).argmax(dim=1) == labels).float().mean() > 0.9
    return model


def test_mixed_precision_teaches_as_much_and_leaves_weights_as_they_are_kept(monkeypatch):
    exact, mixed = (brightest_quadrant(precision, monkeypatch).state_dict() for precision in (None, True))
    assert any(not torch.equal(exact[name], mixed[name]) for name in exact), "products were rounded to bfloat16"
    assert all(tensor.dtype == exact[name].dtype and tensor.is_contiguous() for name, tensor in mixed.items())


@pytest.mark.parametrize(
    ("width", "wanted", "mixed"),
    [(2_500, None, True), (2_499, None, False), (2_500, False, False), (1, True, True)],
)
def test_large_savers_are_trained_in_mixed_precision(width, wanted, mixed):
    kind = MAKERS.find("convnet")
    maker = kind(
        kind.Options(make="convnet", mixed_precision=wanted), MakerTask({"x": torch.zeros(2, 3, 8, 8)}, 2, None)
    )
    # 2,000 times 2,500 are the five million multiply-adds from which it pays
    assert maker._mixes_precisions(nn.Linear(2_000, width), (torch.zeros(2, 2_000),)) is mixed


class Watched(nn.Module):
    """Answers two classes, and keeps the largest pixel that it was trained on."""

    def __init__(self):
        super().__init__()
        self.factor, self.largest = nn.Parameter(torch.ones(2)), 0.0

    def forward(self, images):
        if self.training:
            self.largest = max(self.largest, float(images.max()))
        return images.mean(dim=(1, 2, 3))[:, None] * self.factor


def test_no_model_is_trained_on_samples_that_choose_its_best_epoch():
    """Neither alone nor mixed into others: held-out samples are white here, all others black."""
    kind = MAKERS.find("convnet")
    maker = kind(kind.Options(make="convnet", epochs=8, validation=0.25, augment="none"), None)
    maker.build, maker.prepare = lambda architecture: Watched(), lambda model, inputs: None
    maker.task = MakerTask({"x": torch.zeros(80, 1, 8, 8)}, 2, nn.Identity())
    run = TrainingRun(5, "a saver")
    held_out = torch.randperm(80, generator=torch.Generator().manual_seed(run.seed))[:20]
    maker.task.inputs["x"][held_out] = 255.0
    teaching = Teaching(maker.task.inputs, torch.arange(80) % 2, 2, lambda name, view: torch.zeros(80, 2))
    assert maker.fit({}, teaching, run).model.largest == 0
