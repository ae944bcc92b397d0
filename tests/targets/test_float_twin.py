"""Float rows of the benchmark are the float model, whatever the quantizer takes in; else they say so, or are none."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import tiny
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from dynamic_exit.analysis.benchmark import _open_models, benchmark_folder
from dynamic_exit.artifact.manifest import read_manifest
from dynamic_exit.errors import ExportError
from dynamic_exit.onnx.dequantize import dequantize_part
from dynamic_exit.onnx.opset import OPSET, ir_version
from dynamic_exit.onnx.part import OUTPUT, Part
from dynamic_exit.onnx.quantize import QuantizationOptions, quantize_part
from dynamic_exit.onnx.session import PartSession
from dynamic_exit.pipeline.run import run
from dynamic_exit.points.operating_point import OperatingPoints, point_thresholds
from dynamic_exit.recipe import read_recipe
from dynamic_exit.runtime.stages import Stage, StageSet
from dynamic_exit.targets import float_twin, onnxruntime
from dynamic_exit.targets.float_twin import ROUNDED
from dynamic_exit.targets.measure import Variant, answer

CHANNELS, LENGTH = 4, 8
WEIGHTS = {
    "Conv": [(CHANNELS, CHANNELS, 3), (CHANNELS,)],
    "BatchNormalization": [(CHANNELS,)] * 4,
    "MatMul": [(LENGTH, LENGTH)],
    "Gemm": [(CHANNELS * LENGTH, 6), (6,)],
}
ATTRIBUTES = {"Conv": {"pads": [1, 1]}, "LeakyRelu": {"alpha": 0.1}, "ReduceMean": {"keepdims": 0}}


def part_of(steps):
    """A part that does one step after the other on maps (N, 4, 8).

    ``+`` adds what it was given, ``keep`` remembers what there is, ``+kept`` adds that.
    """
    generator = np.random.default_rng(0)
    nodes, held, value, kept = [], [], "x", ""
    for index, step in enumerate(steps.split()):
        kind, *limits = step.split(",")
        if kind == "keep":
            kept = value
            continue
        arrays = [
            generator.uniform(0.2, 1.0, shape) * generator.choice([-1, 1], shape) for shape in WEIGHTS.get(kind, ())
        ]
        if kind == "BatchNormalization":
            arrays[3] = np.abs(arrays[3])
        arrays += [np.array(float(limit)) if limit else None for limit in limits]
        if kind == "ReduceMean":
            arrays = [np.array([2])]
        names = [f"w{index}_{place}" if array is not None else "" for place, array in enumerate(arrays)]
        kinds = np.int64 if kind == "ReduceMean" else np.float32
        held += [
            numpy_helper.from_array(array.astype(kinds), name)
            for name, array in zip(names, arrays, strict=True)
            if name
        ]
        names = {"+": ["x"], "+kept": [kept]}.get(kind, names)
        op = "Add" if kind.startswith("+") else kind
        nodes.append(helper.make_node(op, [value, *names], [f"v{index}"], name=f"n{index}", **ATTRIBUTES.get(kind, {})))
        value = f"v{index}"
    nodes[-1].output[0] = OUTPUT
    takes = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", CHANNELS, LENGTH])]
    gives = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "part", takes, gives, initializer=held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=ir_version(OPSET))
    return Part("part", onnx.shape_inference.infer_shapes(made), ("x",), "hidden")


ENDS = {
    "sum and ReLU at the end": "Conv + Relu",
    "sum and ReLU6 at the end": "Conv + Clip,0,6",
    "sum and one-sided clip at the end": "Conv + Clip,-0.2",
    "sum and upper clip at the end": "Conv + Clip,,0.3",
    "ReLU behind a convolution at the end": "Conv Relu",
    "ReLU behind a product at the end": "MatMul Relu",
    "sum, ReLU and a layer behind it": "Conv + Relu Conv",
    "batch norm and ReLU at the end": "Conv BatchNormalization Relu",
    "batch norm, sum and ReLU at the end": "Conv BatchNormalization + Relu",
    "batch norm before its layer": "BatchNormalization Relu Conv",
    "two activations at the end of a sum": "Conv + Relu Clip,0.1,0.5",
    "two activations between layers": "Conv Relu Clip,,0.5 Conv",
    "ReLU at the beginning": "Relu Conv",
    "ReLU that two read": "Conv Relu keep Conv +kept Relu",
    "ReLU whose input is read too": "Conv keep Relu Conv +kept",
    "ReLU and pooling": "Conv + Relu GlobalAveragePool",
    "ReLU and mean": "Conv + Relu ReduceMean",
    "head that ends in ReLU": "Flatten Gemm Relu",
    "head": "Conv + Relu Flatten Gemm",
    "LeakyReLU": "Conv + LeakyRelu",
    "hard swish": "Conv + HardSwish",
    "sigmoid": "Conv + Sigmoid",
    "GELU between products": "MatMul Gelu MatMul",
}
FIRST = next(iter(ENDS))


@pytest.mark.parametrize(
    "end, options",
    [
        *((end, QuantizationOptions()) for end in ENDS),
        (FIRST, QuantizationOptions(per_channel=False)),
        (FIRST, QuantizationOptions(activation_type="int8", activation_symmetric=True)),
        (FIRST, QuantizationOptions(weight_symmetric=False, weight_type="uint8", per_channel=False)),
    ],
    ids=[*ENDS, "per tensor", "symmetric", "unsigned weights"],
)
def test_with_int8_taken_out_a_part_is_the_float_part_but_for_the_rounding_of_weights(end, options):
    part = part_of(ENDS[end])
    inputs = np.random.default_rng(1).normal(size=(64, CHANNELS, LENGTH)).astype(np.float32)
    int8 = quantize_part(part, [{"x": inputs}], options)
    back = dequantize_part(int8)
    plain, twin = (PartSession(each).run(inputs) for each in (part, back))
    assert int8 is not part
    assert np.abs(twin - plain).max() < 0.1 * np.abs(plain).max()  # an activation less: two thirds of it, and more


RESIDUAL = """
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, width, 3, padding=1), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1), nn.BatchNorm1d(width),
        )

    def forward(self, x):
        return (x + self.body(x)).relu()


