import concurrent.futures
import json
import shutil

import numpy as np
import onnx
import pytest
import tiny
import torch
from PIL import Image
from transformers import AutoConfig, BaseImageProcessor, pipeline
from transformers.image_processing_utils import BatchFeature

from dynamic_exit import DynamicExitModelForImageClassification as Model
from dynamic_exit.artifact.folder import checksum
from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.errors import ExportError, OperatingPointError
from dynamic_exit.modeling import DynamicExitModelConfig
from dynamic_exit.points.operating_point import OperatingPoints
from dynamic_exit.recipe import read_recipe
from dynamic_exit.records import Records

INPUTS, LABELS = tiny.samples("test")
NAMES = ("accuracy-drop-1%", "accuracy-drop-10%", "frugal", "backbone")
CUDA = "device 'cuda' cannot be chosen here; load the model with provider=, and make a pipeline with device='cpu'"


@pytest.fixture
def model(ran):
    return Model.from_pretrained(ran.folder)


def test_loads_at_the_recipes_default(ran, model):
    point = ran.result.points.by_name("accuracy-drop-1%")
    assert model.operating_point == point
    assert model.stages == ("saver2", "block1:linear", "block3:linear")
    assert model.thresholds.dtype == np.float32
    used = {stage.stage: np.float32(stage.threshold) for stage in point.stages}
    assert used and model.thresholds.tolist() == [used.get(stage, np.inf) for stage in model.stages]
    assert model.config.id2label == {0: "left", 1: "middle", 2: "right"}
    assert model.config.label2id == {"left": 0, "middle": 1, "right": 2}
    assert model.config.inputs == [{"name": "input", "dtype": "float32", "shape": [1, 6, 6]}]


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_the_records(ran, name):
    """Row by row: the same exit, prediction and confidence as the evaluator finds on what each stage said."""
    model = Model.from_pretrained(ran.folder, operating_point=name)
    inputs, _ = tiny.samples("calibration")
    records = Records.read(ran.folder / "records.npz")
    expected = evaluate(records, model.operating_points.by_name(name).configuration)
    answer = model(inputs)
    places = [records.index(stage) for stage in (*model.stages, "final")]
    assert np.array_equal(np.take(places, answer.exit_index), expected.exit_index)
    assert np.array_equal(answer.logits.argmax(1), expected.prediction)
    assert np.abs(answer.confidence - expected.confidence).max() < 1e-5


def test_confidence_is_the_largest_probability(model):
    answer = model(torch.from_numpy(INPUTS))
    torch.testing.assert_close(answer.confidence, answer.logits.softmax(1).amax(1))


def test_a_stage_that_is_off_has_no_part(ran, model):
    seen = 0
    for name in NAMES:
        model.set_operating_point(name)
        for stage in set(model.stages) - {stage.stage for stage in model.operating_point.stages}:
            seen += 1
            assert np.isinf(model.thresholds[model.stages.index(stage)])
            assert model.stages.index(stage) not in model(INPUTS).exit_index
    assert seen >= len(model.stages), "else not even the backbone alone has its stages off"


def test_switching_by_name_and_by_wish(model):
    points = {name: model.operating_points.by_name(name) for name in NAMES}
    runner = model.runner
    for name in NAMES:
        assert model.set_operating_point(name) == points[name] == model.operating_point
    # the cheapest that was tuned for so small a drop, and the most accurate that is cheap enough: by brute force
    for drop in (0.01, 0.02, 0.1, 0.11):
        goals = [(point, point.goal.max_accuracy_drop) for point in points.values() if point.goal]
        fitting = [point for point, goal in goals if goal is not None and goal <= drop]
        assert model.set_operating_point(max_accuracy_drop=drop).cost == min(point.cost for point in fitting)
    for budget in (0.012, 0.02, 0.5, 1.0):
        fitting = [point for point in points.values() if point.cost_ratio <= budget]
        if fitting:
            assert model.set_operating_point(budget=budget).accuracy == max(point.accuracy for point in fitting)
    assert model.runner is runner


def test_a_refused_wish_leaves_the_point_in_force(model):
    before = model.operating_point
    for wish, message in (
        (
            {"name": "frugl"},
            "there is no operating point 'frugl'; known are: accuracy-drop-1%, accuracy-drop-10%, backbone, frugal",
        ),
        ({}, "name an operating point, or give either max_accuracy_drop or budget"),
        ({"name": "frugal", "budget": 0.5}, "name an operating point, or give either max_accuracy_drop or budget"),
        (
            {"max_accuracy_drop": 0.1, "budget": 0.5},
            "name an operating point, or give either max_accuracy_drop or budget",
        ),
        ({"max_accuracy_drop": float("nan")}, "a max_accuracy_drop or budget must be a number; got nan"),
    ):
        with pytest.raises(OperatingPointError) as refused:
            model.set_operating_point(**wish)
        assert str(refused.value) == message
    with pytest.raises(
        OperatingPointError, match="^no operating point costs at most 0.0001 of the backbone; the cheapest"
    ):
        model.set_operating_point(budget=0.0001)
    with pytest.raises(
        OperatingPointError, match="^no operating point was tuned for an accuracy drop of at most 0.005; known are: "
    ):
        model.set_operating_point(max_accuracy_drop=0.005)
    assert model.operating_point == before


