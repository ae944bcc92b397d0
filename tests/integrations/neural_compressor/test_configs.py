"""The configs of passes: registered, checked, written and read, with parameters of their own for some modules."""

import json

import pytest
import tiny
import torch
from neural_compressor.common.base_config import config_registry
from neural_compressor.torch.quantization import RTNConfig, quantize
from neural_compressor.torch.utils import algos_mapping
from torch import nn

import dynamic_exit
from dynamic_exit import DynamicExitConfig, EarlyExitConfig, PruningConfig, TinySaverConfig
from dynamic_exit.errors import PassError, RecipeError
from dynamic_exit.integrations.neural_compressor import describe_algorithms
from dynamic_exit.integrations.neural_compressor.adapter import check_version, register
from dynamic_exit.passes import PruningStanza
from dynamic_exit.recipe import DynamicExit, Recipe

INPUTS = torch.from_numpy(tiny.samples("train")[0])


@pytest.mark.parametrize(
    "config",
    [
        EarlyExitConfig(positions=["a", "b"], heads=["mlp"], training={"epochs": 3}),
        PruningConfig(ratio=0.4),
        TinySaverConfig(candidates=[{"source": "timm", "name": "resnet18"}], fuse="mean"),
        DynamicExitConfig(pruning={"ratio": 0.1}, quantization={"static_quant": {}}, early_exit={"count": 2}),
    ],
    ids=lambda config: config.name,
)
def test_configs_survive_dict_and_json(config):
    again = type(config).from_dict(config.to_dict())
    assert again == config and again.stanza == config.stanza
    assert type(config).from_dict(json.loads(config.to_json_string())) == config
    values = config.to_dict()
    assert type(config).from_dict(values).to_dict() == values
    assert again.to_json_string() == config.to_json_string()


def test_the_passes_stand_beside_neural_compressors_own():
    registered = config_registry.get_cls_configs()["torch"]
    assert {"early_exit", "tiny_saver", "pruning", "rtn", "gptq", "awq", "static_quant", "smooth_quant"} <= set(
        registered
    )
    assert registered["early_exit"] is dynamic_exit.EarlyExitConfig
    ours = {"early_exit", "tiny_saver", "pruning", "dynamic_exit"}
    assert ours <= set(registered) and {*ours, "rtn", "static_quant"} <= set(algos_mapping)


@pytest.mark.parametrize(
    ("place", "widths"),
    [
        ("block3", [1, 2, 8, 4]),
        (["block1", "block2.0"], [2, 4, 4, 4]),
        ("block[34].*", [1, 2, 8, 8]),
    ],
)
def test_pruning_takes_local_ratios(model, place, widths):
    config = PruningConfig(ratio=0.5).set_local(place, PruningConfig(ratio=0.0))
    for given in (config, PruningConfig.from_dict(config.to_dict())):
        pruned = quantize(model, given, example_inputs=INPUTS[:2])
        assert [m.out_channels for m in pruned.modules() if isinstance(m, nn.Conv2d)] == widths


def test_local_ratios_by_kind_of_module(model):
    config = PruningConfig(ratio=0.0).set_local(nn.Conv2d, PruningConfig(ratio=0.5))
    pruned = quantize(model, config, example_inputs=INPUTS[:2])
    assert [m.out_channels for m in pruned.modules() if isinstance(m, nn.Conv2d)] == [1, 2, 4, 4]


