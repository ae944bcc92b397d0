"""How long savers are trained, and which epoch of a training is kept."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

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
