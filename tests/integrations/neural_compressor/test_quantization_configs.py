"""Plain configurations of Neural Compressor, run as its users run them, and again with a `dynamic_exit` stanza."""

import copy
import gc
import math
import os
from importlib.util import find_spec

import pytest
import tiny
import torch
import transformers
from neural_compressor.torch.export import export
from neural_compressor.torch.quantization import (
    AWQConfig,
    DynamicQuantConfig,
    FP8Config,
    GPTQConfig,
    HQQConfig,
    MixedPrecisionConfig,
    MXQuantConfig,
    RTNConfig,
    StaticQuantConfig,
    convert,
    get_default_rtn_config,
    prepare,
    quantize,
)
from torch import nn

from dynamic_exit import DynamicExitConfig, compress
from dynamic_exit.errors import DynamicExitError
from dynamic_exit.integrations.neural_compressor import quantization
from dynamic_exit.integrations.neural_compressor.calibration import CalibrationCalls
from dynamic_exit.passes.quantization.config import known_algorithms
from dynamic_exit.passes.quantization.detect import what_is_quantized

EXITS = {"count": 1, "training": {"epochs": 2}}
FLOAT = {"w_dtype": "fp32", "act_dtype": "fp32"}
IMAGES = torch.from_numpy(tiny.samples("train")[0][:96])
WORDS = torch.randint(1, 50, (16, 8), generator=torch.Generator().manual_seed(0))
NUMBERS = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", autouse=True)
def little_garbage():
    """HQQ collects garbage three times for each layer, which takes seconds where many modules are loaded."""
    gc.freeze()


def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)).eval()


def language_model(family, **sizes):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(vocab_size=50, num_labels=3, pad_token_id=0, **sizes)
    return getattr(transformers, f"{family}ForSequenceClassification")(config).eval()


def opt():
    sizes = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return language_model("OPT", **sizes, max_position_embeddings=32, word_embed_proj_dim=32)


def llama():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return language_model("Llama", **sizes, max_position_embeddings=32)


def gpt2():
    return language_model("GPT2", n_embd=32, n_layer=2, n_head=2, n_positions=32, bos_token_id=1, eos_token_id=2)


def feed(inputs):
    return lambda model: [model(rows) for rows in inputs.split(12)] and None


# algorithm: model, inputs, configuration, and how it is run; `path` stands for an empty folder
WORKING = {
    "rtn": (layers, NUMBERS, lambda path: RTNConfig(bits=4, group_size=32), "quantize"),
    "rtn by default": (llama, WORDS, lambda path: get_default_rtn_config(), "prepare"),
    "rtn of some layers": (
        layers, NUMBERS, lambda path: RTNConfig().set_local("2", RTNConfig(dtype="fp32")), "quantize"),
    "gptq": (llama, WORDS, lambda path: GPTQConfig(model_path="."), "quantize"),
    "gptq of another model": (opt, WORDS, lambda path: GPTQConfig(model_path=".", bits=8), "prepare"),
    "awq": (opt, WORDS, lambda path: AWQConfig(), "quantize"),
    "awq of another model": (llama, WORDS, lambda path: AWQConfig(bits=8, use_sym=False), "prepare"),
    "static_quant": (tiny.backbone, IMAGES, lambda path: StaticQuantConfig(), "quantize"),
    "static_quant by other rules": (
        tiny.backbone, IMAGES, lambda path: StaticQuantConfig(act_sym=True, act_algo="kl"), "prepare"),
    "static_quant of some layers": (
        tiny.backbone, IMAGES,
        lambda path: StaticQuantConfig().set_local(["block2", nn.Linear], StaticQuantConfig(**FLOAT)), "quantize"),
    "pt2e_dynamic_quant": (layers, NUMBERS, lambda path: DynamicQuantConfig(), "quantize"),
    "hqq": (layers, NUMBERS, lambda path: HQQConfig(), "quantize"),
    "mx_quant": (layers, NUMBERS, lambda path: MXQuantConfig(), "prepare"),
    "mixed_precision": (layers, NUMBERS, lambda path: MixedPrecisionConfig(dtype="bf16"), "quantize"),
    "fp8_quant": (
        layers, NUMBERS,
        lambda path: FP8Config(use_qdq=True, scale_method="maxabs_pow2", dump_stats_path=f"{path}/measure"), "prepare"),
}  # fmt: skip


