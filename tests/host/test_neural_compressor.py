"""The passes through Neural Compressor's own door, with its own functions."""

import copy
import json

import pytest
import tiny
import torch
from neural_compressor.common.base_config import config_registry
from neural_compressor.torch.quantization import RTNConfig, convert, get_default_rtn_config, prepare, quantize
from neural_compressor.torch.utils import algos_mapping
from safetensors.torch import save_file
from torch import nn

import dynamic_exit
from dynamic_exit import DynamicExitConfig, EarlyExitConfig, PruningConfig, TinySaverConfig
from dynamic_exit.errors import PassError, RecipeError
from dynamic_exit.host import describe_algorithms
from dynamic_exit.host.adapter import check_version, register
from dynamic_exit.host.dynamic import MAX_DISAGREEMENT
from dynamic_exit.passes import PruningStanza
from dynamic_exit.runtime.model import DynamicExitModel

INPUTS = torch.from_numpy(tiny.samples("train")[0])
OTHERS = torch.from_numpy(tiny.samples("test")[0])
EARLY_EXIT = {"count": 2, "training": {"epochs": 20}}


def feed(model, batch_size=50):
    for rows in INPUTS.split(batch_size):
        model(rows)


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    (folder / "models.py").write_text(tiny.MODELS)
    taught = tiny.saver(2).state_dict()
    save_file(taught, folder / "saver2.safetensors")
    save_file({key: value * 0 for key, value in taught.items()}, folder / "blank.safetensors")
    known = {"source": "python", "name": f"{folder}/models.py:saver", "weights": f"{folder}/saver2.safetensors"}
    return [{**known, "stage": "taught"}, {**known, "stage": "blank", "weights": f"{folder}/blank.safetensors"}]


@pytest.fixture
def model():
    """A model that must come out of a test bit for bit as it went in."""
    model = tiny.backbone()
    before, hooks = copy.deepcopy(model.state_dict()), len(model._forward_pre_hooks)
    yield model
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert len(model._forward_pre_hooks) == hooks
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def apart(model, dynamic, inputs):
    with torch.no_grad():
        return (dynamic(inputs).logits.argmax(1) != model(inputs).argmax(1)).double().mean().item()


@pytest.mark.parametrize("form", ["config", "dict"])
def test_early_exit(model, form):
    config = EarlyExitConfig(**EARLY_EXIT) if form == "config" else {"early_exit": EARLY_EXIT}
    dynamic = quantize(model, config, run_fn=feed)
    assert isinstance(dynamic, DynamicExitModel)
    assert dynamic.chain == ("block1:linear", "block3:linear")
    # thresholds are tuned on every second calibration input
    assert apart(model, dynamic, INPUTS[1::2]) <= MAX_DISAGREEMENT
    assert apart(model, dynamic, OTHERS) < 0.1
    exits = dynamic(OTHERS).exit_index.bincount(minlength=3) / len(OTHERS)
    assert exits[:2].sum() > 0.3
    dynamic.set_thresholds([float("inf")] * 2)
    torch.testing.assert_close(dynamic(OTHERS).logits, model(OTHERS))


@pytest.mark.parametrize("form", ["config", "dict"])
def test_tiny_saver(model, candidates, form):
    stanza = {"candidates": candidates, "fuse": "none"}
    config = TinySaverConfig(**stanza) if form == "config" else {"tiny_saver": stanza}
    dynamic = quantize(model, config, run_fn=feed)
    assert dynamic.chain == ("taught",)
    assert apart(model, dynamic, INPUTS) <= MAX_DISAGREEMENT
    answer, saver, final = dynamic(OTHERS), tiny.saver(2)(OTHERS), model(OTHERS)
    leaves = saver.softmax(1).amax(1) > dynamic.thresholds[0]
    assert 0.3 < leaves.double().mean() < 1
    assert torch.equal(answer.exit_index == 0, leaves)
    torch.testing.assert_close(answer.logits, torch.where(leaves[:, None], saver, final))


