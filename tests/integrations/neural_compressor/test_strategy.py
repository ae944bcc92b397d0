"""The configuration optimizer under Neural Compressor's own `autotune`, beside our own loop and a whole grid."""

import copy
import itertools

import numpy as np
import pytest
import tiny
import torch
from neural_compressor.torch.quantization import StaticQuantConfig, TuningConfig, autotune, quantize
from safetensors.torch import save_file

from dynamic_exit import ConfigurationOptimizer, DynamicExitConfig, EarlyExitConfig, PruningConfig, TinySaverConfig
from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.cost import ChainCost, count_macs
from dynamic_exit.errors import PassError, TuningError
from dynamic_exit.runtime.model import DynamicExitModel
from dynamic_exit.runtime.recorder import make_records

INPUTS = torch.from_numpy(tiny.draw(400, 11)[0])
IMAGES, LABELS = (torch.from_numpy(array) for array in tiny.draw(600, 12))
LOSS = 0.05


def feed(model):
    for rows in INPUTS.split(50):
        model(rows)


def accuracy(model):
    with torch.no_grad():
        return float((model(IMAGES).argmax(1) == LABELS).float().mean())


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    (folder / "models.py").write_text(tiny.MODELS)
    made = []
    for width in (2, 4):
        save_file(tiny.saver(width).state_dict(), folder / f"saver{width}.safetensors")
        source = {"source": "python", "name": f"{folder}/models.py:saver", "arguments": {"width": width}}
        made.append({**source, "stage": f"saver{width}", "weights": f"{folder}/saver{width}.safetensors"})
    return made


@pytest.fixture
def model():
    """A model that must come out of a test bit for bit as it went in."""
    model = tiny.backbone()
    before = copy.deepcopy(model.state_dict())
    yield model
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model._forward_pre_hooks and not any(module.training for module in model.modules())


def configs(candidates):
    dynamic = {
        "tiny_saver": {"candidates": candidates, "max_savers": 2},
        "early_exit": {"count": 1, "training": {"epochs": 5}},
        "tuning": {"max_accuracy_drop": 4 * LOSS},
    }
    pruned = {"pruning": {"ratio": 0.2, "fine_tune": {"epochs": 0}}}
    return [DynamicExitConfig(**static, **dynamic) for static in ({}, pruned)]


def test_under_autotune_it_ends_where_our_own_loop_does_and_near_the_best_of_a_grid(model, candidates):
    ours = ConfigurationOptimizer(tolerable_loss=LOSS)
    own = ours.search(model, configs(candidates), accuracy, run_fn=feed)
    optimizer = ConfigurationOptimizer(tolerable_loss=LOSS)
    tuning = TuningConfig(config_set=configs(candidates), sampler=optimizer)
    best = autotune(model, tuning, eval_fn=optimizer.scoring(accuracy), run_fn=feed)
    assert isinstance(best, DynamicExitModel)
    assert best.thresholds == own.thresholds and best.chain == own.chain
    assert optimizer.best.cost_ratio == ours.best.cost_ratio < 0.6
    # the model that came back scores what was said of it
    given = accuracy(model)
    score = float((best(IMAGES).logits.argmax(1) == LABELS).float().mean())
    assert score == pytest.approx(optimizer.best.score) and score >= given * (1 - LOSS)

    grid = [made for config in configs(candidates) for made in _grid(model, config, given * (1 - LOSS))]
    cheapest = min(grid)
    assert optimizer.evaluations <= 0.1 * len(grid)
    assert optimizer.best.cost_ratio <= 1.02 * cheapest


def _grid(model, config, least):
    """Cost over the given model of each place of a grid: 15 thresholds and off for each stage; infinite below."""
    made = quantize(copy.deepcopy(model), config, run_fn=feed)
    seen = _answers(made)
    steps = [*np.quantile(made.records.topk_probabilities[:-1, :, 0], np.linspace(0, 0.95, 15)), np.inf]
    full = count_macs(model, (INPUTS[:2],))
    for number, thresholds in enumerate(itertools.product(steps, repeat=len(made.chain))):
        used = [(name, float(value)) for name, value in zip(made.chain, thresholds, strict=True) if value < np.inf]
        configuration = Configuration(tuple(used), made.fuse)
        score = evaluate(seen, configuration).accuracy
        if number % 97 == 0:  # running the model for every place would take minutes
            made.set_thresholds(thresholds)
            assert score == pytest.approx(float((made(IMAGES).logits.argmax(1) == LABELS).float().mean()))
        yield evaluate(made.records, configuration).cost / full if score >= least else np.inf


def _answers(made):
    """Records of what each stage answers on the images that are scored."""
    known = made.records
    own, prefix, places = (
        dict(zip(known.stages, values.tolist(), strict=True))
        for values in (known.own_cost, known.prefix_cost, known.positions)
    )
    positions = {stage: place for stage, place in places.items() if place >= 0}
    costs = ChainCost(own, prefix, known.cost_unit)
    return make_records(made, [IMAGES.numpy()], LABELS.numpy(), costs, positions)