def _changed(config, key, value):
    setattr(config, key, value)
    return config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _changed(PruningConfig(), "ratoi", 0.5), "unknown key 'pruning.ratoi'; did you mean 'ratio'?"),
        (lambda: _changed(PruningConfig(), "ratio", 2), "key 'pruning.ratio' must be less than 1; got 2"),
        (
            lambda: EarlyExitConfig().set_local("block1", EarlyExitConfig()),
            "pass 'early_exit' works on the whole model and has no local parameters; set them once",
        ),
        (
            lambda: PruningConfig().set_local("block1", RTNConfig()),
            "pass 'pruning' takes local configs of its own kind; got RTNConfig",
        ),
        (
            lambda: quantize(
                tiny.backbone(), PruningConfig().set_local("blok1", PruningConfig()), example_inputs=INPUTS[:2]
            ),
            "pass 'pruning' finds no module 'blok1'; did you mean 'block1'?",
        ),
        (lambda: PruningConfig(["block1"]), "pass 'pruning' works on the whole model; leave `white_list` out"),
        (
            lambda: PruningConfig.from_dict({"global": {"ratio": 0.1}, "ratio": 0.2}),
            "key 'pruning.ratio' stands beside 'global' or 'local'; write it below",
        ),
        (
            lambda: DynamicExitConfig(early_exit={"haeds": ["mlp"]}),
            "unknown key 'dynamic_exit.early_exit.haeds'; did you mean 'heads'?",
        ),
        (
            lambda: DynamicExitConfig(pruning={}),
            "key 'dynamic_exit' holds neither `tiny_saver` nor `early_exit`; add one of them",
        ),
        (
            lambda: DynamicExitConfig(quantization={"static_quant": {}}, pruning={}, early_exit={}),
            "key 'dynamic_exit' prunes after it quantizes; write `pruning` before `quantization`",
        ),
        (
            lambda: DynamicExitConfig(early_exit={}, pruning={}),
            "key 'dynamic_exit' runs `pruning` after `early_exit`; write `pruning` before `early_exit`",
        ),
        (
            lambda: DynamicExitConfig(early_exit={}, tuning={"guarantee": 0.9}),
            "key 'dynamic_exit' holds `tuning.guarantee`, which needs labels and an export; run a recipe for it",
        ),
        (lambda: check_version("3.9.1"), "Neural Compressor 3.9.1 is too old; install 3.10 or newer"),
    ],
)
def test_refusals_of_configs(make, message):
    with pytest.raises(PassError) as refused:
        make()
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("name", "hint"), [("static_qant", "did you mean 'static_quant'?"), ("early_exit", "known are")]
)
def test_what_does_not_quantize_in_a_combination_is_refused(name, hint):
    with pytest.raises(RecipeError) as refused:
        DynamicExitConfig(quantization={name: {}}, early_exit={})
    assert str(refused.value).startswith(f"unknown key 'quantization.{name}'; {hint}")


def test_what_is_set_later_counts(model):
    config = _changed(PruningConfig(ratio=0.1), "ratio", 0.5)
    pruned = quantize(model, config, example_inputs=INPUTS[:2])
    assert pruned.block4[0].out_channels == 4
    assert config == PruningConfig(ratio=0.5)


def test_configs_are_made_of_the_recipes_own_models():
    assert PruningConfig.stanza_class is Recipe.model_fields["pruning"].annotation.__args__[0]
    for name, config in (("early_exit", EarlyExitConfig), ("tiny_saver", TinySaverConfig)):
        assert config.stanza_class in DynamicExit.model_fields[name].annotation.__args__
        assert config.__mro__[1] is PruningConfig.__mro__[1]
    assert issubclass(DynamicExitConfig.stanza_class, DynamicExit)


def test_a_taken_name_is_refused():
    with pytest.raises(PassError) as refused:
        register("rtn", PruningStanza, lambda model, *others: model)
    assert str(refused.value) == "Neural Compressor already has an algorithm 'rtn'; choose another name"


def test_algorithms_are_described_with_parameters_defaults_and_ranges():
    found = describe_algorithms()
    parameters = {p["name"]: p for p in found["early_exit"]["parameters"]}
    assert found["early_exit"]["from"] == "dynamic_exit"
    assert parameters["count"] == {
        "name": "count",
        "default": "4",
        "range": "≥ 1",
        "meaning": "cuts that `positions: auto` picks",
    }
    assert parameters["training.distillation"]["range"] == "≥ 0, ≤ 1"
    assert parameters["training.learning_rate"]["range"] == "> 0"
    pruning = {p["name"]: p for p in found["pruning"]["parameters"]}
    assert (pruning["ratio"]["default"], pruning["ratio"]["range"]) == ("0.3", "≥ 0, < 1")
    savers = {p["name"]: p for p in found["tiny_saver"]["parameters"]}
    assert (savers["candidates"]["default"], savers["candidates"]["range"]) == ("[{'make': 'auto'}]", "at least 1")
    assert savers["fuse"]["range"] == "'none' or 'mean' or 'product'"
    combined = {p["name"]: p["default"] for p in found["dynamic_exit"]["parameters"]}
    assert found["dynamic_exit"]["from"] == "dynamic_exit"
    assert (combined["pruning"], combined["tuning.max_accuracy_drop"]) == ("None", "0.005")
    assert found["rtn"]["from"] == "Neural Compressor"
    assert {p["name"]: p["default"] for p in found["rtn"]["parameters"]}["bits"] == "4"
    static = {p["name"]: p["default"] for p in found["static_quant"]["parameters"]}
    assert (static["w_dtype"], static["act_dtype"]) == ("'int8'", "'uint8'")


def test_every_described_default_is_what_a_config_holds():
    for name, config in (("early_exit", EarlyExitConfig()), ("pruning", PruningConfig())):
        for parameter in describe_algorithms()[name]["parameters"]:
            value = config.stanza
            for step in parameter["name"].split("."):
                value = getattr(value, step)
            assert repr(value) == parameter["default"], parameter["name"]