def test_torch_in_torch_out_and_numpy_in_numpy_out(model):
    arrays, tensors = model(INPUTS), model(torch.from_numpy(INPUTS))
    for key, dtype in (("logits", np.float32), ("exit_index", np.int64), ("confidence", np.float32)):
        assert isinstance(arrays[key], np.ndarray)
        assert isinstance(tensors[key], torch.Tensor)
        assert arrays[key].dtype == dtype
        assert np.array_equal(arrays[key], tensors[key].numpy())


def test_other_forms_of_the_same_input_give_the_same(model):
    expected = model(INPUTS).logits
    assert np.array_equal(model(pixel_values=INPUTS).logits, expected)
    assert np.array_equal(model(input=INPUTS).logits, expected)
    assert np.array_equal(model(INPUTS.astype(np.float64)).logits, expected)
    turned = np.ascontiguousarray(INPUTS.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    assert np.array_equal(model(turned).logits, expected)
    assert np.array_equal(model(torch.from_numpy(INPUTS).requires_grad_()).logits.numpy(), expected)
    assert np.array_equal(model.to("cpu")(INPUTS).logits, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(INPUTS[0]), "input 'input' must be of shape (batch, 1, 6, 6); got (1, 6, 6)"),
        (lambda m: m(INPUTS[:, :, :5]), "input 'input' must be of shape (batch, 1, 6, 6); got (150, 1, 5, 6)"),
        (lambda m: m(), "the model takes the inputs input; got none"),
        (lambda m: m(images=INPUTS), "the model takes the inputs input; got images"),
        (lambda m: m(INPUTS, mask=INPUTS), "the model takes the inputs input; got input, mask"),
        (lambda m: m.to("cuda"), CUDA),
    ],
)
def test_wrong_inputs_are_refused(model, call, message):
    with pytest.raises(ExportError) as refused:
        call(model)
    assert str(refused.value) == message


def test_fractions_are_not_cut_off_for_a_model_of_whole_numbers(ran):
    config = AutoConfig.from_pretrained(ran.folder)
    config.inputs[0]["dtype"] = "uint8"
    model = Model.from_pretrained(ran.folder, config)
    with pytest.raises(ExportError, match="^input 'input' must be of type uint8; got float32$"):
        model(INPUTS)


def test_what_is_saved_loads_and_answers_the_same(ran, model, tmp_path):
    model.save_pretrained(tmp_path / "copy")
    again = Model.from_pretrained(tmp_path / "copy", operating_point="frugal")
    model.set_operating_point("frugal")
    one, other = model(INPUTS), again(INPUTS)
    for key in ("logits", "exit_index", "confidence"):
        assert np.array_equal(one[key], other[key])
    names = {path.name for path in ran.folder.iterdir()} - {"run.log"}  # of the run, not of the model
    assert {path.name for path in (tmp_path / "copy").iterdir()} == names
    for name in names - {"config.json", "recipe.yaml"}:
        assert (tmp_path / "copy" / name).read_bytes() == (ran.folder / name).read_bytes()
    # its relative paths have become absolute
    recipes = [read_recipe(place / "recipe.yaml") for place in (tmp_path / "copy", ran.folder)]
    moved, kept = (recipe.model_dump(exclude={"export": {"directory"}}) for recipe in recipes)
    assert moved == kept
    # onto itself: nothing is lost
    again.save_pretrained(tmp_path / "copy")
    assert np.array_equal(
        Model.from_pretrained(tmp_path / "copy")(INPUTS).logits, Model.from_pretrained(ran.folder)(INPUTS).logits
    )


def test_the_configuration_is_known_to_transformers(ran, tmp_path):
    config = AutoConfig.from_pretrained(ran.folder)
    assert isinstance(config, DynamicExitModelConfig)
    assert config.manifest.stages == ("saver2", "block1:linear", "block3:linear")
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["model_type"], written["_version"]) == ("dynamic_exit", 2)
    again = AutoConfig.from_pretrained(tmp_path)
    again._name_or_path = config._name_or_path  # where it was read from
    assert again.to_dict() == config.to_dict()


@pytest.fixture
def copy(ran, tmp_path):
    return shutil.copytree(ran.folder, tmp_path / "copy")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", ["config.json", "model.onnx", "operating_points.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(ExportError) as refused:
        Model.from_pretrained(copy)
    assert str(refused.value) == f"'{copy}' has no {name}; it is no complete dynamic model, export it anew"


def test_newer_versions_are_refused(copy):
    edit(copy / "operating_points.json", _version=3)
    with pytest.raises(
        OperatingPointError, match="is of version 3, this program reads up to 2; use a newer dynamic_exit$"
    ):
        Model.from_pretrained(copy)
    edit(copy / "config.json", _version=3)
    with pytest.raises(ExportError) as refused:
        Model.from_pretrained(copy)
    assert str(refused.value) == ("config.json is of version 3, this program reads up to 2; use a newer dynamic_exit")


