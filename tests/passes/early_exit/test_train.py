"""The loop: losses and weights by hand, epochs that go on after an interruption, the best epoch, refusals."""

import math

import pytest
import tiny
import torch
from log_lines import log_lines, log_to
from torch import nn
from torch.nn import functional

from dynamic_exit.cost import node_macs
from dynamic_exit.errors import PassError
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.passes.early_exit import (
    EarlyExitStanza,
    ExitTraining,
    FrozenBackbone,
    TrainingSamples,
    attach_exits,
    choose_cuts,
    uncertainty,
)
from dynamic_exit.passes.early_exit.checkpoint import TrainingCheckpoint, load_checkpoint
from dynamic_exit.passes.early_exit.config import Training
from dynamic_exit.passes.early_exit.exit_set import ExitSet, PlacedHead, losses, sample_weights
from dynamic_exit.passes.early_exit.heads import ExitHead, register_head
from dynamic_exit.passes.early_exit.heads.base import HEADS as HEAD_REGISTRY
from dynamic_exit.passes.early_exit.train import Trainer

HEADS = ["linear", "mlp", "conv", "attention"]
LABELS = torch.tensor([0, 2, -1, 1])


@pytest.fixture(scope="module")
def backbone():
    inputs, labels = (torch.from_numpy(array) for array in tiny.samples("train"))
    program = capture(Classifier(tiny.backbone()).eval(), (inputs[:2],))
    cuts = choose_cuts(find_cuts(program, node_macs(program.graph_module, program.example_inputs)), "all", 1)
    return split(program, cuts), cuts, {program.input_names[0]: inputs}, labels


def attach(backbone, folder=None, resume=False, labels=None, heads=HEADS, seed=1, **training):
    segments, cuts, given, known = backbone
    stanza = EarlyExitStanza.model_validate({"heads": heads, "training": {"epochs": 6, **training}})
    samples = TrainingSamples(given, known if labels is None else labels)
    training = ExitTraining(stanza, seed, workdir=folder, resume=resume)
    return attach_exits(FrozenBackbone(segments, cuts, tiny.CLASSES), samples, training)


def states(exits):
    return {(name, key): value for name, (_, head) in exits.items() for key, value in head.state_dict().items()}


def assert_same(one, other):
    one, other = states(one), states(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_losses_against_torch():
    logits, final = torch.randn(2, 4, 3), torch.randn(4, 3)
    found = losses(logits, LABELS, final, 0.3)
    for mine, loss in zip(logits, found, strict=True):
        for row, label in enumerate(LABELS.tolist()):
            divergence = functional.kl_div(
                functional.log_softmax(mine[row], 0), functional.softmax(final[row], 0), reduction="sum"
            )
            cross = functional.cross_entropy(mine[row], torch.tensor(max(label, 0)))
            expected = divergence if label < 0 else 0.3 * divergence + 0.7 * cross
            torch.testing.assert_close(loss[row], expected)


def confident(*probabilities):
    """Logits of two classes whose largest probability is given."""
    return torch.tensor([[math.log(p / (1 - p)), 0.0] for p in probabilities])


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("none", None),
        # the saver is unsure of .8 and .2; the first position of the mean of (.1, .4) and (.3, .2)
        ("previous", [[0.8, 0.2], [0.8, 0.2], [0.2, 0.3], [0.5, 0.5]]),
        ("reach", [[0.8, 0.2], [0.8, 0.2], [0.2, 0.2], [0.2, 0.2]]),
    ],
)
def test_weights_by_hand(weighting, expected):
    logits = torch.stack([confident(0.9, 0.6), confident(0.7, 0.8), confident(0.5, 0.5), confident(0.9, 0.9)])
    groups = [[0, 1], [2], [3]]
    found = sample_weights(logits, groups, torch.tensor([0.8, 0.2]), Training(weighting=weighting))
    if expected is None:
        assert found is None
        return
    raw = torch.tensor(expected) + 0.05
    torch.testing.assert_close(found, raw / raw.mean(1, keepdim=True))


def test_how_unsure_the_surest_saver_is():
    assert uncertainty([]) is None
    found = uncertainty([confident(0.9, 0.6), confident(0.7, 0.8)])
    torch.testing.assert_close(found, torch.tensor([0.1, 0.2]))


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_training_goes_on_after_an_interruption_bit_by_bit(backbone, tmp_path, cache):
    options = {"cache": cache, "augment": "flip_crop", "weighting": "reach"}
    options |= {"views": 2} if cache == "disk" else {}
    whole = attach(backbone, **options)

    class Stopped(Exception):
        pass

    def stop_after_three(line):
        if "epoch 3 of 6" in line:
            raise Stopped

    with pytest.raises(Stopped), log_to(stop_after_three):
        attach(backbone, tmp_path, **options)
    with log_lines() as said:
        resumed = attach(backbone, tmp_path, resume=True, **options)
    assert "exits: training continues after epoch 3" in said
    assert_same(whole, resumed)
    assert_same(whole, attach(backbone, tmp_path, resume=True, **options))  # nothing is left to train


