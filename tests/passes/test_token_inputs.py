"""Heads and savers on token indices under a mask."""

import pytest
import torch
from torch import nn

from dynamic_exit.graph import Cut
from dynamic_exit.passes import EarlyExitStanza
from dynamic_exit.passes.early_exit import ExitTraining, FrozenBackbone, TrainingSamples, attach_exits
from dynamic_exit.passes.tiny_saver import FineTuneStanza, TeacherSamples, fine_tune


class Step(nn.Module):
    def __init__(self, input_names, last):
        super().__init__()
        self.input_names, self.last = input_names, last
        self.layer = nn.Linear(4, 3 if last else 4)

    def forward(self, first, mask=None):
        made = self.layer(first)
        return made.mean(1) if self.last else made


@pytest.mark.parametrize(("length", "masked"), [("length", True), (6, True), (5, False)])
def test_a_head_has_the_mask_although_the_next_segment_does_not_take_it(length, masked):
    """Of tokens that are as many as the mask's; of others it is no mask."""
    torch.manual_seed(0)
    steps = [Step(("x", "attention_mask"), False), Step(("hidden",), False), Step(("hidden",), True)]
    inputs = {"x": torch.randn(40, 6, 4), "attention_mask": (torch.rand(40, 6) < 0.7).long()}
    cuts = [Cut(index, f"cut{index}", (length, 4), share, f"n{index}") for index, share in enumerate((0.3, 0.6))]
    stanza = EarlyExitStanza.model_validate({"training": {"epochs": 1}})
    if not masked:
        inputs["x"] = inputs["x"][:, :5]
    backbone = FrozenBackbone([step.eval() for step in steps], cuts, 3)
    exits = attach_exits(backbone, TrainingSamples(inputs, torch.arange(40) % 3), ExitTraining(stanza))
    expected = ("hidden", "attention_mask") if masked else ("hidden",)
    assert {head.input_names for _, head in exits.values()} == {expected}


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(12, 3)

    def forward(self, input_ids, attention_mask):
        return (self.words(input_ids) * attention_mask.unsqueeze(2)).sum(1)


def test_a_saver_of_token_indices_is_trained():
    torch.manual_seed(0)
    ids = torch.randint(0, 12, (300, 5))
    mask = (torch.arange(5) < torch.randint(1, 6, (300, 1))).long()
    votes = torch.zeros(300, 3).scatter_add_(1, ids % 3, mask.float())
    labels = votes.argmax(1)
    bag = Bag()
    before = (bag(ids, mask).argmax(1) == labels).float().mean()
    options = FineTuneStanza(epochs=20, learning_rate=0.05)
    tuned = fine_tune(bag, TeacherSamples([ids, mask], labels, torch.zeros(300, 3)), options, 0)
    assert before < 0.6
    assert (tuned(ids, mask).argmax(1) == labels).float().mean() > 0.85
    ids[mask == 0] = 7
    assert (tuned(ids, mask).argmax(1) == labels).float().mean() > 0.85
