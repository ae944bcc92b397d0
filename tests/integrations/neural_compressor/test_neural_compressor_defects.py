"""Defects of Neural Compressor that it is silent about, and that the plugin avoids.

If the first half of a test fails after an upgrade, Neural Compressor has fixed the defect.
"""

import copy
import math

import pytest
import tiny
import torch
from neural_compressor.common.base_config import BaseConfig, ComposableConfig, config_registry
from neural_compressor.torch.export import export
from neural_compressor.torch.quantization import (
    HQQConfig,
    RTNConfig,
    StaticQuantConfig,
    TuningConfig,
    autotune,
    quantize,
)
from neural_compressor.torch.utils import register_algo
from torch import nn

from dynamic_exit import ConfigurationOptimizer, EarlyExitConfig, PruningConfig, compress
from dynamic_exit.errors import DynamicExitError, PassError
from dynamic_exit.graph import Classifier, capture, split
from dynamic_exit.passes.quantization.detect import what_is_quantized
from dynamic_exit.runtime.model import DynamicExitModel

INPUTS = torch.from_numpy(tiny.samples("train")[0])
EXITS = {"count": 1, "training": {"epochs": 3}}
RTN = {"bits": 8, "use_layer_wise": False}
PASSES = {"pruning": {"ratio": 0.5}, "early_exit": EXITS}


def feed(model):
    for rows in INPUTS.split(48):
        model(rows)


def torch_configs():
    return config_registry.get_cls_configs()["torch"]


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)).eval()


def channels(model):
    return [part.out_channels for part in model.modules() if isinstance(part, nn.Conv2d)]


def test_misspelt_parameters():
    assert RTNConfig.from_dict({"bitz": 4}) == RTNConfig()
    assert StaticQuantConfig(w_dtyp="int8") == StaticQuantConfig()
    for passes in ({"rtn": {"bitz": 4}}, {"static_quant": {"w_dtyp": "int8"}}):
        with pytest.raises(DynamicExitError, match="^unknown key '(rtn.bitz|static_quant.w_dtyp)'; did you mean '"):
            compress(tiny.backbone(), passes, run_fn=feed)
    with pytest.raises(PassError, match="^unknown key 'pruning.ratoi'"):
        quantize(tiny.backbone(), {"pruning": {"ratoi": 0.5}}, example_inputs=INPUTS[:2])


def test_all_but_the_first_of_a_mapping():
    made = ComposableConfig.from_dict({"rtn": RTN, "early_exit": EXITS}, torch_configs())
    assert type(made) is RTNConfig
    assert not isinstance(quantize(tiny.backbone(), {"rtn": RTN, "early_exit": EXITS}, run_fn=feed), DynamicExitModel)
    dynamic = compress(tiny.backbone(), {"rtn": RTN, "early_exit": EXITS}, run_fn=feed)
    assert isinstance(dynamic, DynamicExitModel)
    # one of ours in the first place says so
    with pytest.raises(PassError) as refused:
        quantize(tiny.backbone(), PASSES, run_fn=feed)
    assert str(refused.value) == (
        "pass 'pruning' would run twice, or Neural Compressor drops what stands beside it in one mapping; give "
        "`dynamic_exit.compress` the passes"
    )
    assert channels(compress(tiny.backbone(), {"pruning": {"ratio": 0.5}, "rtn": RTN}, run_fn=feed)) == [1, 2, 4, 4]


def test_everything_of_a_sum():
    untouched = quantize(linear(), RTNConfig(**RTN) + HQQConfig())
    assert untouched.is_quantized and what_is_quantized(untouched) is None
    with pytest.raises(PassError, match="^Neural Compressor skips pass 'pruning' in a combined config"):
        quantize(tiny.backbone(), PruningConfig(ratio=0.5) + EarlyExitConfig(**EXITS), run_fn=feed)
    made = compress(tiny.backbone(), PruningConfig(ratio=0.5) + EarlyExitConfig(**EXITS), run_fn=feed)
    assert isinstance(made, DynamicExitModel)
    full = sum(p.numel() for p in tiny.backbone().parameters())
    assert sum(p.numel() for p in made.segments.parameters()) < full / 2
    rounded = compress(tiny.backbone(), PruningConfig(ratio=0.5) + RTNConfig(**RTN), run_fn=feed)
    assert channels(rounded) == [1, 2, 4, 4] and what_is_quantized(rounded)


