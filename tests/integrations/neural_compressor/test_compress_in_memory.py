"""`compress` by Neural Compressor's own configs, with functions as its users have them."""

import copy
import math

import numpy as np
import pytest
import tiny
import torch
from neural_compressor.common.base_config import BaseConfig, config_registry, register_config
from neural_compressor.torch.quantization import RTNConfig, StaticQuantConfig, quantize
from safetensors.torch import save_file
from torch import nn

from dynamic_exit import DynamicExitConfig, EarlyExitConfig, PruningConfig, TinySaverConfig, compress
from dynamic_exit.errors import DynamicExitError, ModelError
from dynamic_exit.passes.quantization.detect import what_is_quantized
from dynamic_exit.runtime.model import DynamicExitModel

INPUTS, LABELS = (torch.from_numpy(array) for array in tiny.samples("train"))
OTHERS = torch.from_numpy(tiny.samples("test")[0])
EXITS = {"count": 2, "training": {"epochs": 20}}
PRUNING = {"ratio": 0.5}
RTN = {"bits": 8, "use_layer_wise": False}
STATIC = {"static_quant": {}}


def feed(model, batch_size=48):
    for rows in INPUTS.split(batch_size):
        model(rows)


def accuracy(model):
    with torch.no_grad():
        return (model(INPUTS).argmax(1) == LABELS).double().mean()


def channels(model):
    return [part.out_channels for part in model.modules() if isinstance(part, nn.Conv2d)]


@pytest.fixture
def model():
    """A model that must come out of a test as it went in: weights, modes, hooks and flags."""
    model = tiny.backbone()
    model.block2.train()
    before, attributes = copy.deepcopy(model.state_dict()), set(vars(model))
    modes = [module.training for module in model.modules()]
    yield model
    assert type(model) is nn.Sequential
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert set(vars(model)) == attributes
    assert [module.training for module in model.modules()] == modes
    assert not model._forward_pre_hooks and not model._forward_hooks


@pytest.fixture
def candidates(tmp_path):
    """A saver that was taught, and one that says the same of every image."""
    path, taught = tmp_path / "models.py", tiny.saver(2).state_dict()
    path.write_text(tiny.MODELS)
    found = {}
    for name, weights in {"taught": taught, "blank": {key: value * 0 for key, value in taught.items()}}.items():
        save_file(weights, tmp_path / f"{name}.safetensors")
        source = {"source": "python", "name": f"{path}:saver", "weights": f"{tmp_path}/{name}.safetensors"}
        found[name] = {**source, "stage": name}
    return found


@pytest.mark.parametrize(
    "passes",
    [
        [StaticQuantConfig(), EarlyExitConfig(**EXITS)],
        {**STATIC, "early_exit": EXITS},
        [STATIC, {"early_exit": EXITS}],
        StaticQuantConfig() + EarlyExitConfig(**EXITS),
        DynamicExitConfig(quantization=STATIC, early_exit=EXITS),
        {"dynamic_exit": {"quantization": STATIC, "early_exit": EXITS}},
    ],
    ids=["configs", "mapping", "mappings", "combined", "config", "one mapping"],
)
def test_quantized_with_exits_in_every_form(model, passes, log_lines):
    dynamic = compress(model, passes, run_fn=feed, eval_fn=accuracy, tolerable_loss=0.02)
    assert isinstance(dynamic, DynamicExitModel)
    assert dynamic.chain == ("block1:linear", "block3:linear")
    # every segment is in int8, and the exits were trained and tuned on what they give
    assert all(what_is_quantized(segment) for segment in dynamic.segments)
    assert accuracy(lambda x: dynamic(x).logits) >= 0.98
    after = accuracy(lambda x: dynamic(x).logits)
    assert log_lines[-1] == f"eval_fn: {accuracy(tiny.backbone()):g} before, {after:g} after"
    assert (dynamic.eval()(OTHERS).exit_index < 2).double().mean() > 0.3
    dynamic.set_thresholds([math.inf] * 2)
    apart = (dynamic(OTHERS).logits - tiny.backbone()(OTHERS)).abs()
    assert 0 < apart.mean() < 0.3