def test_files_of_something_else_are_refused(copy):
    model = onnx.load(copy / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, copy / "model.onnx")
    with pytest.raises(ExportError, match="model.onnx' is not the file that was exported: its checksum differs"):
        Model.from_pretrained(copy)
    edit(copy / "config.json", checksums={"model.onnx": checksum(copy / "model.onnx")})
    with pytest.raises(
        ExportError, match="^model.onnx holds no dynamic model: it has no metadata 'stages'; export it anew$"
    ):
        Model.from_pretrained(copy)
    (copy / "model.onnx").write_bytes(b"no protobuf at all")
    edit(copy / "config.json", checksums={"model.onnx": checksum(copy / "model.onnx")})
    with pytest.raises(ExportError, match="model.onnx' cannot be used: it is cut short, or no ONNX file; download or"):
        Model.from_pretrained(copy)


def test_a_folder_that_says_the_least_answers_the_same(copy, model):
    edit(copy / "config.json", inputs=[], stages=[])
    least = Model.from_pretrained(copy)
    assert np.array_equal(least(INPUTS[:9]).logits, model(INPUTS[:9]).logits)
    with pytest.raises(ExportError, match=r"must be of shape \(batch, 1, 6, 6\); got \(9, 1, 5, 6\)"):
        least(INPUTS[:9, :, :5])


def test_points_of_another_file_are_refused(copy):
    content = json.loads((copy / "operating_points.json").read_text())
    content["points"][0]["stages"][0]["stage"] = "stranger"
    (copy / "operating_points.json").write_text(json.dumps(content))
    with pytest.raises(OperatingPointError) as refused:
        Model.from_pretrained(copy)
    assert str(refused.value) == (
        "operating point 'accuracy-drop-1%' uses the stage 'stranger', which the file lacks; export anew"
    )


def test_refusals_of_loading(ran, tmp_path):
    for place in (tmp_path / "nowhere", "./nowhere", "nowhere", "a/b/c"):
        with pytest.raises(ExportError) as refused:
            Model.from_pretrained(place)
        assert str(refused.value) == f"folder '{place}' does not exist; give a folder that `dynamic-exit run` wrote"
    with pytest.raises(OperatingPointError, match=r"^there is no operating point 'thrifty'; known are: "):
        Model.from_pretrained(ran.folder, operating_point="thrifty")
    with pytest.raises(ExportError, match="^onnxruntime has no provider 'NoSuchProvider' on this machine; it has "):
        Model.from_pretrained(ran.folder, provider="NoSuchProvider")


def test_subfolders_load(ran, model):
    again = Model.from_pretrained(ran.folder.parent, subfolder=ran.folder.name)
    assert np.array_equal(again(INPUTS).logits, model(INPUTS).logits)


def test_switching_while_others_call_never_mixes_points(ran, model):
    """Every answer is wholly of one point, and all points are seen."""
    expected = {}
    for name in NAMES:
        model.set_operating_point(name)
        expected[model(INPUTS).exit_index.tobytes()] = name
    assert len(expected) == len(NAMES)

    def call(_):
        return [expected.get(model(INPUTS).exit_index.tobytes()) for _ in range(60)]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(call, number) for number in range(3)]
        turn = 0
        while not all(caller.done() for caller in callers):
            model.set_operating_point(NAMES[turn % len(NAMES)])
            turn += 1
        seen = [name for caller in callers for name in caller.result()]
    assert None not in seen
    assert len(set(seen)) > 1


class Pixels(BaseImageProcessor):
    """Grey images of 6 x 6, whose values 0..255 stand for -6.4..6.35."""

    model_input_names = ["pixel_values"]

    def __call__(self, images, return_tensors=None, **kwargs):
        images = images if isinstance(images, list) else [images]
        values = np.stack([np.asarray(image.convert("L"), np.float32)[None] / 20 - 6.4 for image in images])
        return BatchFeature({"pixel_values": values.astype(np.float32)}, tensor_type=return_tensors)


def test_transformers_pipeline_classifies(model):
    pixels = np.clip(np.round((INPUTS[:30] + 6.4) * 20), 0, 255).astype(np.uint8)
    answer = model(pixels.astype(np.float32) / 20 - np.float32(6.4))
    classify = pipeline("image-classification", model=model, image_processor=Pixels())
    found = classify([Image.fromarray(row[0]) for row in pixels], top_k=1)
    names = [model.config.id2label[label] for label in answer.logits.argmax(1)]
    assert len(set(names)) == tiny.CLASSES
    assert [each[0]["label"] for each in found] == names
    assert [each[0]["score"] for each in found] == pytest.approx(answer.confidence.tolist(), abs=1e-5)


def test_points_are_the_files(ran, model):
    assert model.operating_points == OperatingPoints.read(ran.folder / "operating_points.json")
