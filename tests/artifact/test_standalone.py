"""A dynamic model in numpy: the answers of the class for torch, in an environment that has nothing else."""

import json
import re
import shutil
from pathlib import Path

import environments
import numpy as np
import onnxruntime
import pytest
import tiny

from dynamic_exit.artifact.standalone import DynamicExitRunner, load_runner
from dynamic_exit.errors import ExportError, OperatingPointError
from dynamic_exit.modeling import DynamicExitModelForImageClassification


@pytest.fixture(scope="module")
def runner(ran) -> DynamicExitRunner:
    return load_runner(ran.folder)


@pytest.mark.parametrize("kind", ["ran", "ran_float", "ran_segments", "ran_torch"])
def test_it_answers_as_the_class_that_torch_users_load(kind, request):
    folder = request.getfixturevalue(kind).folder
    inputs, _ = tiny.samples("test")
    runner, model = load_runner(folder), DynamicExitModelForImageClassification.from_pretrained(folder)
    assert (runner.stages, runner.input_names, runner.labels) == (model.stages, model.input_names, tiny_labels())
    for name in (*runner.operating_points.names, "backbone"):
        runner.set_operating_point(name), model.set_operating_point(name)
        assert np.array_equal(runner.thresholds, model.thresholds)
        for ours, theirs in zip(runner(inputs), model(inputs).to_tuple(), strict=True):
            assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


def tiny_labels():
    return ("left", "middle", "right")


def test_inputs_come_by_place_or_by_name(runner):
    inputs, _ = tiny.samples("test")
    (name,) = runner.input_names
    assert np.array_equal(runner(inputs).logits, runner(**{name: inputs}).logits)


def test_thresholds_of_one_call_leave_the_point_in_force(runner):
    inputs, _ = tiny.samples("test")
    point = runner.set_operating_point("backbone")
    assert (runner(inputs).exit_index == len(runner.stages)).all()
    always = [-1.0] + [np.inf] * (len(runner.stages) - 1)
    assert (runner(inputs, thresholds=always).exit_index == 0).all()
    assert runner.operating_point is point and (runner(inputs).exit_index == len(runner.stages)).all()


def test_a_point_is_found_by_what_is_allowed(runner):
    chosen = runner.set_operating_point(max_accuracy_drop=0.1)
    assert chosen.goal.max_accuracy_drop <= 0.1 and runner.operating_point is chosen
    frugal = runner.set_operating_point(budget=1.0)
    assert frugal.cost_ratio <= 1.0


OTHER_CHAIN = {
    "inputs": ["input"],
    "segments": [["input"]],
    "stages": [{"name": "other", "position": -1, "inputs": ["input"]}],
}


