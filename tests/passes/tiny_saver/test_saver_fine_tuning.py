import copy
import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from dynamic_exit.core import distributed
from dynamic_exit.errors import PassError
from dynamic_exit.passes.augment import make_augment
from dynamic_exit.passes.tiny_saver import FineTuneStanza, TeacherSamples, fine_tune
from dynamic_exit.passes.tiny_saver.fine_tuning import saver_loss


def stanza(**options):
    return FineTuneStanza(**{"epochs": 3, "loss": "gatekeeper", "distillation": 0.0, **options})


def noisy_task(count, seed):
    """Two inputs, two classes told apart by the first; where the second is positive a third of labels are wrong."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(count, 2, generator=generator) * 2 - 1
    flipped = (inputs[:, 1] > 0) & (torch.rand(count, generator=generator) < 1 / 3)
    labels = ((inputs[:, 0] > 0) ^ flipped).long()
    return inputs, labels


def teacher(labels, classes=2):
    return 5.0 * nn.functional.one_hot(labels, classes).float()


def network(*more):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), *more, nn.Linear(16, 2)).eval()


def overconfident():
    """Has learned from labels without noise, so that it is as sure where a third are wrong as elsewhere."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    inputs, _ = noisy_task(500, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(10):
        loss = nn.functional.cross_entropy(model(inputs), (inputs[:, 0] > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def probabilities(model, inputs):
    with torch.no_grad():
        return model(inputs).softmax(dim=1)


def auroc(model, inputs, labels):
    """Share of pairs of a right and a wrong answer in which the right one is surer."""
    confidence, answers = probabilities(model, inputs).max(dim=1)
    right = answers == labels
    assert 0 < right.sum() < len(right)
    ahead = confidence[right][:, None] - confidence[~right][None, :]
    return ((ahead > 0).float() + 0.5 * (ahead == 0).float()).mean().item()


# one right and one wrong answer of two classes, each with 0.8 on its class
LOGITS = torch.tensor([[0.8, 0.2], [0.8, 0.2]]).log()
TRUTH = torch.tensor([0, 1])
FROM_UNIFORM = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)


def test_gatekeeper_by_hand():
    loss = saver_loss(LOGITS, TRUTH, LOGITS, stanza(alpha=0.3))
    assert loss.item() == pytest.approx((0.3 * -math.log(0.8) + 0.7 * FROM_UNIFORM) / 2, rel=1e-5)


def test_the_other_loss_is_cross_entropy_everywhere_by_hand():
    loss = saver_loss(LOGITS, TRUTH, LOGITS, stanza(loss="distillation"))
    assert loss.item() == pytest.approx((-math.log(0.8) - math.log(0.2)) / 2, rel=1e-5)


def test_following_the_backbone_by_hand():
    """At temperature 2 the odds 4 : 1 become 2 : 1, and 16 : 1 become 4 : 1."""
    backbone = torch.tensor([[16.0, 1.0], [16.0, 1.0]]).log()
    divergence = 0.8 * math.log(0.8 / (2 / 3)) + 0.2 * math.log(0.2 / (1 / 3))
    loss = saver_loss(LOGITS, TRUTH, backbone, stanza(loss="distillation", distillation=1, temperature=2))
    assert loss.item() == pytest.approx(4 * divergence, rel=1e-5)
    half = saver_loss(LOGITS, TRUTH, backbone, stanza(alpha=0.3, distillation=0.5, temperature=2))
    own = saver_loss(LOGITS, TRUTH, backbone, stanza(alpha=0.3))
    assert half.item() == pytest.approx(0.5 * own.item() + 2 * divergence, rel=1e-5)


def test_a_wrong_answer_is_pulled_to_uniform_and_not_to_its_label():
    logits = torch.tensor([[2.0, -1.0, 0.0]], requires_grad=True)
    saver_loss(logits, torch.tensor([1]), logits.detach(), stanza()).backward()
    uniform = logits.detach() - logits.detach().mean()
    assert (logits.grad * uniform).sum() > 0
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1]
    level = torch.zeros(1, 3, requires_grad=True)  # argmax is class 0
    saver_loss(level, torch.tensor([1]), level.detach(), stanza()).backward()
    torch.testing.assert_close(level.grad, torch.zeros(1, 3))