def test_quantization_alone(model):
    made = compress(model, StaticQuantConfig(), run_fn=feed)
    assert what_is_quantized(made)
    apart = (made(OTHERS) - tiny.backbone()(OTHERS)).abs()
    assert 0 < apart.mean() < 0.3


def test_weights_alone_need_no_calibration_and_carry_exits(model):
    assert what_is_quantized(compress(model, RTNConfig(**RTN))) == "INCWeightOnlyLinear in 'head.2'"
    dynamic = compress(model, [RTNConfig(**RTN), EarlyExitConfig(**EXITS)], run_fn=feed)
    dynamic.set_thresholds([math.inf] * 2)
    rounded = quantize(tiny.backbone(), RTNConfig(**RTN))
    torch.testing.assert_close(dynamic(OTHERS).logits, rounded(OTHERS))


def test_pruned_then_exits(model):
    dynamic = compress(model, PruningConfig(**PRUNING) + EarlyExitConfig(**EXITS), run_fn=feed)
    pruned = compress(model, PruningConfig(**PRUNING), run_fn=feed)
    assert channels(pruned) == [1, 2, 4, 4]
    dynamic.set_thresholds([math.inf] * len(dynamic.chain))
    torch.testing.assert_close(dynamic(OTHERS).logits, pruned(OTHERS))


def test_savers_and_exits_in_one_chain(model, candidates):
    passes = {"tiny_saver": {"candidates": [candidates["taught"]]}, "early_exit": EXITS}
    dynamic = compress(model, passes, run_fn=feed)
    assert (dynamic.chain, dynamic.fuse.rule) == (("taught", "block1:linear", "block3:linear"), "mean")
    assert dynamic.positions == (-1, 0, 1)
    exits = dynamic(OTHERS).exit_index.bincount(minlength=4)
    assert exits[0] > 0.3 * len(OTHERS)
    # tuned on every second sample, on which half a percent of answers may differ
    assert (dynamic(INPUTS[1::2]).logits.argmax(1) == tiny.backbone()(INPUTS[1::2]).argmax(1)).double().mean() >= 0.995


def test_a_tuning_goal_decides_how_many_answers_may_differ(model):
    def rate(drop):
        stanza = {"early_exit": EXITS, "tuning": {"max_accuracy_drop": drop}}
        dynamic = compress(model, DynamicExitConfig(**stanza), run_fn=feed)
        return (dynamic(INPUTS[1::2]).exit_index == 0).double().mean()

    assert rate(0.2) > rate(0.0)


def test_a_saver_that_saves_nothing_is_left_out_beside_exits(model, candidates):
    passes = [TinySaverConfig(candidates=[candidates["blank"]]), EarlyExitConfig(**EXITS)]
    with pytest.warns(UserWarning, match="none of blank .no better than chance: .* saves anything"):
        dynamic = compress(model, passes, run_fn=feed)
    assert dynamic.chain == ("block1:linear", "block3:linear")


def test_in_place_the_given_object_answers_as_the_result():
    given = tiny.backbone()
    passes = {**STATIC, "early_exit": EXITS}
    made = compress(given, passes, run_fn=feed, inplace=True)
    assert isinstance(made, DynamicExitModel) and dict(given.named_children()) == {"compressed": made}
    again = compress(tiny.backbone(), passes, run_fn=feed)
    assert torch.equal(given(OTHERS).logits, again(OTHERS).logits)
    assert made.thresholds == again.thresholds
    made.set_thresholds([math.inf] * len(made.chain))
    assert (given(OTHERS).exit_index == 2).all(), "one model, whichever of the two is called"
    assert torch.equal(copy.deepcopy(given)(OTHERS).logits, made(OTHERS).logits)


@pytest.mark.parametrize("passes", [{"rtn": RTN}, {"pruning": PRUNING}], ids=lambda passes: next(iter(passes)))
def test_in_place_a_result_of_the_same_class_is_the_given_object(passes):
    given = tiny.backbone()
    made = compress(given, passes, run_fn=feed, inplace=True)
    assert made is given
    again = compress(tiny.backbone(), passes, run_fn=feed)
    assert type(given) is type(again)
    assert torch.equal(given(OTHERS), again(OTHERS))
    assert not torch.equal(given(OTHERS), tiny.backbone()(OTHERS))