def edited(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    "spoil, error, sentence",
    [
        (lambda f: shutil.rmtree(f), ExportError, "does not exist; give a folder that `dynamic-exit run` wrote"),
        (lambda f: (f / "config.json").unlink(), ExportError, "has no config.json; it is no complete dynamic model"),
        (lambda f: (f / "config.json").write_text("{"), ExportError, "cannot be read: Expecting property name"),
        (lambda f: (f / "config.json").write_text("[]"), ExportError, "holds a model of type 'None'"),
        (lambda f: edited(f, model_type="bert"), ExportError, "holds a model of type 'bert'; give one of type"),
        (lambda f: edited(f, _version=99), ExportError, "is of version 99, this program reads up to 2"),
        (lambda f: edited(f, layout="heap"), ExportError, "names the layout 'heap'; known are: segments, single"),
        (
            lambda f: edited(f, target="tpu"),
            ExportError,
            "names the target 'tpu'; known are: onnxruntime, openvino, torch",
        ),
        (lambda f: edited(f, chain=OTHER_CHAIN), ExportError, "names the stages other, the model has"),
        (lambda f: (f / "model.onnx").write_bytes(b"x"), ExportError, "is not the file that was exported"),
        (lambda f: (f / "operating_points.json").unlink(), ExportError, "has no operating_points.json"),
    ],
    ids=["folder", "config", "json", "list", "type", "version", "layout", "target", "stages", "altered", "points"],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_sentence(spoil, error, sentence, ran, tmp_path):
    folder = Path(shutil.copytree(ran.folder, tmp_path / "copy"))
    spoil(folder)
    with pytest.raises(error, match=re.escape(sentence)) as refused:
        load_runner(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "call, error, sentence",
    [
        (lambda run, x: run(x, x), ExportError, "the model takes the inputs x; got 2 arrays"),
        (
            lambda run, x: run(x, **{run.input_names[0]: x}),
            ExportError,
            "input 'x' came in twice, by its place and by its name",
        ),
        (lambda run, x: run(), ExportError, "the model takes the inputs x; got none"),
        (lambda run, x: run(x[:, :, :3]), ExportError, "input 'x' must be of shape"),
        (lambda run, x: run(x.astype(str)), ExportError, "input 'x' must be of type"),
        (lambda run, x: run(x, thresholds=[0.5]), OperatingPointError, "1 thresholds came in for a chain of"),
        (lambda run, x: run.set_operating_point("quick"), OperatingPointError, "quick"),
        (lambda run, x: run.set_operating_point(), OperatingPointError, "name an operating point, or give either"),
    ],
    ids=["too many", "twice", "none", "shape", "type", "thresholds", "unknown point", "no wish"],
)
def test_a_call_that_cannot_be_meant_is_refused_in_one_sentence(call, error, sentence, runner):
    inputs, _ = tiny.samples("test")
    with pytest.raises(error) as refused:
        call(runner, inputs)
    said = str(refused.value).replace(f"inputs {runner.input_names[0]}", "inputs x")
    assert sentence in said.replace(f"'{runner.input_names[0]}'", "'x'") and "\n" not in said


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """What the extra `runtime` installs, and this package: nothing else."""
    return environments.link("runtime", tmp_path_factory.mktemp("environment"))


def test_onnxruntime_numpy_and_pydantic_are_all_it_needs(environment, ran, runner, tmp_path):
    inputs, _ = tiny.samples("test")
    np.save(tmp_path / "inputs.npy", inputs)
    code = """
import numpy as np
import onnxruntime
from dynamic_exit import load_runner
runner = load_runner(sys.argv[1])
for name in runner.operating_points.names:
    runner.set_operating_point(name)
    answers = runner(np.load(sys.argv[2]))
    np.save(sys.argv[3] + "/" + name + ".npy", answers.logits)
    print(name)
print(*(name for name in ("torch", "transformers", "onnx", "optimum") if name in sys.modules))
"""
    *names, others = environments.run(environment, code, ran.folder, tmp_path / "inputs.npy", tmp_path)
    assert names == list(runner.operating_points.names) and not others
    for name in names:
        runner.set_operating_point(name)
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), runner(inputs).logits)


@pytest.mark.parametrize("kind", ["ran_segments", "ran_torch"])
def test_a_folder_that_torch_drives_says_what_to_install(kind, environment, request):
    code = """
from dynamic_exit import load_runner
from dynamic_exit.errors import ExportError
try:
    load_runner(sys.argv[1])
except ExportError as refused:
    print(refused)
"""
    folder = request.getfixturevalue(kind).folder
    (said,) = environments.run(environment, code, folder)
    assert re.fullmatch(rf"'{folder}' holds one file a stage, which needs \w+; install the extra `serve`, .*", said)


def test_loading_is_quiet_with_options_of_the_users_too(ran, capfd):
    path, options = ran.folder / "model.onnx", onnxruntime.SessionOptions()
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert "thresholds appears in graph inputs" in capfd.readouterr().err, "onnxruntime alone warns, as docs explain"
    load_runner(ran.folder, session_options=options)
    assert capfd.readouterr() == ("", "")
    assert options.log_severity_level == -1, "they are the user's"
    options.log_severity_level = 2
    load_runner(ran.folder, session_options=options)
    assert "thresholds appears in graph inputs" in capfd.readouterr().err, "a level of the user's counts"