@pytest.mark.parametrize("options", [{"alpha": 0.1}, {"alpha": 0.3}, {"loss": "distillation"}])
def test_fine_tuning_separates_right_from_wrong_on_held_out_samples(options):
    inputs, labels = noisy_task(1000, seed=1)
    held_out = noisy_task(2000, seed=2)
    model = overconfident()
    tuned = fine_tune(
        model, TeacherSamples(inputs, labels, teacher(labels)), stanza(epochs=20, learning_rate=0.01, **options), seed=0
    )
    before, after = auroc(model, *held_out), auroc(tuned, *held_out)
    assert before < 0.55
    assert after > before + 0.1


def test_a_smaller_alpha_takes_more_confidence_from_where_answers_are_wrong():
    inputs, labels = noisy_task(1000, seed=1)
    noisy = inputs[inputs[:, 1] > 0]

    def surety(alpha):
        options = stanza(epochs=10, learning_rate=0.01, alpha=alpha)
        tuned = fine_tune(overconfident(), TeacherSamples(inputs, labels, teacher(labels)), options, seed=0)
        return probabilities(tuned, noisy).amax(dim=1).mean().item()

    assert surety(0.1) < surety(0.9) - 0.1


@pytest.mark.parametrize("tiny_type", [torch.uint8, torch.float32])
def test_the_given_model_stays_bit_for_bit_and_the_copy_is_trained(tiny_type):
    model = network(nn.Dropout(0.5))
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    inputs = (torch.arange(128).reshape(64, 2) % 7).to(tiny_type)
    labels = torch.arange(64) % 2
    tuned = fine_tune(model, TeacherSamples(inputs, labels, teacher(labels)), stanza(), seed=0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model.training and not model[0].weight.requires_grad and model[-1].weight.grad is None
    assert not any(module.training for module in tuned.modules())
    assert all(not torch.equal(value, before[key]) for key, value in tuned.state_dict().items())


def test_the_seed_decides_everything_and_no_other_randomness_is_touched():
    inputs, labels = noisy_task(200, seed=3)
    model = network(nn.Dropout(0.5))

    def weights(seed):
        tuned = fine_tune(model, TeacherSamples(inputs, labels, teacher(labels)), stanza(), seed=seed)
        return torch.cat([value.flatten().float() for value in tuned.state_dict().values()])

    first = weights(0)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = weights(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, weights(1))


def test_without_labels_the_backbone_says_what_is_right():
    inputs, labels = noisy_task(200, seed=3)
    unknown = torch.full_like(labels, -1)
    by_labels = fine_tune(network(), TeacherSamples(inputs, labels, teacher(labels)), stanza(), seed=0)
    by_backbone = fine_tune(network(), TeacherSamples(inputs, unknown, teacher(labels)), stanza(), seed=0)
    assert all(map(torch.equal, by_labels.state_dict().values(), by_backbone.state_dict().values()))


def test_each_epoch_is_logged(log_lines):
    inputs, labels = noisy_task(100, seed=3)
    fine_tune(network(), TeacherSamples(inputs, labels, teacher(labels)), stanza(epochs=2), 0, log_prefix="net: ")
    assert [line.rpartition(": ")[0] for line in log_lines] == ["net: epoch 1 of 2", "net: epoch 2 of 2"]


def test_augmented_images_are_trained_on_afresh_in_every_epoch():
    """The bright pixel of one 12 x 12 image is met wherever 4 pixels of motion and a mirror take it."""
    met = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(144, 2)

        def forward(self, x):
            assert x.dtype == torch.float32
            met.extend(tuple(place) for place in (x[:, 0] == 200).nonzero()[:, 1:].tolist())
            return self.linear(x.flatten(1) / 255)

    images = torch.zeros(4, 1, 12, 12, dtype=torch.uint8)
    images[..., 4, 5] = 200
    labels = torch.arange(4) % 2
    seen = []
    for augment in ("none", "flip_crop"):
        met.clear()
        # a copy of the module appends to the same list
        fine_tune(
            Watching(), TeacherSamples(images, labels, teacher(labels)), stanza(epochs=50, augment=augment), seed=0
        )
        assert len(met) == 200
        seen.append(set(met))
    assert seen[0] == {(4, 5)}
    assert seen[1] <= {(row, column) for row in range(9) for column in range(1, 11)}
    assert len(seen[1]) > 50


def test_turned_images_are_those_of_the_augmentation():
    """Each epoch trains on the view of its own number, whole numbers kept."""
    met = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 2)

        def forward(self, x):
            met.append(x.clone())
            return self.linear(x.flatten(1) / 255)

    images = torch.randint(256, (4, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(4) % 2
    fine_tune(Watching(), TeacherSamples(images, labels, teacher(labels)), stanza(epochs=3, augment="affine"), seed=5)
    augment, rows = make_augment("affine", 4, 5), torch.arange(4)
    for epoch, batch in enumerate(met, start=1):
        views = augment(images, rows, epoch).float()
        assert sorted(batch.flatten(1).tolist()) == sorted(views.flatten(1).tolist())
    assert len(met) == 3


def test_a_loss_that_is_not_finite_names_the_epoch():
    inputs, labels = noisy_task(64, seed=3)
    inputs[5, 0] = math.nan
    with pytest.raises(PassError, match="the loss of a saver became nan in epoch 1; lower"):
        fine_tune(network(), TeacherSamples(inputs, labels, teacher(labels)), stanza(), seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.zeros(7, dtype=torch.int64)}, "got 8, 7 and 8"),
        ({"labels": torch.full((8,), 2)}, "label 2 is not one of the backbone's 2 classes"),
        ({"teacher_logits": torch.full((8, 2), math.inf)}, "hold NaN or infinity"),
        ({"options": stanza(augment="flip_crop")}, r"needs images \(N, C, H, W\); got inputs"),
    ],
)
def test_samples_that_do_not_fit_are_refused(change, message):
    samples = {
        "inputs": torch.zeros(8, 2),
        "labels": torch.zeros(8, dtype=torch.int64),
        "teacher_logits": torch.zeros(8, 2),
    }
    samples |= {key: value for key, value in change.items() if key in samples}
    with pytest.raises(PassError, match=message):
        fine_tune(network(), TeacherSamples(**samples), change.get("options", stanza()), seed=0)