def test_in_place_without_stages():
    given = tiny.backbone()
    made = compress(given, STATIC, run_fn=feed, inplace=True)
    again = compress(tiny.backbone(), STATIC, run_fn=feed)
    assert type(made) is type(again) and given.compressed is made
    assert torch.equal(given(OTHERS), again(OTHERS))
    assert not torch.equal(given(OTHERS), tiny.backbone()(OTHERS))


@pytest.mark.parametrize("passes", [STATIC, {"early_exit": EXITS}], ids=lambda passes: next(iter(passes)))
def test_what_was_compressed_in_place_is_known_as_compressed(passes):
    given = tiny.backbone()
    compress(given, passes, run_fn=feed, inplace=True)
    with pytest.raises(DynamicExitError, match="^(the model is quantized already|pass 'pruning' got a model)"):
        compress(given, {"pruning": PRUNING}, run_fn=feed)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = tiny.backbone()

    def forward(self, pixels, unused=None):
        return {"logits": self.inner(pixels)}


def test_inputs_by_name_and_answers_in_a_mapping():
    model, scores = Named().eval(), []

    def score(model):
        answer = model(pixels=INPUTS)
        scores.append(type(answer))
        return (
            (getattr(answer, "logits", None) if hasattr(answer, "logits") else answer["logits"])
            .argmax(1)
            .eq(LABELS)
            .double()
            .mean()
        )

    made = compress(model, EarlyExitConfig(**EXITS), run_fn=lambda m: m(pixels=INPUTS), eval_fn=score)
    assert made(pixels=OTHERS).logits.shape == (len(OTHERS), tiny.CLASSES)
    assert [kind.__name__ for kind in scores] == ["dict", "DynamicOutput"]


def test_functions_get_their_arguments_and_calibration_runs_once(model):
    seen = []

    def calibrate(model, batch_size):
        seen.append(batch_size)
        feed(model, batch_size)

    def score(model, share):
        return torch.tensor(share)

    compress(model, {"pruning": PRUNING, **STATIC, "early_exit": EXITS}, run_fn=calibrate, run_args=(32,),
             eval_fn=score, eval_args=(np.float64(0.5),))  # fmt: skip
    assert seen == [32]


@register_config(framework_name="other", algo_name="of_another")
class OtherConfig(BaseConfig):
    name = "of_another"

    def to_config_mapping(self, *arguments, **named):
        raise NotImplementedError

    get_model_info = register_supported_configs = get_config_set_for_tuning = to_config_mapping


def fails(*arguments):
    raise KeyError("no such table")


