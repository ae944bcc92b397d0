"""Exported parts that are found again: the same bytes, and nothing of a module, options or samples that differ."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from torch import fx, nn

from dynamic_exit.core.cache import Cache
from dynamic_exit.graph import Classifier
from dynamic_exit.passes.quantization import int8_options, torch_options
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe
from dynamic_exit.targets import onnxruntime as onnx_target
from dynamic_exit.targets import torch as torch_target
from dynamic_exit.targets.base import ExportRequest
from dynamic_exit.targets.onnxruntime import OnnxRuntimeTarget
from dynamic_exit.targets.torch import TorchTarget

IMAGES = tiny.samples("calibration")[0]
EXAMPLE = (torch.from_numpy(IMAGES[:2]),)


class Scaled(nn.Module):
    """A layer times a plain number, which is no tensor."""

    def __init__(self, scale=2.0, weight=0.5, bias=True):
        super().__init__()
        self.layer, self.scale = nn.Linear(36, 3, bias=bias), scale
        with torch.no_grad():
            for value in self.parameters():
                value.fill_(weight)

    def forward(self, x):
        return self.layer(x.flatten(1)) * self.scale


class Shifted(Scaled):
    def forward(self, x):
        return super().forward(x) + 1


class Means(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)).repeat(1, 3)


def int8(**parameters):
    return next(iter(int8_options({"static_quant": parameters})))


def export(cache, module=None, options=None, kind=OnnxRuntimeTarget, calibration=IMAGES, **more):
    """A stage of the cache, or made; and whether it was made."""
    made = []

    class Watched(kind):
        def make_parts(self, request):
            made.append(request.name)
            return super().make_parts(request)

    Watched.__qualname__, Watched.__module__ = kind.__qualname__, kind.__module__
    name = more.pop("name", "s")
    target = Watched(options, {"x": calibration}, cache=cache, **more)
    feeds = {"x": calibration} if options is not None else None
    request = ExportRequest(name, Classifier(module or Scaled()).eval(), ("x",), "logits", EXAMPLE, feeds)
    return target.export_stage(request), bool(made)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (OnnxRuntimeTarget, None),
        (OnnxRuntimeTarget, int8()),
        (TorchTarget, None),
        (TorchTarget, torch_options({"rtn": {"bits": 8}})),
    ],
    ids=["onnx", "onnx-int8", "torch", "torch-rtn"],
)
def test_what_is_found_is_what_was_made(tmp_path, kind, options):
    first, made = export(Cache(tmp_path), options=options, kind=kind)
    again, anew = export(Cache(tmp_path), options=options, kind=kind)
    assert made and not anew
    assert (again.part is again.float_part) == (first.part is first.float_part) == (options is None)
    for one, other in ((first.part, again.part), (first.float_part, again.float_part)):
        assert one.content == other.content
        assert (one.name, one.input_names, one.output_kind) == (other.name, other.input_names, other.output_kind)
    with torch.no_grad():
        assert torch.equal(first.session(*EXAMPLE), again.session(*EXAMPLE))


OTHERS = {
    "weights": {"module": lambda: Scaled(weight=0.25)},
    "a plain number": {"module": lambda: Scaled(scale=3.0)},
    "structure": {"module": lambda: Scaled(bias=False)},
    "code": {"module": Shifted},
    "name": {"name": "t"},
    "opset": {"opset": 18},
    "quantization": {"options": int8()},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_what_differs_is_made_anew(tmp_path, change):
    cache = Cache(tmp_path)
    export(cache)
    change = {**change, "module": change["module"]()} if "module" in change else change
    assert export(cache, **change)[1]


def test_free_dimensions_count(tmp_path):
    cache = Cache(tmp_path)
    sums = [export(cache, Means(), dims=dims) for dims in ({}, {"x": {2: "height"}})]
    assert [made for _, made in sums] == [True, True]
    assert sums[1][0].session(torch.ones(2, 1, 9, 6)).shape == (2, 3)


def test_quantized_parts_are_found_by_options_and_samples(tmp_path):
    cache = Cache(tmp_path)
    export(cache, options=int8())
    assert export(cache, options=int8(act_sym=True))[1]
    assert export(cache, options=int8(), calibration=2 * IMAGES)[1]
    assert not export(cache, options=int8())[1]


def test_functions_that_a_traced_graph_calls_count(tmp_path):
    """The text of such a graph only names them."""

    def traced(function):
        module = fx.symbolic_trace(Scaled())
        output = module.graph.output_node()
        with module.graph.inserting_before(output):
            output.args = (module.graph.call_function(function, (output.args[0],)),)
        module.recompile()
        return module

    namespaces = [{"__name__": "tiny_function"}, {"__name__": "tiny_function"}]
    for space, factor in zip(namespaces, (2, 3), strict=True):
        exec(f"def times(x):\n    return x * {factor}", space)  # noqa: S102
    first, second = (traced(space["times"]) for space in namespaces)
    assert first.code == second.code
    cache = Cache(tmp_path)
    export(cache, first)
    stage, made = export(cache, second)
    assert made
    with torch.no_grad():
        torch.testing.assert_close(stage.session(*EXAMPLE), second(*EXAMPLE))


@pytest.mark.parametrize(("target", "module"), [("onnxruntime", onnx_target), ("torch", torch_target)])
def test_a_whole_backbone_is_found_by_what_it_answers(tmp_path, target, module):
    """Code that reads a file as it runs answers otherwise once the file has changed."""
    run_inputs = load_run_inputs(read_recipe(tiny.build(tmp_path, export__target=target)))
    np.save(tmp_path / "factor.npy", np.float32(2.0))

    class Reads(Scaled):
        def forward(self, x):
            return super().forward(x) * float(np.load(tmp_path / "factor.npy"))

    def content():
        inputs = replace(run_inputs, backbone=Classifier(Reads().eval()).eval())
        return module.export_whole(inputs, {}, Cache(tmp_path / "cache")).content

    first = content()
    assert content() == first
    np.save(tmp_path / "factor.npy", np.float32(3.0))
    assert content() != first


def test_a_run_that_only_tunes_otherwise_exports_nothing(tmp_path, monkeypatch):
    changes = {"dynamic_exit__cache": {"directory": str(tmp_path / "cache")}, "quantization": None}
    recipe = read_recipe(tiny.build(tmp_path, **changes, dynamic_exit__tiny_saver=None))
    first = run(recipe)

    def fails(*arguments, **options):
        raise AssertionError("exported anew")

    monkeypatch.setattr(onnx_target, "export_part", fails)
    tuned = {"dynamic_exit.tuning.max_accuracy_drop": 0.2, "export.directory": str(tmp_path / "tuned")}
    second = run(read_recipe(tmp_path / "recipe.yaml", tuned))
    assert second.points.points != first.points.points
    again = run(read_recipe(tmp_path / "recipe.yaml", {"export.directory": str(tmp_path / "again")}))
    for name in ("model.onnx", "records.npz", "operating_points.json"):
        assert (again.folder / name).read_bytes() == (first.folder / name).read_bytes(), name
