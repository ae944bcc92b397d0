"""The passes through Neural Compressor's own door, with its own functions."""

import pytest
import tiny
import torch
from neural_compressor.torch.quantization import RTNConfig, convert, get_default_rtn_config, prepare, quantize
from safetensors.torch import save_file
from torch import nn

from dynamic_exit import DynamicExitConfig, EarlyExitConfig, PruningConfig, TinySaverConfig
from dynamic_exit.errors import PassError
from dynamic_exit.integrations.neural_compressor.in_memory import MAX_DISAGREEMENT
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
    assert (dynamic.chain, dynamic.fuse.rule) == (("taught",), "mean")
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
    assert str(refused.value).startswith("pass 'tiny_saver': none of blank (no better than chance: ")
    assert str(refused.value).endswith(") saves anything; give other candidates")


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
        (
            lambda m: TinySaverConfig(candidates=[]),
            "key 'tiny_saver.candidates' list should have at least 1 item after validation, not 0; got []",
        ),
        (
            lambda m: quantize(m, TinySaverConfig(), run_fn=feed),
            "pass 'tiny_saver' makes savers only in a recipe, from its training split; name models in `candidates`",
        ),
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


@pytest.mark.parametrize("form", ["of the model", "of a copy"])
def test_prepare_and_convert(model, form):
    inplace = form == "of the model"
    prepared = prepare(model, EarlyExitConfig(**EARLY_EXIT), inplace=inplace)
    feed(prepared)
    dynamic = convert(prepared, inplace=inplace)
    at_once = quantize(model, EarlyExitConfig(**EARLY_EXIT), run_fn=feed)
    assert dynamic.thresholds == at_once.thresholds
    torch.testing.assert_close(dynamic(OTHERS).logits, at_once(OTHERS).logits)


@pytest.mark.parametrize(
    "config",
    [PruningConfig(ratio=0.5), DynamicExitConfig(pruning={"ratio": 0.5}, early_exit={**EARLY_EXIT, "count": 1})],
    ids=lambda config: config.name,
)
def test_prepare_and_convert_of_other_passes(model, config):
    prepared = prepare(model, config, inplace=False)
    expected = model(OTHERS)
    assert torch.equal(prepared(OTHERS), expected)
    prepared = prepare(model, config, inplace=False)
    feed(prepared)
    made, at_once = convert(prepared), quantize(model, config, run_fn=feed)
    one, two = made(OTHERS), at_once(OTHERS)
    assert torch.equal(getattr(one, "logits", one), getattr(two, "logits", two))
    assert type(made) is type(at_once) and type(made) is not type(prepared)


@pytest.mark.parametrize("fed", [False, None])
def test_convert_without_calibration_is_refused(model, fed):
    given = model if fed is None else prepare(model, EarlyExitConfig())
    with pytest.raises(PassError) as refused:
        convert(given, EarlyExitConfig() if fed is None else None)
    assert str(refused.value) == (
        "pass 'early_exit' has seen no batches; call prepare(), feed its model, then convert()"
    )


def test_a_combination_in_neural_compressor(model):
    """One algorithm that runs its passes in order; each has what it has by itself."""
    stanza = {"pruning": {"ratio": 0.5}, "early_exit": EARLY_EXIT}
    for config in (DynamicExitConfig(**stanza), {"dynamic_exit": stanza}):
        dynamic = quantize(model, config, run_fn=feed)
        pruned = quantize(model, PruningConfig(ratio=0.5), run_fn=feed)
        dynamic.set_thresholds([float("inf")] * len(dynamic.chain))
        torch.testing.assert_close(dynamic(OTHERS).logits, pruned(OTHERS))


@pytest.mark.parametrize("form", ["config", "dict", "default"])
def test_neural_compressors_own_algorithm_still_quantizes(form):
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