class TwoOfATest(BaseConfig):
    """Asks for the later registered algorithm first."""

    name = "b_of_a_test"

    def to_config_mapping(self, *arguments, **named):
        first = RTNConfig()
        first.name = "a_of_a_test"
        return {("2", "Linear"): self, ("0", "Linear"): first}

    def get_model_info(self, model):
        return []

    register_supported_configs = get_config_set_for_tuning = get_model_info


def test_the_order_is_neural_compressors():
    """Algorithms run as they were registered; here a mapping's order counts, and an impossible one is refused."""
    ran = []
    for name in ("a_of_a_test", "b_of_a_test"):
        register_algo(name)(lambda model, mapping, name=name, **kwargs: ran.append(name) or model)
    quantize(linear(), TwoOfATest())
    assert ran == ["a_of_a_test", "b_of_a_test"]
    dynamic = compress(tiny.backbone(), {"rtn": RTN, "early_exit": EXITS}, run_fn=feed)
    dynamic.set_thresholds([math.inf])
    rounded = quantize(tiny.backbone(), RTNConfig(**RTN))
    torch.testing.assert_close(dynamic(INPUTS).logits, rounded(INPUTS))
    with pytest.raises(PassError, match="^pass 'rtn' cannot come after 'early_exit'"):
        compress(tiny.backbone(), {"early_exit": EXITS, "rtn": RTN}, run_fn=feed)


def test_static_quantization_without_calibration():
    shapes = ({0: torch.export.Dim("batch")},)
    for run_fn in (None, lambda model: None):
        body = export(tiny.backbone(), (INPUTS[:2],), dynamic_shapes=shapes)
        wrong = quantize(body, StaticQuantConfig(), run_fn=run_fn)
        assert (wrong(INPUTS) - tiny.backbone()(INPUTS)).abs().max() > 5
        with pytest.raises(PassError, match="^(pass 'static_quant' needs `run_fn`|`run_fn` never called the model)"):
            compress(tiny.backbone(), StaticQuantConfig(), run_fn=run_fn)


def test_static_quantization_of_a_captured_graph():
    """Nothing in a graph of operators is found; here it is, and a model with nothing to quantize is refused."""
    shapes = ({0: torch.export.Dim("batch")},)
    operators = split(capture(Classifier(tiny.backbone()), (INPUTS[:2],)), [])[0].body
    untouched = quantize(export(operators, (INPUTS[:2],), dynamic_shapes=shapes), StaticQuantConfig(), run_fn=feed)
    assert untouched.is_quantized and what_is_quantized(untouched) is None
    assert what_is_quantized(compress(tiny.backbone(), StaticQuantConfig(), run_fn=feed))

    class Sums(nn.Module):
        def forward(self, x):
            return x.flatten(2).sum(2).expand(-1, 3) * torch.arange(3.0)

    with pytest.raises(PassError) as refused:
        compress(Sums(), StaticQuantConfig(), run_fn=feed)
    assert str(refused.value) == "'static_quant' found nothing to quantize in this model; leave it out"


def test_json_files(tmp_path):
    path = tmp_path / "config.json"
    RTNConfig().to_json_file(path)
    with pytest.raises(TypeError):
        RTNConfig.from_json_file(path)
    config = EarlyExitConfig(positions=["a"], heads=["mlp"])
    config.to_json_file(path)
    assert EarlyExitConfig.from_json_file(path) == config


def tune(configs, eval_fn, **options):
    tuning = TuningConfig(config_set=configs, **options)
    return autotune(tiny.backbone(), tuning, eval_fn=eval_fn, run_fn=feed)


def test_scores_that_say_nothing():
    assert tune([RTNConfig(**RTN)], lambda model: math.nan) is not None
    with pytest.raises(ZeroDivisionError):
        tune([RTNConfig(**RTN)], lambda model: 0.0)
    with pytest.raises(TypeError):
        tune([RTNConfig(**RTN)], lambda model: {"accuracy": 1.0})
    for score in (math.nan, 0.0, {"accuracy": 1.0}):
        with pytest.raises(PassError, match="^`eval_fn` "):
            compress(tiny.backbone(), {"rtn": RTN}, eval_fn=lambda model, score=score: score)