def test_without_resume_a_checkpoint_is_not_looked_at(backbone, tmp_path):
    attach(backbone, tmp_path, seed=2)
    assert_same(attach(backbone), attach(backbone, tmp_path))


@pytest.mark.parametrize("change", ["seed", "training", "heads", "labels", "backbone", "damage"])
def test_a_checkpoint_of_another_training_is_refused(backbone, tmp_path, change):
    attach(backbone, tmp_path, heads=["linear"], epochs=1)
    changed = {"heads": ["linear"], "epochs": 1}
    reason = "was made with other heads, settings, data or backbone; remove it, or run without resume$"
    if change == "seed":
        changed["seed"] = 2
    elif change == "training":
        changed["epochs"] = 2
    elif change == "heads":
        changed["heads"] = ["mlp"]
    elif change == "labels":
        changed["labels"] = backbone[3].flip(0)
    elif change == "damage":
        (tmp_path / "exits.safetensors").write_bytes(b"nothing")
        reason = "cannot be read; remove it, or run without resume$"
    else:
        segments = [nn.Sequential(backbone[0][0], nn.Softplus()), *backbone[0][1:]]
        segments[0].input_names = backbone[0][0].input_names
        backbone = (segments, *backbone[1:])
    with pytest.raises(PassError, match=f"^checkpoint '.*exits.safetensors' {reason}"):
        attach(backbone, tmp_path, resume=True, **changed)


HEAD = """
from torch import nn
from dynamic_exit.passes.early_exit.heads import ExitHead, GlobalPool
from head_steps import step

class Own(ExitHead):
    def __init__(self, layout, classes):
        super().__init__(GlobalPool(layout))
        self.layer = nn.Linear(self.features.channels, classes)

    def answer(self, features):
        return step(self.layer(features))
"""