def test_a_missed_goal_is_said_and_the_best_found_comes_back(model, candidates):
    optimizer = ConfigurationOptimizer(tolerable_loss=0.0)
    ruined = [PruningConfig(ratio=0.6, fine_tune={"epochs": 0}), PruningConfig(ratio=0.8, fine_tune={"epochs": 0})]
    with pytest.warns(UserWarning, match="no config of `config_set` keeps the loss at or under 0.00%; the least"):
        best = autotune(
            model,
            TuningConfig(config_set=ruined, sampler=optimizer),
            eval_fn=optimizer.scoring(accuracy),
            run_fn=feed,
        )
    losses = [trial.loss for trial in optimizer.trials]
    assert optimizer.best.loss == min(losses) > 0
    assert (accuracy(model) - accuracy(best)) / accuracy(model) == pytest.approx(min(losses))


def test_the_best_comes_back_as_it_was_scored_though_others_follow(model, candidates):
    optimizer = ConfigurationOptimizer(tolerable_loss=LOSS)
    ruined = PruningConfig(ratio=0.8, fine_tune={"epochs": 0})
    choices = [DynamicExitConfig(tiny_saver={"candidates": candidates}), ruined]
    tuning = TuningConfig(config_set=choices, sampler=optimizer)
    best = autotune(model, tuning, eval_fn=optimizer.scoring(accuracy), run_fn=feed)
    assert optimizer.best is optimizer.trials[0] and best.thresholds == optimizer.best.thresholds
    score = float((best(IMAGES).logits.argmax(1) == LABELS).float().mean())
    assert score == pytest.approx(optimizer.best.score)


def test_a_config_that_cannot_be_applied_is_left_out_with_the_reason(model, candidates, log_lines):
    optimizer = ConfigurationOptimizer(tolerable_loss=LOSS)
    blank = EarlyExitConfig(positions=["nowhere"])
    best = autotune(
        model,
        TuningConfig(config_set=[blank, DynamicExitConfig(tiny_saver={"candidates": candidates})], sampler=optimizer),
        eval_fn=optimizer.scoring(accuracy),
        run_fn=feed,
    )
    assert isinstance(best, DynamicExitModel) and optimizer.best is optimizer.trials[1]
    assert optimizer.trials[0].why.startswith("left out: ") and "nowhere" in optimizer.trials[0].why
    assert any("left out" in line for line in log_lines)
    alone = ConfigurationOptimizer()
    with pytest.raises(TuningError, match="no config of `config_set` can be made, the first is left out"):
        autotune(model, TuningConfig(config_set=[blank], sampler=alone), eval_fn=alone.scoring(accuracy), run_fn=feed)


def test_seconds_compare_quantized_models_and_float_ones(model, candidates):
    optimizer = ConfigurationOptimizer(tolerable_loss=LOSS, cost="latency")
    saver = {"candidates": candidates}
    choices = [DynamicExitConfig(tiny_saver=saver), StaticQuantConfig()]
    with pytest.raises(PassError, match="set cost to 'latency'"):
        ConfigurationOptimizer().search(model, choices, accuracy, run_fn=feed)
    dynamic = DynamicExitConfig(quantization={"static_quant": {}}, tiny_saver=saver)
    best = optimizer.search(model, [choices[0], dynamic], accuracy, run_fn=feed)
    assert isinstance(best, DynamicExitModel)
    assert all(trial.why for trial in optimizer.trials) and optimizer.best.meets


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda model: 1 / 0, "`eval_fn` failed with ZeroDivisionError"),
        (lambda model: float("nan"), "finite"),
        (lambda model: {"accuracy": 0.9}, "returned a dict"),
        (lambda model: (accuracy(model), 0.0)[1], "must be above 0"),
        (lambda model: 0.9, "never called the model"),
    ],
)
def test_what_an_evaluation_function_gives_is_checked(model, candidates, answer, message):
    optimizer = ConfigurationOptimizer()
    tuning = TuningConfig(config_set=[TinySaverConfig(candidates=candidates)], sampler=optimizer)
    with pytest.raises(PassError, match=message):
        autotune(model, tuning, eval_fn=optimizer.scoring(answer), run_fn=feed)


def test_wrong_use_is_one_sentence(model, candidates):
    config = TinySaverConfig(candidates=candidates)
    plain = ConfigurationOptimizer()
    with pytest.raises(PassError, match=r"write eval_fn=optimizer.scoring\(eval_fn\)"):
        autotune(model, TuningConfig(config_set=[config], sampler=plain), eval_fn=accuracy, run_fn=feed)
    with pytest.raises(PassError, match="give it to TuningConfig as `sampler`"):
        autotune(model, TuningConfig(config_set=[config]), eval_fn=plain.__class__().scoring(accuracy), run_fn=feed)
    with pytest.raises(PassError, match="holds one 'tiny_saver' twice"):
        plain.search(model, [config, copy.deepcopy(config)], accuracy, run_fn=feed)
    with pytest.raises(PassError, match="`config_set` is empty"):
        plain.search(model, [], accuracy)
    with pytest.raises(PassError, match="did you mean 'latency'"):
        ConfigurationOptimizer(cost="latancy")
    with pytest.raises(PassError, match="`tolerable_loss` is 1.5, which allows a loss of 150 %; did you mean 0.015"):
        ConfigurationOptimizer(tolerable_loss=1.5)
    with pytest.raises(PassError, match="`eval_fn` must be a function"):
        plain.scoring("accuracy")