class Series(nn.Module):
    def __init__(self, width, blocks, classes):
        super().__init__()
        self.stem = nn.Conv1d(6, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.head = nn.Linear(width * 6, classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x.flatten(1, 2))).flatten(1))


def backbone(classes=3):
    return Series(8, 3, classes)


def saver(width=2, classes=3):
    return Series(width, 1, classes)
"""


def residual(folder, **changes):
    """Write the tiny recipe with 1-D residual networks, a little trained."""
    path = tiny.build(folder, **changes)
    (folder / "models.py").write_text(RESIDUAL)
    space = {"__name__": "residual"}
    exec(RESIDUAL, space)  # the text above
    inputs, labels = map(torch.from_numpy, tiny.samples("train"))
    for name, make in {"backbone": space["backbone"], "saver2": space["saver"],
                       "saver4": lambda: space["saver"](4)}.items():  # fmt: skip
        torch.manual_seed(0)
        model = make()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(15):
            for rows in torch.randperm(len(inputs)).split(64):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
                optimizer.step()
        save_file(model.state_dict(), folder / f"{name}.safetensors")
        if name == "backbone":
            backbone = model.eval()
    return path, backbone


@pytest.mark.parametrize("layout", ["single", "segments"])
def test_float_rows_of_a_residual_network_answer_as_the_float_model_on_every_sample(layout, tmp_path, monkeypatch):
    points = [{"max_accuracy_drop": 0.1}]
    path, backbone = residual(tmp_path / "recipe", export__layout=layout, dynamic_exit__tuning__points=points)
    verified, verify = [], onnxruntime.OnnxModel.verify
    monkeypatch.setattr(
        onnxruntime.OnnxModel, "verify", lambda self, *given: (verified.append(self), verify(self, *given))[1]
    )
    folder = run(read_recipe(path)).folder
    config, (model,) = read_manifest(folder), verified  # its float file was held against torch
    inputs, _ = tiny.samples("test")
    with torch.no_grad():
        expected = backbone(torch.from_numpy(inputs)).argmax(1).numpy()
    assert config.float_twin["verified"] and len(config.float_twin["parts"]) >= 3
    models, note = _open_models(folder, config, 1)
    assert [each.numerics for each in models] == ["float", "int8"] and note is None
    feeds = {config.inputs[0]["name"]: inputs}
    assert np.array_equal(answer(models[0].variant(None), feeds, 0)[0].argmax(1), expected)
    for point in OperatingPoints.read(folder / "operating_points.json").points:
        found, rows = (
            answer(variant, feeds, 0)
            for variant in (
                models[0].variant(point),
                Variant(model.files["float"].session, point_thresholds(point, model.stages.chain)),
            )
        )
        assert np.array_equal(found[0].argmax(1), rows[0].argmax(1)) and np.array_equal(found[1], rows[1])
    # elsewhere the weights are those of the int8 file: the backbone is nearer to the float one than int8 is
    monkeypatch.setenv("DYNAMIC_EXIT_CACHE", str(tmp_path / "elsewhere"))
    (twin, int8), note = _open_models(folder, config, 1)
    assert (twin.numerics, int8.numerics) == (ROUNDED, "int8") and "calibration samples" in note
    plain, rounded, small = (answer(each.variant(None), feeds, 0)[0] for each in (models[0], twin, int8))
    assert 0 < np.square(rounded - plain).mean() < np.square(small - plain).mean()


@pytest.fixture
def elsewhere(ran, tmp_path, monkeypatch):
    """A copy of an int8 folder on a machine that has not run the recipe, and what changes its configuration."""
    monkeypatch.setenv("DYNAMIC_EXIT_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(ran.folder, tmp_path / "copy")

    def change(**values):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))
        return folder

    return change


def rows_of(folder):
    found = benchmark_folder(folder, *tiny.samples("test"), batch_sizes=(8,), time_limit=0.0)
    return {row["numerics"] for row in found["rows"]}, " ".join(found["notes"])


VERIFIED = {"parts": ["segment0"], "verified": True, "samples": 200, "differ": {"saver2": 0, "final": 3}}


@pytest.mark.parametrize(
    "told, numerics, sentence",
    [
        (VERIFIED, {ROUNDED, "int8"}, "by that a stage answers otherwise on 3 of 200 calibration samples"),
        (None, {"int8"}, "does not say that its float twin was held against the float model; run the recipe again"),
        ({**VERIFIED, "verified": False}, {"int8"}, "answers otherwise than the float model, on 3 of 200 calibration"),
        (
            {**VERIFIED, "verified": False, "samples": 0, "differ": {}},
            {"int8"},
            "cannot be taken out of its files; run",
        ),
        ({"parts": [], "verified": False, "samples": 0, "differ": {}}, {"int8"}, ""),
    ],
    ids=["verified", "an older folder", "answers otherwise", "other quantization", "came quantized"],
)
def test_elsewhere_float_rows_say_what_they_are_or_are_left_out(elsewhere, told, numerics, sentence):
    found, said = rows_of(elsewhere(float_twin=told))
    assert found == numerics and sentence in said and bool(said) == bool(sentence)


def test_where_the_run_was_made_a_copy_has_the_float_model_too(ran, tmp_path):
    folder = shutil.copytree(ran.folder, tmp_path / "copy")
    assert rows_of(folder) == ({"float", "int8"}, "")


def test_float_rows_of_another_file_are_never_taken(ran, tmp_path):
    folder = shutil.copytree(ran.folder, tmp_path / "copy")
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content + b" ")
    with pytest.raises(ExportError, match="model.onnx"):
        rows_of(folder)


def test_a_float_model_has_float_rows_alone(ran_float):
    assert rows_of(ran_float.folder) == ({"float"}, "")
    assert read_manifest(ran_float.folder).float_twin["parts"] == []


@pytest.mark.parametrize(
    "twin, shipped, near",
    [(0.01, 0.1, True), (0.14, 0.1, True), (0.5, 0.1, False), (0.0, 0.0, True), (0.01, 0.0, False)],
    ids=["nearer than int8", "about as near", "far off", "the same", "int8 that loses nothing"],
)
def test_a_twin_is_verified_where_it_is_no_farther_off_than_int8(twin, shipped, near):
    plain = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert float_twin._near(plain, plain + twin, plain + shipped) is near
    assert not float_twin._near(plain, plain * np.nan, plain + shipped)


def one_stage(part, int8):
    return StageSet(("x",), [Stage(None, int8, PartSession(int8), 1.0, part, ())], {"final": 0})


@pytest.mark.parametrize("lost", [False, True], ids=["whole", "an activation lost"])
def test_the_twin_of_every_stage_is_held_against_the_float_stage(lost, monkeypatch):
    part = replace(part_of("Conv + Relu Flatten Gemm"), output_kind="logits")
    inputs = {"x": np.random.default_rng(1).normal(size=(70, CHANNELS, LENGTH)).astype(np.float32)}
    stages = one_stage(part, quantize_part(part, [inputs], QuantizationOptions()))
    if lost:
        monkeypatch.setattr("dynamic_exit.onnx.dequantize._activations", lambda node: [])
    found = float_twin.check_twin(stages, inputs)
    assert (found["parts"], found["verified"], found["samples"]) == (["segment0"], not lost, 70)
    assert (found["differ"]["final"] > 10) == lost
    assert float_twin.check_twin(one_stage(part, part), inputs)["parts"] == []


def test_a_twin_that_cannot_run_is_none(monkeypatch):
    part = replace(part_of("Conv + Relu Flatten Gemm"), output_kind="logits")
    inputs = {"x": np.ones((4, CHANNELS, LENGTH), np.float32)}
    stages = one_stage(part, quantize_part(part, [inputs], QuantizationOptions()))
    monkeypatch.setattr("dynamic_exit.onnx.dequantize._activations", lambda node: [["NoSuchOperator"]])
    assert float_twin.check_twin(stages, inputs) == {
        "parts": ["segment0"],
        "verified": False,
        "samples": 0,
        "differ": {},
    }
    dynamic = quantize_part(part, [inputs], QuantizationOptions("dynamic"))
    assert float_twin.check_twin(one_stage(part, dynamic), inputs)["samples"] == 0