def test_the_defaults_of_tiny_saver_add_evidence_up(model, candidates):
    dynamic = quantize(model, TinySaverConfig(candidates=candidates[:1]), run_fn=feed)
    assert (dynamic.chain, dynamic.fuse) == (("taught",), "mean")
    assert apart(model, dynamic, INPUTS) <= MAX_DISAGREEMENT
    saver, final = tiny.saver(2)(OTHERS).softmax(1), model(OTHERS).softmax(1)
    answer = dynamic(OTHERS)
    evidence = torch.where((answer.exit_index == 0)[:, None], saver, (saver + final) / 2)
    torch.testing.assert_close(answer.logits.exp(), evidence)


def test_a_candidate_that_cannot_be_used_is_left_out(model, candidates):
    known = candidates[0]
    others = [
        {**known, "stage": "lost", "weights": "/nowhere.safetensors"},
        {**known, "stage": "other", "weights": None, "arguments": {"classes": 5}},
        {**known, "stage": "large", "name": known["name"].replace("saver", "backbone"), "weights": None},
    ]
    with pytest.warns(UserWarning, match="is left out") as said:
        dynamic = quantize(model, TinySaverConfig(candidates=[*others, known], selection="single"), run_fn=feed)
    assert dynamic.chain == ("taught",)
    told = [str(each.message) for each in said if "is left out" in str(each.message)]
    assert [line.split("'")[1] for line in told] == ["lost", "other", "large"]
    with pytest.warns(UserWarning), pytest.raises(PassError) as refused:
        quantize(model, TinySaverConfig(candidates=others[:1]), run_fn=feed)
    assert str(refused.value) == (
        "pass 'tiny_saver': no candidate can be used, candidate 'lost' is left out: weights '/nowhere.safetensors' do "
        "not exist; check the path; give others"
    )


def test_training_of_savers_is_refused(model, candidates):
    with pytest.raises(PassError) as refused:
        quantize(model, TinySaverConfig(candidates=candidates, fine_tune={}), run_fn=feed)
    assert str(refused.value) == (
        "pass 'tiny_saver' trains savers only in a recipe, on its training split; leave `fine_tune` out"
    )


def test_a_saver_that_saves_nothing_is_refused(model, candidates):
    with pytest.raises(PassError) as refused:
        quantize(model, TinySaverConfig(candidates=candidates[1:]), run_fn=feed)
    assert str(refused.value) == "pass 'tiny_saver': none of blank saves anything; give other candidates"


@pytest.mark.parametrize("given", ["example_inputs", "run_fn"])
def test_pruning(model, given):
    arguments = {"example_inputs": INPUTS[:2]} if given == "example_inputs" else {"run_fn": feed}
    pruned = quantize(model, PruningConfig(ratio=0.5), **arguments)
    assert [m.out_channels for m in pruned.modules() if isinstance(m, nn.Conv2d)] == [1, 2, 4, 4]
    assert pruned(OTHERS).shape == (len(OTHERS), tiny.CLASSES)


def test_arguments_of_the_calibration_function_are_passed_on(model):
    seen = []

    def function(model, batch_size, unused):
        seen.append((batch_size, unused))
        feed(model, batch_size)

    quantize(model, PruningConfig(ratio=0.5), run_fn=function, run_args=(32, "x"))
    assert seen == [(32, "x")]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: EarlyExitConfig(cont=3), "unknown key 'early_exit.cont'; did you mean 'count'?"),
        (
            lambda m: EarlyExitConfig(training={"epoch": 3}),
            "unknown key 'early_exit.training.epoch'; did you mean 'epochs'?",
        ),
        (lambda m: PruningConfig(ratio=1.0), "key 'pruning.ratio' must be less than 1; got 1.0"),
        (lambda m: TinySaverConfig(), "key 'tiny_saver.candidates' is missing; add it to the recipe"),
        (
            lambda m: quantize(m, {"early_exit": {"haeds": ["mlp"]}}, run_fn=feed),
            "unknown key 'early_exit.haeds'; did you mean 'heads'?",
        ),
        (
            lambda m: quantize(m, EarlyExitConfig()),
            "pass 'early_exit' needs `run_fn`, which calls the model on calibration batches",
        ),
        (
            lambda m: quantize(m, EarlyExitConfig(), run_fn=lambda model: model(INPUTS[:3])),
            "`run_fn` gave pass 'early_exit' fewer than 4 samples; let it call the model on more batches",
        ),
    ],
)
def test_refusals(model, call, message):
    with pytest.raises(PassError) as refused:
        call(model)
    assert str(refused.value) == message


