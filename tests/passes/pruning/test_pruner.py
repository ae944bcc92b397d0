import copy

import pytest
import tiny
import torch
from neural_compressor.torch.quantization import RTNConfig, quantize
from pydantic import ValidationError
from torch import nn

from dynamic_exit import EarlyExitConfig, compress
from dynamic_exit.cost import count_macs
from dynamic_exit.errors import PassError
from dynamic_exit.passes import PruningStanza, explain
from dynamic_exit.passes.pruning import prune


@pytest.fixture
def train():
    return tuple(torch.from_numpy(array) for array in tiny.samples("train"))


FINE_TUNE = ("learning_rate", "augment")


def stanza(ratio=0.5, epochs=0, **more):
    training = {key: more.pop(key) for key in FINE_TUNE if key in more}
    return PruningStanza(ratio=ratio, fine_tune={"epochs": epochs, **training}, **more)


def loss(model, train):
    with torch.no_grad():
        return nn.functional.cross_entropy(model(train[0]), train[1]).item()


def test_half_of_the_channels_of_every_layer_but_the_last_go(train):
    model = tiny.backbone()
    pruned = prune(model, (train[0][:2],), stanza(0.5))
    channels = [m.out_channels for m in pruned.modules() if isinstance(m, nn.Conv2d)]
    assert channels == [1, 2, 4, 4]
    (linear,) = (m for m in pruned.modules() if isinstance(m, nn.Linear))
    assert (linear.in_features, linear.out_features) == (16, tiny.CLASSES)
    assert pruned(train[0]).shape == (len(train[0]), tiny.CLASSES)
    assert count_macs(pruned, (train[0][:2],)) == 36 * 9 * (1 * 1 + 1 * 2 + 2 * 4 + 4 * 4) + 16 * 3


def test_the_smallest_channels_go():
    """By hand: the outputs of channels that are all zero are the same with and without them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    with torch.no_grad():
        for row in (1, 2):
            model[0].weight[row] = model[0].bias[row] = 0
            model[2].weight[:, row] = 0
    x = torch.randn(6, 5)
    pruned = prune(model, (x,), stanza(0.5))
    assert pruned[0].out_features == 2
    torch.testing.assert_close(pruned(x), model(x))


def test_the_given_model_stays_bit_for_bit(train):
    model = tiny.backbone()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    prune(model, (train[0][:2],), stanza(0.3, epochs=1), train)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_fine_tuning_lowers_the_loss_and_follows_the_seed(train):
    model = tiny.backbone()
    raw = prune(model, (train[0][:2],), stanza(0.5))
    tuned, again, other = (
        prune(model, (train[0][:2],), stanza(0.5, epochs=6, learning_rate=0.01), train, seed) for seed in (0, 0, 1)
    )
    assert loss(tuned, train) < 0.8 * loss(raw, train)
    assert not tuned.training
    for key, value in tuned.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert not torch.equal(next(tuned.parameters()), next(other.parameters()))


def test_ratio_zero_changes_nothing(train):
    model = tiny.backbone()
    assert torch.equal(prune(model, (train[0][:2],), stanza(0.0))(train[0]), model(train[0]))


def test_a_convolution_that_gives_the_classes_is_protected(train):
    """Its outputs are the answer, whatever averages them."""
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pruned = prune(model, (train[0][:2],), stanza(0.5))
    assert [layer.out_channels for layer in pruned if isinstance(layer, nn.Conv2d)] == [3, 3]


def test_a_layer_as_wide_as_the_classes_is_pruned_unless_it_gives_them():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    pruned = prune(model, (torch.randn(2, 5),), stanza(0.5))
    assert [layer.out_features for layer in pruned if isinstance(layer, nn.Linear)] == [2, 2, 4]


def test_named_layers_stay_whole(train):
    pruned = prune(tiny.backbone(), (train[0][:2],), stanza(0.5, ignored_layers=["block2", "block4.0"]))
    assert [m.out_channels for m in pruned.modules() if isinstance(m, nn.Conv2d)] == [1, 4, 4, 8]


def test_flags_of_parameters_are_kept(train):
    model = tiny.backbone()
    model.block1.requires_grad_(False)
    flags = [parameter.requires_grad for parameter in prune(model, (train[0][:2],), stanza(0.5)).parameters()]
    assert flags == [parameter.requires_grad for parameter in model.parameters()] and not all(flags)


class Shortcut(nn.Module):
    """A shortcut of He et al.'s option A: fewer pixels, and channels of zeros on both sides."""

    def __init__(self):
        super().__init__()
        self.stem, self.narrow = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.wide, self.out = nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.narrow(self.stem(x).relu())
        x = self.out(self.wide(x).relu()) + nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head(x.mean((2, 3)))