def plain(make, inputs, config, how):
    """What Neural Compressor's users run: an exported model for PT2E, example inputs where AWQ wants them."""
    model = make()
    if config.name in ("static_quant", "pt2e_dynamic_quant"):
        model = export(model, (inputs[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    if how == "quantize":
        return quantize(model, config, run_fn=feed(inputs), example_inputs=inputs[:1])
    prepared = prepare(model, config, example_inputs=inputs[:1])
    feed(inputs)(prepared)
    return convert(prepared)


def logits(model, inputs):
    with torch.no_grad():
        answer = model(inputs)
    return getattr(answer, "logits", answer)


def tensors(model):
    """Weights, scales and zero points, packed as the algorithm packs them."""
    found = {}
    for name, value in model.state_dict().items():
        parts = value if isinstance(value, dict) else {"": value}
        name = name.removeprefix("model.")  # what was exported for PT2E
        found |= {name + key: part.clone() for key, part in parts.items() if isinstance(part, torch.Tensor)}
    return found


def numbers(*graphs):
    """Scales, zero points and ranges of activations, as they stand in graphs."""
    nodes = [node for graph in graphs for node in graph.graph.nodes if "quantize_per_tensor" in str(node.target)]
    return sorted(tuple(map(str, node.args[1:3])) for node in nodes)


@pytest.mark.parametrize("case", WORKING)
def test_a_stanza_leaves_the_static_part_as_it_was(case, tmp_path):
    make, inputs, config, how = WORKING[case]
    expected = plain(make, inputs, config(tmp_path), how)
    answers, kinds = logits(expected, inputs), {type(part).__name__ for part in expected.modules()}
    weights = tensors(expected)
    assert what_is_quantized(expected) and not torch.equal(answers, logits(make(), inputs))

    model = make()
    alone = compress(model, config(tmp_path), run_fn=feed(inputs))
    inner = getattr(alone, "body", alone)
    assert torch.equal(logits(alone, inputs), answers)
    assert {type(part).__name__ for part in inner.modules()} == kinds
    found = tensors(inner)
    assert found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in weights)

    dynamic = compress(model, [config(tmp_path), DynamicExitConfig(early_exit=EXITS)], run_fn=feed(inputs))
    assert len(dynamic.chain) == 1
    assert not torch.equal(dynamic(inputs).exit_index, torch.zeros(len(inputs), dtype=torch.int64))
    dynamic.set_thresholds([math.inf])
    assert torch.equal(logits(dynamic, inputs), answers)
    if config(tmp_path).name == "static_quant":
        assert numbers(*[segment.body for segment in dynamic.segments]) == numbers(expected)
        assert numbers(expected)
    assert all(torch.equal(value, make().state_dict()[name]) for name, value in model.state_dict().items())


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = tiny.backbone()

    def forward(self, pixels):
        return {"logits": self.inner(pixels)}


def test_inputs_by_name_one_at_a_time_and_answers_in_a_mapping():
    config = StaticQuantConfig().set_local("inner.block2", StaticQuantConfig(**FLOAT))
    body = export(Named().eval(), (IMAGES[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    made = quantize(body, copy.deepcopy(config), run_fn=lambda model: [model(rows) for rows in IMAGES[:12].split(1)])
    with torch.no_grad():
        expected = made(IMAGES)["logits"]

    def calibrate(model):
        for rows in IMAGES[:12].split(1):
            model(pixels=rows)

    assert torch.equal(compress(Named().eval(), config, run_fn=calibrate)(pixels=IMAGES), expected)
    dynamic = compress(Named().eval(), [config, {"early_exit": EXITS}], run_fn=calibrate)
    dynamic.set_thresholds([math.inf])
    assert torch.equal(dynamic(pixels=IMAGES).logits, expected)


@pytest.mark.parametrize(
    "recipe",
    [
        {"static_quant": {"act_sym": True}, "dynamic_exit": {"early_exit": EXITS}},
        {"dynamic_exit": {"quantization": {"static_quant": {"act_sym": True}}, "early_exit": EXITS}},
        {"pt2e_dynamic_quant": {}, "dynamic_exit": {"early_exit": EXITS}},
        {"rtn": {"bits": 8}, "early_exit": EXITS},
    ],
    ids=["beside", "inside", "of each batch", "weights"],
)
def test_mappings_say_the_same(recipe):
    name, parameters = next(iter(recipe.get("dynamic_exit", {}).get("quantization", recipe).items()))
    kinds = {"static_quant": StaticQuantConfig, "pt2e_dynamic_quant": DynamicQuantConfig, "rtn": RTNConfig}
    expected = logits(plain(tiny.backbone, IMAGES, kinds[name](**parameters), "quantize"), IMAGES)
    dynamic = compress(tiny.backbone(), recipe, run_fn=feed(IMAGES))
    dynamic.set_thresholds([math.inf] * len(dynamic.chain))
    assert torch.equal(logits(dynamic, IMAGES), expected)


def test_the_shape_of_the_input_is_enough_where_ranges_are_found_for_each_batch():
    expected = logits(plain(layers, NUMBERS, DynamicQuantConfig(), "quantize"), NUMBERS)
    for example in (NUMBERS[:3], (NUMBERS[:1],)):
        made = compress(layers(), DynamicQuantConfig(), example_inputs=example)
        assert torch.equal(logits(made, NUMBERS), expected)
        assert torch.equal(logits(made.eval().train(), NUMBERS), expected)


_STACK = "it works block by block, and this model has no stack of equal blocks as Hugging Face's transformers have"
_FP8 = "on a CPU it needs `use_qdq: true` and a `scale_method` of no accelerator, such as 'maxabs_pow2'; set both"
# algorithm: model, parameters, the reason, and whether another machine could
REFUSED = {
    "smooth_quant": (
        layers, {}, "the package 'intel-extension-for-pytorch' is not installed; install it",
        find_spec("intel_extension_for_pytorch")),
    "autoround": (layers, {}, "the package 'auto-round' is not installed; install it", find_spec("auto_round")),
    "hybrid_gptq": (
        layers, {}, "it needs a Gaudi accelerator (hpu), this machine has cpu; use 'gptq'", torch.cuda.is_available()),
    "fp8_quant": (layers, {}, _FP8, torch.cuda.is_available()),
    "teq": (
        layers, {}, "it trains inside `run_fn`, of which only the calls of the model are known; use 'awq' or 'gptq'",
        None),
    "gptq": (layers, {}, f"{_STACK}; use 'rtn'", None),
    "awq": (layers, {}, f"{_STACK}, in an nn.ModuleList; use 'rtn'", None),
    "gptq ": (
        gpt2, {}, "its blocks hold Conv1D of transformers, which Neural Compressor's GPTQ cannot quantize; use 'awq'",
        None),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("form", ["alone", "beside", "inside"])
def test_what_cannot_run_here_is_refused_with_the_reason(case, form):
    make, parameters, reason, elsewhere = REFUSED[case]
    if elsewhere:
        pytest.skip(f"this machine can run {case.strip()}: it is refused only where that is missing")
    name, exits = case.strip(), {"early_exit": EXITS}
    passes = {
        "alone": {name: parameters},
        "beside": [{name: parameters}, exits],
        "inside": {"dynamic_exit": {"quantization": {name: parameters}, **exits}},
    }[form]
    model, called = make(), []
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(DynamicExitError) as refused:
        compress(model, passes, run_fn=called.append)
    assert str(refused.value) == f"algorithm '{name}' cannot run here: {reason}"
    assert not called
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_every_algorithm_of_neural_compressor_is_run_or_refused():
    tried = {case.split()[0] for case in [*WORKING, *REFUSED]}
    assert {name for name in known_algorithms() if not name.endswith("of_a_test")} <= tried


def test_gptq_of_a_model_without_blocks_is_silently_wrong_in_neural_compressor():
    made = quantize(layers(), GPTQConfig(model_path="."), run_fn=feed(NUMBERS))
    assert (logits(made, NUMBERS) - logits(layers(), NUMBERS)).abs().max() > 100


@pytest.mark.parametrize("passes", [{"rtn": {}}, {"hqq": {}}, {"mx_quant": {}}])
def test_a_model_without_what_an_algorithm_quantizes_is_refused(passes):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    (name,) = passes
    quantized = quantize(copy.deepcopy(model), passes, run_fn=feed(IMAGES))
    assert quantized.is_quantized and what_is_quantized(quantized) is None
    with pytest.raises(DynamicExitError) as refused:
        compress(model, passes, run_fn=feed(IMAGES))
    assert str(refused.value) == f"'{name}' found nothing to quantize in this model; leave it out"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (StaticQuantConfig().set_local("blok2", StaticQuantConfig()), "'blok2'; did you mean 'block2'?"),
        (RTNConfig().set_local("heat.*", RTNConfig()), "'heat.*'; did you mean 'head.2'?"),
        (RTNConfig().set_local(nn.LSTM, RTNConfig()), "'LSTM'; known are: "),
    ],
)
def test_a_local_configuration_of_nothing_is_refused(config, message):
    """Neural Compressor says nothing."""
    with pytest.raises(DynamicExitError) as refused:
        compress(tiny.backbone(), config, run_fn=feed(IMAGES))
    assert str(refused.value).startswith(f"algorithm '{config.name}' finds no module {message}")


def test_an_exported_model_is_refused():
    model = export(tiny.backbone(), (IMAGES[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    with pytest.raises(DynamicExitError) as refused:
        compress(model, StaticQuantConfig(), run_fn=feed(IMAGES))
    assert str(refused.value) == (
        "the model is an exported graph, which has no modules to cut; give what it was made of"
    )


@pytest.mark.parametrize(("name", "place"), [("awq", "cpu"), ("rtn", None)])
def test_awq_alone_is_kept_off_a_gpu(monkeypatch, name, place):
    """Neural Compressor's AWQ moves the model there, and not what it recorded of it."""
    seen = []

    def spy(model, config, **rest):
        seen.append(os.environ.get("INC_TARGET_DEVICE"))
        return quantize(model, config, **rest)

    monkeypatch.delenv("INC_TARGET_DEVICE", raising=False)
    monkeypatch.setattr(quantization, "quantize", spy)
    compress(opt(), {name: {}}, run_fn=feed(WORDS))
    assert seen == [place] and "INC_TARGET_DEVICE" not in os.environ


def test_calls_are_repeated_where_the_model_is():
    """Neural Compressor moves models to a GPU before it calibrates them; `meta` stands for one."""
    calls = CalibrationCalls((((NUMBERS,), {}), ((), {"input": NUMBERS})))
    places = []
    model = nn.Linear(NUMBERS.shape[1], 2).to("meta")
    model.register_forward_hook(lambda _, given, answer: places.append(answer.device.type))
    calls.replay(model)
    assert places == ["meta", "meta"]
