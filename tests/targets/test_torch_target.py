"""Recipes for torch: Neural Compressor's algorithms on texts and images, what is refused, and what is proven."""

import numpy as np
import pytest
import sentences
import tiny
import torch
from transformers import pipeline

from dynamic_exit import DynamicExitModelForImageClassification, DynamicExitModelForSequenceClassification
from dynamic_exit.errors import PassError, RecipeError, VerificationError
from dynamic_exit.graph import Classifier, capture, split
from dynamic_exit.passes.quantization import quantize_for_torch, torch_options
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import parse_recipe, read_recipe
from dynamic_exit.records import Records
from dynamic_exit.runtime.archive import pack, unpack
from dynamic_exit.targets import torch as torch_target

RTN = {"rtn": {"bits": 4, "group_size": 16}}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The recipe on texts with 4-bit weights."""
    path = sentences.build(tmp_path_factory.mktemp("packed"), quantization=RTN, export__target="torch")
    return run(read_recipe(path))


@pytest.fixture(scope="module")
def texts():
    """Inputs of the test split, by name, in an order of their own."""
    inputs, _ = sentences.arrays("dev")
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def test_four_bits_a_weight_are_stored_as_integers(packed):
    programs = [torch.export.load(path) for path in sorted((packed.folder / "stages").glob("segment*.pt2"))]
    assert len(programs) == 2
    for program in programs:
        tables = [tensor for tensor in program.state_dict.values() if tensor.dim() == 2]
        assert max(int(tensor.max()) for tensor in tables if tensor.dtype == torch.uint8) == 15
        weights = [tensor for tensor in tables if tensor.dtype == torch.float32]
        assert {tuple(tensor.shape) for tensor in weights} <= {(28, 24), (40, 24), (2, 24)}, "tables of words alone"
    assert packed.metrics.rows[1].name == "backbone, 4-bit weights"


def test_texts_of_any_length_get_the_final_of_rounded_weights(packed, texts):
    """By hand: the backbone whose linear layers have each group of 16 weights rounded by Neural Compressor itself."""
    from neural_compressor.torch.quantization import RTNConfig, quantize

    model = DynamicExitModelForSequenceClassification.from_pretrained(packed.folder, operating_point="backbone")
    rounded = quantize(sentences.backbone(), RTNConfig(**RTN["rtn"], use_layer_wise=False))
    for rows, length in ((1, 5), (7, 14), (64, 9)):
        cut = {name: array[:rows, :length] for name, array in texts.items()}
        with torch.no_grad():
            expected = rounded(**{name: torch.from_numpy(array) for name, array in cut.items()}).logits
        # evidence is fused: the logarithm of probabilities
        np.testing.assert_allclose(model(**cut).logits, torch.log_softmax(expected, 1).numpy(), atol=2e-3)


def test_pipelines_take_it(packed):
    said = ["the film was great", "a dull story", "not nice that we saw"]
    model = DynamicExitModelForSequenceClassification.from_pretrained(packed.folder)
    classify = pipeline("text-classification", model=model, tokenizer=str(packed.folder), device="cpu")
    for point in (*model.operating_points.names, "backbone"):
        model.set_operating_point(point)
        found = classify(said)
        rows = model(**sentences.tokenizer()(said, padding=True, return_tensors="np")).logits
        assert [each["label"] for each in found] == [sentences.LABELS[row.argmax()] for row in rows]
    assert [each["label"] for each in found] == ["good", "bad", "bad"]


def test_ranges_found_for_every_batch(tmp_path):
    """Dynamic quantization, tuned for measured seconds of the very modules."""
    changes = {
        "quantization": {"pt2e_dynamic_quant": {}},
        "dynamic_exit__early_exit": None,
        "dynamic_exit__tuning__cost": "latency",
        "dynamic_exit__tuning__batch_size": 8,
    }
    result = run(read_recipe(sentences.build(tmp_path, export__target="torch", **changes)))
    (segment,) = (result.folder / "stages").glob("segment*.pt2")
    assert any("choose_qparams" in str(node.target) for node in torch.export.load(segment).graph.nodes)
    records = Records.read(result.folder / "records.npz")
    assert records.cost_unit == "seconds" and records.prefix_cost[-1] > 0
    assert result.points.baseline.accuracy > 0.95


def test_in_float_it_is_the_torch_model(tmp_path):
    """Fused evidence, and heads that see what was seen before."""
    changes = {
        "quantization": None,
        "dynamic_exit__early_exit": {"count": 2, "training": {"epochs": 15}, "sequence": {"width": 16}},
        "dynamic_exit__tiny_saver__fuse": "mean",
    }
    result = run(read_recipe(tiny.build(tmp_path, export__target="torch", **changes)))
    model = DynamicExitModelForImageClassification.from_pretrained(result.folder, operating_point="backbone")
    inputs, _ = tiny.samples("test")
    with torch.no_grad():
        expected = torch.log_softmax(tiny.backbone()(torch.from_numpy(inputs)), 1).numpy()
    np.testing.assert_allclose(model(inputs).logits, expected, atol=1e-5)
    assert any("memory" in stage["inputs"] for stage in model.config.chain["stages"])
    assert result.metrics.verification["shipped"].largest_difference < 1e-5


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"quantization": {"hqq": {}}},
            "'quantization.hqq' cannot be written to a folder without pickle",
        ),
        (
            {"quantization": {"rtn": {}, "static_quant": {}}},
            "names rtn, static_quant, of which measurements choose",
        ),
        ({"quantization": {"rtn": {"bits": 9}}}, "'quantization.rtn.bits' must be 2 or .* or 8 for torch; got 9$"),
        ({"quantization": {"static_quant": {"w_type": "int8"}}}, "unknown key 'quantization.static_quant.w_type'"),
        ({"export__layout": "single"}, "'export' holds `layout: single`, but `target: torch` has one file a stage"),
        ({"export__format": "onnx"}, "'export' holds `format: onnx`, but `target: torch` has pt2; leave `format` out$"),
        (
            {"export__target": "onnxruntime", "export__compile": True},
            "'export' holds `compile`, which is for `target",
        ),
        (
            {"dynamic_exit__tuning__static_search": {"pruning": [0, 0.3]}},
            "compares ONNX files, and `target: torch`",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(tmp_path, changes, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(tiny.recipe(**{"export__target": "torch", **changes}), tmp_path)


def test_a_written_recipe_is_read_again(ran_torch):
    again = read_recipe(ran_torch.folder / "recipe.yaml")
    assert (again.export.target, again.export.format, again.export.layout) == ("torch", "pt2", "segments")


def test_integers_that_do_not_give_the_weights_are_refused():
    """Neural Compressor 3.10 cannot read its own eight-bit asymmetric weights."""
    images = torch.from_numpy(tiny.samples("calibration")[0])
    (segment,) = split(capture(Classifier(tiny.saver()).eval(), (images[:2],)), [])
    options = torch_options({"rtn": {"bits": 8, "use_sym": False}})
    with pytest.raises(PassError, match="'rtn' makes integers that do not give its own weights .*; leave use_sym and"):
        quantize_for_torch("saver", segment, [images], options)


def test_an_archive_that_answers_otherwise_fails(tmp_path, monkeypatch):
    """A file that is damaged on its way is found by the verification, and nothing is written."""

    def damaged(folder, *arguments, real=torch_target.open_runner):
        runner = real(folder, *arguments)
        runner.model.savers[0].body.forward = lambda x: torch.flip(tiny.saver()(x), [1])
        return runner

    monkeypatch.setattr(torch_target, "open_runner", damaged)
    path = tiny.build(tmp_path, export__target="torch", quantization=None, dynamic_exit__early_exit=None)
    with pytest.raises(VerificationError, match="the folder and the model in memory differ in"):
        run(read_recipe(path))
    assert not (tmp_path / "out").exists()


def test_packing_says_nothing_of_this_machine():
    from dynamic_exit.graph import export_program

    program = export_program(tiny.saver(), (torch.from_numpy(tiny.samples("train")[0][:2]),))
    content = pack(program)
    assert b".py" not in content
    assert pack(program) == content
    part = unpack(content, ("input",))
    assert (part.width, part.input_names) == (tiny.CLASSES, ("input",))