def test_a_loss_beyond_what_is_tolerable():
    """Neural Compressor hands out its best trial although none is good enough."""
    scores = iter([1.0, 0.3, 0.2, 0.3])
    configs = [RTNConfig(**RTN), RTNConfig(**RTN, group_size=16)]
    assert tune(configs, lambda model: next(scores), tolerable_loss=0.1) is not None
    scores = iter([1.0, 0.3])
    with pytest.raises(DynamicExitError, match="a loss of 70.00%"):
        compress(tiny.backbone(), {"rtn": RTN}, eval_fn=lambda model: next(scores), tolerable_loss=0.1)


def pruned(ratio):
    return PruningConfig(ratio=ratio, fine_tune={"epochs": 0})


def likes_channels(model):
    """Nearly as good with half of the channels, and useless with fewer."""
    model(INPUTS)
    return {8: 1.0, 4: 0.99}.get(channels(model)[-1], 0.1)


class FirstAlone:
    """A sampler that proposes one config of several."""

    def __call__(self, config_set):
        return self

    def __iter__(self):
        yield 0


def ours(configs, **options):
    optimizer = ConfigurationOptimizer(**options)
    return optimizer, tune(configs, optimizer.scoring(likes_channels), sampler=optimizer)


def test_tuning_by_score_alone():
    """Neural Compressor takes what it finds first, however dear; the optimizer what costs least."""
    configs = [pruned(0.0), pruned(0.5)]
    assert channels(tune(configs, likes_channels, tolerable_loss=0.05)) == [2, 4, 8, 8]
    assert channels(ours(configs, tolerable_loss=0.05)[1]) == [1, 2, 4, 4]


def test_nothing_comes_back_when_configs_run_out():
    configs = [pruned(0.8), pruned(0.9)]
    assert tune(configs, likes_channels, sampler=FirstAlone()) is None
    with pytest.warns(UserWarning, match="keeps the loss at or under"):
        optimizer, made = ours(configs, tolerable_loss=0.0)
    assert made is not None and not optimizer.best.meets


def test_no_more_trials_than_configs():
    """Neural Compressor limits its trials to the number of configs; thresholds are tried within one trial here."""
    tuning = TuningConfig(config_set=[pruned(0.8)], max_trials=100)
    autotune(tiny.backbone(), tuning, eval_fn=likes_channels, run_fn=feed)
    assert tuning.max_trials == 1
    optimizer = ConfigurationOptimizer(tolerable_loss=0.2)
    agree = tiny.backbone()(INPUTS).argmax(1)
    scoring = optimizer.scoring(lambda model: (model(INPUTS).argmax(1) == agree).double().mean().item())
    tune([EarlyExitConfig(count=1, training={"epochs": 5})], scoring, sampler=optimizer, max_trials=1)
    assert optimizer.evaluations > 2


def test_tuning_by_neural_compressor_takes_our_configs():
    def score(model):
        answer = model(INPUTS)
        answer = getattr(answer, "logits", answer)
        return (answer.argmax(1) == tiny.backbone()(INPUTS).argmax(1)).double().mean().item()

    made = tune([EarlyExitConfig(count=1, training={"epochs": 20})], score, tolerable_loss=0.5)
    assert isinstance(made, DynamicExitModel)


def test_a_failing_pass_leaves_neural_compressors_model_half_done():
    """Neural Compressor works on the given model by default; here it is as it was, until everything has succeeded."""
    plain, ours = linear(), linear()
    before = copy.deepcopy(ours.state_dict())
    quantize(plain, RTNConfig(**RTN))
    assert what_is_quantized(plain)
    with pytest.raises(DynamicExitError):
        compress(ours, [{"rtn": RTN}, EarlyExitConfig(positions=["nowhere"])], run_fn=lambda m: m(torch.randn(8, 64)),
                 inplace=True)  # fmt: skip
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())
    assert what_is_quantized(ours) is None