def test_a_checkpoint_of_other_code_of_a_head_is_refused(backbone, tmp_path, monkeypatch):
    """Also where what a user's head imports has changed."""
    (tmp_path / "own_head.py").write_text(HEAD)
    (tmp_path / "head_steps.py").write_text("def step(x):\n    return x * 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import own_head

    monkeypatch.setattr(HEAD_REGISTRY, "_entries", dict(HEAD_REGISTRY._entries))
    register_head("own")(own_head.Own)
    work = tmp_path / "work"
    work.mkdir()
    trained = attach(backbone, work, heads=["own"], epochs=1)
    assert_same(trained, attach(backbone, work, resume=True, heads=["own"], epochs=1))
    (tmp_path / "head_steps.py").write_text("def step(x):\n    return x * 1.5\n")
    with pytest.raises(PassError, match="was made with other heads"):
        attach(backbone, work, resume=True, heads=["own"], epochs=1)


def test_a_checkpoint_holds_plain_tensors_and_says_its_epoch(backbone, tmp_path):
    attach(backbone, tmp_path, heads=["linear"], epochs=2)
    tensors, state = load_checkpoint(tmp_path / "exits.safetensors")
    assert state["epoch"] == 2
    assert {name.split(".")[0] for name in tensors} == {"model", "best", "optimizer", "probe"}
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["exits.safetensors", "features.f16", "features.json"]


class Scripted(ExitHead):
    """A head of two weights for samples of class 0 and 1, to see what the loop does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def answer(self, features):
        return features * self.weight


class Given:
    """Features that are given."""

    def __init__(self, values, logits):
        self.values, self.logits, self.part, self.epochs = values, logits, range(len(values)), []

    def batch(self, rows, epoch):
        self.epochs.append(epoch)
        return {(0, "identity"): self.values[rows]}, self.logits[rows]

    def probe(self):
        return self.values[:1]


def scripted(options, values=None, **given):
    labels = torch.arange(40) % 2
    values = nn.functional.one_hot(labels, 2).float() if values is None else values
    head = Scripted()
    training = ExitTraining(EarlyExitStanza(training=options), device="cpu")
    exits = ExitSet({"a:scripted": PlacedHead(head, 0)})
    trainer = Trainer(exits, Given(values, values), labels, training, **given)
    return head, trainer


def test_the_rate_rises_in_a_line_and_falls_in_half_a_cosine():
    _, trainer = scripted(Training(epochs=5, batch_size=4, learning_rate=1.0, warmup=0.2, validation=0.0))
    rates = [trainer._rate(step) for step in range(50)]
    assert trainer.steps == 10
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[30] == pytest.approx(0.5)
    assert 0 < rates[49] < 0.01


def test_samples_held_out_are_not_trained_on_and_all_others_are_in_every_epoch():
    _, trainer = scripted(Training(epochs=1, batch_size=8, validation=0.25))
    assert len(trainer.validation) == 10
    assert sorted([*trainer.validation.tolist(), *trainer.training.tolist()]) == list(range(40))
    seen = []
    batch = trainer.features.batch

    def spy(rows, epoch):
        seen.append(rows)
        return batch(rows, epoch)

    trainer.features.batch = spy
    trainer.run()
    first, *steps, last = seen  # a look at the features, the steps, the samples held out
    assert torch.equal(torch.cat(steps).sort().values, trainer.training.sort().values)
    assert torch.equal(last, trainer.validation)


def test_the_best_epoch_is_kept_and_training_stops_when_none_gets_better():
    """Samples held out say the opposite of those that are trained on: every epoch makes it worse."""
    labels = torch.arange(40) % 2
    values = nn.functional.one_hot(labels, 2).float()
    options = Training(epochs=50, batch_size=8, validation=0.25, patience=3, distillation=0.0, warmup=0.0)
    head, trainer = scripted(options, values)
    values[trainer.validation] = values[trainer.validation].flip(1)
    kept = []
    validate = trainer._validate

    def spy():
        kept.append(head.weight.detach().clone())
        return validate()

    trainer._validate = spy
    trainer.run()
    assert trainer.epoch == 4
    assert trainer.best_epoch == [0]
    assert torch.equal(head.weight, kept[0])


def test_without_samples_held_out_the_last_epoch_is_kept():
    head, trainer = scripted(Training(epochs=3, batch_size=8, validation=0.0))
    trainer.run()
    assert torch.equal(head.weight, trainer.best_states[0]["weight"])
    assert trainer.epoch == 3


def test_a_loss_without_end_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    labels = torch.arange(40) % 2
    values = nn.functional.one_hot(labels, 2).float()
    checkpoint = TrainingCheckpoint(tmp_path / "exits.safetensors", {})
    head, trainer = scripted(Training(epochs=5, validation=0.0), values, checkpoint=checkpoint)
    batch = trainer.features.batch

    def broken(rows, epoch):
        features, logits = batch(rows, epoch)
        return {key: value * (math.nan if epoch == 2 else 1.0) for key, value in features.items()}, logits

    trainer.features.batch = broken
    with pytest.raises(PassError) as refused:
        trainer.run()
    assert str(refused.value) == (
        "the loss of exit head 'a:scripted' became nan in epoch 3; lower `learning_rate`, the checkpoint of epoch 2 "
        "is kept"
    )
    tensors, state = load_checkpoint(tmp_path / "exits.safetensors")
    assert state["epoch"] == 2
    assert torch.isfinite(tensors["best.0.weight"]).all()


def test_a_rate_that_explodes_is_refused_by_head_and_epoch(backbone):
    with pytest.raises(PassError, match=r"^the loss of exit head 'block\d:\w+' became (nan|-?inf) in epoch \d+; lower"):
        attach(backbone, learning_rate=1e30)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (torch.full((192,), 2), "all labels of the training split are class 2; exit heads need two classes or more"),
        (torch.tensor([1]), "exit heads need at least 2 training samples; got 1"),
    ],
)
def test_refusals_of_the_split(backbone, labels, sentence):
    with pytest.raises(PassError) as refused:
        attach(backbone, labels=labels)
    assert str(refused.value) == sentence


def test_weighting_changes_what_is_learnt(backbone):
    plain, weighted = (attach(backbone, heads=["linear"], weighting=weighting) for weighting in ("none", "reach"))
    assert all(torch.isfinite(value).all() for value in states(weighted).values())
    first, second = states(plain), states(weighted)
    # no stage comes before the first position: there nothing changes
    assert all(torch.equal(first[key], second[key]) for key in first if key[0].startswith("block1"))
    assert any(not torch.equal(first[key], second[key]) for key in first if key[0].startswith("block2"))


def test_heads_do_not_disturb_each_other(backbone):
    """Each is trained as if it were alone."""
    alone, among = attach(backbone, heads=["conv"]), attach(backbone)
    among = {name: pair for name, pair in among.items() if name.endswith(":conv")}
    assert_same(alone, among)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
def test_a_gpu_is_used_where_there_is_one(backbone):
    exits = attach(backbone)
    assert all(value.device.type == "cpu" for value in states(exits).values())