def test_channels_that_padding_moves_stay(train):
    pruned = prune(Shortcut().eval(), (train[0][:2],), stanza(0.5))
    assert (pruned.stem.out_channels, pruned.narrow.out_channels) == (2, 4)
    assert (pruned.wide.out_channels, pruned.out.out_channels) == (4, 8)
    assert pruned(train[0]).shape == (len(train[0]), 3)


@pytest.mark.parametrize("build", [tiny.backbone, Shortcut], ids=["plain", "shortcut"])
def test_what_goes_is_cut_everywhere(build, train):
    """Known answer: channels whose filters and norms are all zero can go without any change of the answers."""
    torch.manual_seed(0)
    model = build().eval()
    convolutions = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    kept = {name: m.out_channels for name, m in prune(model, (train[0][:2],), stanza(0.5)).named_modules()
            if isinstance(m, nn.Conv2d)}  # fmt: skip
    with torch.no_grad():
        for name, layer in convolutions.items():
            rows = torch.randperm(layer.out_channels)[kept[name] :]
            layer.weight[rows] = 0
            if layer.bias is not None:
                layer.bias[rows] = 0
            for other in norms.values() if layer.bias is None else ():
                if other is norms.get(name[:-1] + "1"):
                    other.weight[rows] = other.bias[rows] = 0
    pruned = prune(model, (train[0][:2],), stanza(0.5))
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in model.parameters())
    torch.testing.assert_close(pruned(train[0]), model(train[0]))


def quantized():
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    return quantize(model, RTNConfig(bits=8, use_layer_wise=False))


def dynamic():
    inputs = torch.from_numpy(tiny.samples("train")[0])
    return compress(tiny.backbone(), EarlyExitConfig(count=1, training={"epochs": 1}), run_fn=lambda m: m(inputs))


class NoLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.classes = nn.Parameter(torch.randn(5, 3))

    def forward(self, x):
        return x @ self.classes