REFUSALS = {
    "order": ([StaticQuantConfig(), PruningConfig()], {},
              "pass 'pruning' cannot come after 'static_quant'; write 'pruning' first"),
    "exits before savers": (
        {"early_exit": EXITS, "tiny_saver": {"candidates": [{"source": "timm", "name": "resnet18"}]}}, {},
        "pass 'tiny_saver' cannot come after 'early_exit'; write 'tiny_saver' first"),
    "static after exits": ([EarlyExitConfig(), STATIC], {},
                           "pass 'static_quant' cannot come after 'early_exit'; write 'static_quant' first"),
    "twice": ([PruningConfig(), {"pruning": {"ratio": 0.1}}], {}, "pass 'pruning' is written twice; keep one"),
    "twice in one": ([EarlyExitConfig(), DynamicExitConfig(early_exit={})], {},
                     "pass 'early_exit' is written twice; keep one"),
    "two goals": (
        [DynamicExitConfig(early_exit={}, tuning={"max_accuracy_drop": drop}) for drop in (0.1, 0.2)], {},
        "pass 'dynamic_exit' is written twice, each with a goal of its own; put them together"),
    "quantized twice": ({"rtn": RTN, **STATIC}, {}, "passes 'rtn' and 'static_quant' both quantize; keep one"),
    "nothing": ([], {}, "the list of passes is empty; name at least one"),
    "no passes": (7, {}, "passes must be configs, mappings or a list of them; got int"),
    "unknown": ({"early_exits": {}}, {}, "unknown pass 'early_exits'; did you mean 'early_exit'?"),
    "unknown key": ({"static_quant": {"w_dtyp": "int8"}}, {},
                    "unknown key 'static_quant.w_dtyp'; did you mean 'w_dtype'?"),
    "unknown global key": ({"rtn": {"global": {"bitz": 4}}}, {}, "unknown key 'rtn.bitz'; did you mean 'bits'?"),
    "no parameters": ({"rtn": 4}, {}, "pass 'rtn' takes a mapping of parameters; got int"),
    "own no parameters": ({"pruning": 4}, {}, "pass 'pruning' takes a mapping of parameters; got int"),
    "framework": (OtherConfig(), {},
                  "algorithm 'of_another' is one for other, the model is a torch module; use a torch one"),
    "framework by name": ({"of_another": {}}, {},
                          "algorithm 'of_another' is one for other, the model is a torch module; use a torch one"),
    "no run_fn": (STATIC, {"run_fn": None},
                  "pass 'static_quant' needs `run_fn`, which calls the model on calibration batches"),
    "run_fn is data": (STATIC, {"run_fn": [1]}, "`run_fn` must be a function of the model; got list"),
    "run_fn never calls": (
        STATIC, {"run_fn": lambda model: None},
        "`run_fn` never called the model; let it call the model that it is given, on calibration data"),
    "run_fn fails": (STATIC, {"run_fn": fails}, "`run_fn` failed with KeyError: 'no such table'"),
    "few samples": (EarlyExitConfig(), {"run_fn": lambda model: model(INPUTS[:3])},
                    "`run_fn` gave pass 'early_exit' fewer than 4 samples; let it call the model on more batches"),
    "eval_fn fails": (STATIC, {"eval_fn": fails}, "`eval_fn` failed with KeyError: 'no such table'"),
    "eval_fn NaN": (STATIC, {"eval_fn": lambda model: math.nan},
                    "`eval_fn` must return a finite number; it returned nan"),
    "eval_fn dict": (STATIC, {"eval_fn": lambda model: {"accuracy": 0.9}},
                     "`eval_fn` must return one number, larger is better; it returned a dict"),
    "eval_fn zero": (STATIC, {"eval_fn": lambda model: 0},
                     "`eval_fn` gives the model itself 0; it must be above 0, larger is better"),
    "eval_fn loss": (STATIC, {"eval_fn": lambda model: -0.4},
                     "`eval_fn` gives the model itself -0.4; it must be above 0, larger is better"),
    "no eval_fn": (STATIC, {"tolerable_loss": 0.1},
                   "`tolerable_loss` is a loss of what `eval_fn` returns; give that function as well"),
    "no loss": (STATIC, {"tolerable_loss": 1.5, "eval_fn": accuracy},
                "`tolerable_loss` is 1.5, which allows a loss of 150 %; did you mean 0.015?"),
    "samples": (STATIC, {"data": {}}, "passes in memory use no labelled `data`; give `run_fn` or a recipe"),
    "recipe and run_fn": ("recipe.yaml", {}, "a recipe calibrates on its own split; leave `run_fn` out"),
    "recipe and loss": ({"export": {}}, {"run_fn": None, "tolerable_loss": 0.1},
                        "a recipe sets its goals under `dynamic_exit.tuning`; leave `tolerable_loss` out"),
    "recipe in place": ({"export": {}}, {"run_fn": None, "inplace": True},
                        "a recipe writes a folder and leaves the model as it was; leave `inplace` out"),
    "sequence": (EarlyExitConfig(sequence={}), {},
                 "pass 'early_exit' builds sequence networks only in a recipe; leave `sequence` out"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_leave_the_model_as_it_was(model, case):
    passes, changes, message = REFUSALS[case]
    if case == "samples":
        passes = [passes]
    with pytest.raises(DynamicExitError) as refused:
        compress(model, passes, **{"run_fn": feed, **changes})
    assert str(refused.value) == message


@pytest.mark.parametrize("inplace", [False, True])
def test_a_failure_after_passes_have_run_changes_nothing(model, inplace):
    scores = iter([0.9, 0.7])
    with pytest.raises(DynamicExitError) as refused:
        compress(model, {"pruning": PRUNING, **STATIC, "early_exit": EXITS}, run_fn=feed, inplace=inplace,
                 eval_fn=lambda model: next(scores), tolerable_loss=0.05)  # fmt: skip
    assert str(refused.value) == (
        "the compressed model scores 0.7 and the given one 0.9, a loss of 22.22%; `tolerable_loss` is 5.00%; allow "
        "more or compress less"
    )


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("second", [math.nan, {"accuracy": 0.9}, KeyError("no such table")])
def test_an_evaluation_function_that_fails_in_the_end_changes_nothing(model, second, inplace):
    answers = iter([0.9, second])

    def score(model):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(DynamicExitError, match="^`eval_fn` (must return|failed with KeyError)"):
        compress(model, {"pruning": PRUNING}, run_fn=feed, eval_fn=score, inplace=inplace)


def test_an_algorithm_of_neural_compressor_that_fails_is_named(model):
    with pytest.raises(DynamicExitError) as refused:
        compress(model, [{"pruning": PRUNING}, {"rtn": {"dtype": "int5000"}}], run_fn=feed)
    assert str(refused.value).startswith("Neural Compressor's 'rtn' failed with ")
    assert str(refused.value).endswith("; the model is as it was")


@pytest.mark.parametrize("form", ["weights alone", "static"])
def test_a_quantized_model_is_refused(form):
    given = compress(tiny.backbone(), {"rtn": RTN} if form == "weights alone" else STATIC, run_fn=feed)
    for passes in ({"early_exit": EXITS}, {"rtn": RTN}):
        with pytest.raises(DynamicExitError, match=r"^the model is quantized already \(.*\); give it in float"):
            compress(given, passes, run_fn=feed)
    with pytest.raises(DynamicExitError, match="^the model is quantized already"):
        quantize(given, EarlyExitConfig(), run_fn=feed)


def test_something_else_than_a_model_is_refused():
    with pytest.raises(DynamicExitError, match="^a model must be a torch.nn.Module; got str$"):
        compress("resnet18", EarlyExitConfig(), run_fn=feed)


def test_several_inputs_are_refused(model):
    with pytest.raises(DynamicExitError) as refused:
        compress(Named(), EarlyExitConfig(), run_fn=lambda model: model(INPUTS, unused=1))
    assert str(refused.value) == (
        "pass 'early_exit' takes models of one tensor in memory; `run_fn` gives Tensor, unused; run a recipe instead"
    )


def test_the_other_framework_is_registered_with_neural_compressor():
    assert config_registry.get_cls_configs()["other"] == {"of_another": OtherConfig}


@pytest.mark.parametrize("flat", [False, True])
def test_a_model_of_one_logit_answers_with_two(flat):
    """As in recipes: -z/2 and z/2, said once."""
    torch.manual_seed(0)
    model = nn.Sequential(tiny.backbone(), nn.Linear(3, 1), *([nn.Flatten(0)] if flat else [])).eval()
    with pytest.warns(UserWarning, match="^the model gives one logit z, which is taken as the logits -z/2 and z/2"):
        dynamic = compress(model, [EarlyExitConfig(**EXITS)], run_fn=feed)
    dynamic.set_thresholds([math.inf] * len(dynamic.chain))
    with torch.no_grad():
        half = model(INPUTS[:9]).reshape(-1, 1) / 2
        torch.testing.assert_close(dynamic(INPUTS[:9]).logits, torch.cat([-half, half], 1))


def test_a_sigmoid_over_one_output_is_refused():
    model = nn.Sequential(tiny.backbone(), nn.Linear(3, 1), nn.Sigmoid()).eval()
    with pytest.raises(ModelError, match="^the model ends in a sigmoid over its only output, and logits are wanted"):
        compress(model, [EarlyExitConfig(**EXITS)], run_fn=feed)