def test_one_sample_is_refused():
    one = torch.zeros(1, 2)
    with pytest.raises(PassError, match="at least 2 training samples; got 1"):
        fine_tune(network(), TeacherSamples(one, torch.zeros(1, dtype=torch.int64), one), stanza(), seed=0)


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0}, {"alpha": 1}, {"distillation": 1.1}, {"temperature": 0}, {"epochs": 0}, {"loss": "hinge"}]
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        FineTuneStanza(**wrong)


class Stubborn(nn.Module):
    """Makes a tensor on the CPU wherever its input is."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return torch.cat([self.layer(x), torch.zeros(len(x), 0)], dim=1)


def test_a_model_that_fails_on_the_gpu_is_trained_where_it_is(monkeypatch, log_lines):
    """The device `meta` stands for a GPU."""
    inputs, labels = noisy_task(200, seed=3)
    torch.manual_seed(0)
    model, samples = Stubborn(), TeacherSamples(inputs, labels, teacher(labels))
    known = fine_tune(model, samples, stanza(), seed=0)
    monkeypatch.setattr(distributed, "device", lambda: torch.device("meta"))
    found = fine_tune(model, samples, stanza(), seed=0)
    assert all(map(torch.equal, known.state_dict().values(), found.state_dict().values()))
    assert any(line.startswith("Stubborn fails on meta and is trained on cpu: ") for line in log_lines)


def test_a_model_is_trained_on_the_gpu_if_there_is_one(monkeypatch):
    """The device `meta`, which has no values, stands for a GPU: there the first loss cannot be read."""
    inputs, labels = noisy_task(200, seed=3)
    seen = []
    model = network()
    model.register_forward_hook(lambda _, given, answer: seen.append(answer.device.type))
    monkeypatch.setattr(distributed, "device", lambda: torch.device("meta"))
    with pytest.raises((RuntimeError, NotImplementedError)):
        fine_tune(model, TeacherSamples(inputs, labels, teacher(labels)), stanza(), seed=0)
    assert seen and set(seen) == {"meta"}
