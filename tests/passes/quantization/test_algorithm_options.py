import pytest

from dynamic_exit.errors import RecipeError
from dynamic_exit.onnx.quantize import QuantizationOptions
from dynamic_exit.passes.quantization import check_algorithms, int8_options
from dynamic_exit.passes.quantization.config import ONNX_CHOICES, ONNX_DEFAULTS, known_algorithms


@pytest.mark.parametrize("stanza", [None, {}])
def test_without_a_stanza_everything_stays_in_float(stanza):
    assert int8_options(stanza) == []


def test_defaults_are_neural_compressors_own():
    from neural_compressor.torch.quantization import INT8StaticQuantConfig

    theirs = INT8StaticQuantConfig()
    assert int8_options({"static_quant": None}) == [
        QuantizationOptions(
            weight_type=theirs.w_dtype,
            weight_symmetric=theirs.w_sym,
            per_channel=theirs.w_granularity == "per_channel",
            activation_type=theirs.act_dtype,
            activation_symmetric=theirs.act_sym,
            calibration=theirs.act_algo,
        )
    ]


def test_several_algorithms_are_told_apart():
    dynamic, weights = int8_options({"pt2e_dynamic_quant": {}, "rtn": {"bits": 8, "group_size": 64, "use_sym": False}})
    assert (dynamic.method, dynamic.label, dynamic.per_channel) == ("dynamic", "int8", False)
    assert weights == QuantizationOptions("weights", weight_symmetric=False, bits=8, group=64)
    assert weights.label == "8-bit weights"


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"w_dtype": "uint8"}, "weight_type", "uint8"),
        ({"w_sym": False}, "weight_symmetric", False),
        ({"w_granularity": "per_tensor"}, "per_channel", False),
        ({"w_granularity": "per_channel"}, "per_channel", True),
        ({"act_dtype": "int8"}, "activation_type", "int8"),
        ({"act_sym": True}, "activation_symmetric", True),
        ({"act_algo": "minmax"}, "calibration", "minmax"),
        ({"act_algo": "kl"}, "calibration", "kl"),
    ],
)
def test_each_parameter_means_what_it_says(given, field, value):
    (found,), (default,) = int8_options({"static_quant": given}), int8_options({"static_quant": {}})
    assert getattr(found, field) == value
    others = [name for name in vars(found) if name != field]
    assert all(getattr(found, name) == getattr(default, name) for name in others)


@pytest.mark.parametrize(
    ("stanza", "message"),
    [
        ({"static_qant": {}}, "unknown key 'quantization.static_qant'; did you mean 'static_quant'?"),
        (
            {"static_quant": {"w_algos": "kl"}},
            "unknown key 'quantization.static_quant.w_algos'; did you mean 'w_algo'?",
        ),
        (
            {"gptq": {}},
            "key 'quantization.gptq' cannot be exported to ONNX; use 'static_quant' or 'pt2e_dynamic_quant' or 'rtn'",
        ),
        ({"rtn": {"bits": 3}}, "key 'quantization.rtn.bits' must be 4 or 8 for ONNX; got 3"),
        ({"rtn": {"group_dim": 0}}, "key 'quantization.rtn.group_dim' has no effect on ONNX; leave it out"),
        (
            {"static_quant": {"w_dtype": "fp8"}},
            "key 'quantization.static_quant.w_dtype' must be 'int8' or 'uint8' for ONNX; got 'fp8'",
        ),
        (
            {"static_quant": {"act_granularity": "per_channel"}},
            "key 'quantization.static_quant.act_granularity' must be 'per_tensor' for ONNX; got 'per_channel'",
        ),
        (
            {"static_quant": {"w_sym": "yes"}},
            "key 'quantization.static_quant.w_sym' must be true or false for ONNX; got 'yes'",
        ),
        (
            {"static_quant": {"excluded_precisions": ["bf16"]}},
            "key 'quantization.static_quant.excluded_precisions' has no effect on ONNX; leave it out",
        ),
    ],
)
def test_refusals(stanza, message):
    with pytest.raises(RecipeError) as refused:
        int8_options(stanza)
    assert str(refused.value) == message


def test_what_is_checked_without_neural_compressor_is_what_it_says():
    known = known_algorithms()
    assert {name: known[name] for name in ONNX_CHOICES} == ONNX_DEFAULTS


def test_parameters_of_other_algorithms_are_known_too():
    check_algorithms({"rtn": {"bits": 4, "group_size": 32}})
    with pytest.raises(RecipeError, match="must name one algorithm; got 2: static_quant, rtn"):
        check_algorithms({"static_quant": {}, "rtn": {}})
    with pytest.raises(RecipeError) as refused:
        check_algorithms({"rtn": {"group_sise": 32}})
    assert str(refused.value) == "unknown key 'quantization.rtn.group_sise'; did you mean 'group_size'?"