def test_a_dynamic_model_is_not_made_dynamic_again(model):
    dynamic = DynamicExitModel([model], input_names=["x"])
    with pytest.raises(PassError, match="^pass 'early_exit' got a model that is dynamic already"):
        quantize(dynamic, EarlyExitConfig(), run_fn=feed)


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


def test_the_passes_stand_beside_the_hosts_own():
    registered = config_registry.get_cls_configs()["torch"]
    assert {"early_exit", "tiny_saver", "pruning", "rtn", "gptq", "awq", "static_quant", "smooth_quant"} <= set(
        registered
    )
    assert registered["early_exit"] is dynamic_exit.EarlyExitConfig
    ours = {"early_exit", "tiny_saver", "pruning", "dynamic_exit"}
    assert ours <= set(registered) and {*ours, "rtn", "static_quant"} <= set(algos_mapping)


@pytest.mark.parametrize("form", ["of the model", "of a copy"])
def test_prepare_and_convert(model, form):
    inplace = form == "of the model"
    prepared = prepare(model, EarlyExitConfig(**EARLY_EXIT), inplace=inplace)
    feed(prepared)
    dynamic = convert(prepared, inplace=inplace)
    at_once = quantize(model, EarlyExitConfig(**EARLY_EXIT), run_fn=feed)
    assert dynamic.thresholds == at_once.thresholds
    torch.testing.assert_close(dynamic(OTHERS).logits, at_once(OTHERS).logits)


@pytest.mark.parametrize("fed", [False, None])
def test_convert_without_calibration_is_refused(model, fed):
    given = model if fed is None else prepare(model, EarlyExitConfig())
    with pytest.raises(PassError) as refused:
        convert(given, EarlyExitConfig() if fed is None else None)
    assert str(refused.value) == (
        "pass 'early_exit' has seen no batches; call prepare(), feed its model, then convert()"
    )


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


def test_a_combination_in_neural_compressor(model):
    """One algorithm that runs its passes in order; each has what it has by itself."""
    stanza = {"pruning": {"ratio": 0.5}, "early_exit": EARLY_EXIT}
    for config in (DynamicExitConfig(**stanza), {"dynamic_exit": stanza}):
        dynamic = quantize(model, config, run_fn=feed)
        pruned = quantize(model, PruningConfig(ratio=0.5), run_fn=feed)
        dynamic.set_thresholds([float("inf")] * len(dynamic.chain))
        torch.testing.assert_close(dynamic(OTHERS).logits, pruned(OTHERS))


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


def test_a_taken_name_is_refused():
    with pytest.raises(PassError) as refused:
        register("rtn", PruningStanza, lambda model, *others: model)
    assert str(refused.value) == "Neural Compressor already has an algorithm 'rtn'; choose another name"


@pytest.mark.parametrize("form", ["config", "dict", "default"])
def test_the_hosts_own_algorithm_still_quantizes(form):
    """Round to nearest in 4 bits: at most 16 values in each group of 32 weights, and nearly the same answers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)).eval()
    x = torch.randn(10, 64)
    expected = model(x)
    config = {
        "config": RTNConfig(bits=4, group_size=32),
        "dict": {"rtn": {"bits": 4, "group_size": 32}},
        "default": get_default_rtn_config(),
    }[form]
    answer = quantize(model, config)(x)
    assert not torch.equal(answer, expected)
    assert (answer - expected).abs().mean() < 0.15 * expected.abs().mean()


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
    assert (savers["candidates"]["default"], savers["candidates"]["range"]) == ("required", "at least 1")
    assert savers["fuse"]["range"] == "'none' or 'mean'"
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