PIXELS, VECTORS = torch.from_numpy(tiny.samples("train")[0][:2]), torch.randn(2, 5)
REFUSALS = {
    "nothing to remove": (
        lambda: prune(nn.Sequential(nn.Linear(5, 1), nn.Linear(1, 3)), (VECTORS,), stanza(0.5)),
        "pruning with ratio 0.5 removed nothing; choose a larger ratio"),
    "no layers": (
        lambda: prune(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), (PIXELS,), stanza(0.5)),
        "pruning with ratio 0.5 removed nothing; the model has no layer that can lose channels"),
    "too small a ratio": (
        lambda: prune(tiny.backbone(), (PIXELS,), stanza(0.05)),
        "pruning with ratio 0.05 removed nothing; choose a larger ratio"),
    "no classifier": (
        lambda: prune(NoLayer(), (VECTORS,), stanza(0.5)),
        "pruning found no layer that gives the model's classes, so it cannot protect it; end the model with a linear "
        "layer or a convolution"),
    "quantized": (
        lambda: prune(quantized(), (torch.randn(2, 32),), stanza(0.5)),
        "pruning got a model that is quantized already (INCWeightOnlyLinear in '0'); prune it before it is quantized"),
    "dynamic": (
        lambda: prune(dynamic(), (PIXELS,), stanza(0.5)),
        "pruning got a model that is dynamic already; prune it before savers and exits are added"),
    "out of reach": (
        lambda: prune(tiny.backbone(), (PIXELS,), PruningStanza(target_cost=0.001)),
        "`target_cost` 0.001 is out of reach: without all that may go 0.038 of the multiply-adds remain; raise it, or "
        "`max_ratio`"),
    "no samples": (
        lambda: prune(tiny.backbone(), (PIXELS,), stanza(0.5, importance="taylor")),
        "importance 'taylor' needs samples to take gradients on, and there are none; use another measure, such as "
        "magnitude_l2"),
    "no such layer": (
        lambda: prune(tiny.backbone(), (PIXELS,), stanza(0.5, ignored_layers=["blok1"])),
        "key 'pruning.ignored_layers' names no module of the model: 'blok1'; did you mean 'block1'?"),
    "one class": (
        lambda: prune(tiny.backbone(), (PIXELS,), stanza(0.5, epochs=1), (PIXELS, torch.tensor([2, 2]))),
        "the training split holds class 2 alone, so that nothing can be learnt from it; give more classes, or set "
        "`pruning.fine_tune.epochs` to 0"),
    "one sample": (
        lambda: prune(tiny.backbone(), (PIXELS,), stanza(0.5, epochs=1), (PIXELS[:1], torch.tensor([-1]))),
        "fine-tuning after pruning needs at least 2 training samples; got 1"),
    "foreign label": (
        lambda: prune(tiny.backbone(), (PIXELS,), stanza(0.5, epochs=1), (PIXELS, torch.tensor([0, 7]))),
        "label 7 is not one of the backbone's 3 classes"),
    "augment": (
        lambda: prune(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)), (VECTORS,),
                      stanza(0.5, epochs=1, augment="affine"), (VECTORS, torch.tensor([0, 1]))),
        "`augment` needs images (N, C, H, W); got inputs (2, 5), so set it to none"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case):
    made, message = REFUSALS[case]
    with pytest.raises(PassError) as refused:
        made()
    assert str(refused.value) == message


def test_a_loss_that_is_no_number_stops_and_says_where(train, log_lines):
    options = stanza(0.5, epochs=3, learning_rate=1e30, steps=2)
    with pytest.raises(PassError, match=r"^the (loss|gradient) of the model pruned in step 1 of 2 became (nan|inf) in "
                                        r"epoch 1; lower its learning_rate$"):  # fmt: skip
        prune(tiny.backbone(), (train[0][:2],), options, train)
    assert log_lines == ["pruning, step 1 of 2: 58.5% of the multiply-adds remain"]


def test_stanza_refuses_two_goals_and_none():
    for values, message in (
        ({"ratio": 0.2, "target_cost": 0.5}, "' has both `ratio` 0.2 and `target_cost` 0.5; give one of them"),
        ({"ratio": None}, "' has neither `ratio` nor `target_cost`; give one of them"),
        ({"target_cost": 1.0}, ".target_cost' must be less than 1; got 1.0"),
        ({"importance": "hessian"}, ".importance' must be 'magnitude_l2', 'magnitude_l1', 'bn_scale', 'lamp', 'fpgm', "
                                    "'taylor' or 'random'; got 'hessian'"),
        ({"fine_tune": {"batch_size": 1}}, ".fine_tune.batch_size' must be greater than or equal to 2; got 1"),
    ):  # fmt: skip
        with pytest.raises(ValidationError) as refused:
            PruningStanza.model_validate(values)
        assert explain(refused.value, "pruning") == f"key 'pruning{message}"
    assert (PruningStanza().ratio, PruningStanza(target_cost=0.5).ratio) == (0.3, None)
    assert PruningStanza.model_validate(PruningStanza(target_cost=0.5).model_dump()).target_cost == 0.5
