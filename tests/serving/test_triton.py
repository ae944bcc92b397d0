"""Model repositories of Triton, read as Triton reads them, and held against the exported file."""

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny

from dynamic_exit import load_runner
from dynamic_exit.errors import ExportError, InputError, MissingFileError, WriteError
from dynamic_exit.serving import write_triton_model
from dynamic_exit.serving.triton import triton_config

_KINDS = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}


@pytest.fixture(scope="module")
def parse():
    """Reads the text of a ModelConfig by Triton's own schema."""
    try:
        files = importlib.metadata.files("tritonclient")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tritonclient is not installed")
    schema = next(file for file in files if file.name == "model_config_pb2.py").locate()
    # by its place: the package around it needs grpc
    spec = importlib.util.spec_from_file_location("model_config_pb2", schema)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from google.protobuf import text_format

    return lambda text: text_format.Parse(text, module.ModelConfig())


def tensors(listed, max_batch):
    """Name -> type and shape as the backend compares them with the file's: what is reshaped, behind the batch."""
    found = {}
    for each in listed:
        shape = [*(each.reshape.shape if each.HasField("reshape") else each.dims)]
        kind = type(each).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[each.data_type].name
        assert len(each.dims) > 0, "Triton refuses a tensor without dimensions"
        found[each.name] = (kind, [-1, *shape] if max_batch else shape)
    return found


def of_file(values):
    return {
        value.name: (_KINDS[value.type], [side if isinstance(side, int) else -1 for side in value.shape])
        for value in values
    }


@pytest.mark.parametrize("max_batch", [64, 0])
def test_a_model_agrees_with_its_file(ran, tmp_path, parse, max_batch):
    place = write_triton_model(ran.folder, tmp_path / "models", "tiny", max_batch)
    assert sorted(each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*.*")) == [
        "models/tiny/1/model.onnx", "models/tiny/config.pbtxt",
    ]  # fmt: skip
    config = parse((place / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == (place.name, "onnxruntime", max_batch)
    assert config.HasField("dynamic_batching") is bool(max_batch)
    session = onnxruntime.InferenceSession(place / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    assert tensors(config.output, max_batch) == of_file(session.get_outputs())
    needed = [each for each in config.input if not each.optional]
    assert tensors(needed, max_batch) == of_file(session.get_inputs())
    optional = [each for each in config.input if each.optional]
    # the backend refuses optional inputs beside batches
    assert tensors(optional, max_batch) == ({} if max_batch else of_file(session.get_overridable_initializers()))


def test_the_file_answers_at_the_default_point(ran, tmp_path):
    place = write_triton_model(ran.folder, tmp_path)
    assert place.name == ran.folder.name
    rows = tiny.samples("test")[0]
    session = onnxruntime.InferenceSession(place / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    for found, expected in zip(session.run(None, {"input": rows}), load_runner(ran.folder)(rows), strict=True):
        assert np.array_equal(found, expected)


def test_texts_have_free_lengths_and_names_are_quoted(parse):
    inputs = [{"name": name, "dtype": "int64", "shape": ["tokens"]} for name in ("input_ids", 'a"b\\')]
    config = parse(triton_config("texts", inputs, 2, 0, 8))
    assert tensors(config.input, 8) == {name: ("TYPE_INT64", [-1, -1]) for name in ("input_ids", 'a"b\\')}
    # no stage before the final one, so no threshold either
    assert [each.name for each in parse(triton_config("texts", inputs, 2, 0, 0)).input] == ["input_ids", 'a"b\\']


def test_an_input_of_one_number_a_row_is_reshaped(parse):
    config = parse(triton_config("ages", [{"name": "age", "dtype": "float32", "shape": []}], 2, 1, 8))
    assert [*config.input[0].dims] == [1] and tensors(config.input, 8) == {"age": ("TYPE_FP32", [-1])}


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "/a"])
def test_names_that_are_no_folder_are_refused(ran, tmp_path, name):
    with pytest.raises(InputError, match="cannot name a model in a repository"):
        write_triton_model(ran.folder, tmp_path, name)
    assert [*tmp_path.iterdir()] == []


def test_what_is_there_stays(ran, tmp_path):
    (tmp_path / "tiny").mkdir()
    with pytest.raises(WriteError, match="is there already"):
        write_triton_model(ran.folder, tmp_path, "tiny")
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        write_triton_model(ran.folder, tmp_path / "file", "tiny")
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["file", "tiny"]


def test_other_folders_are_refused(ran, tmp_path):
    with pytest.raises(InputError, match="max_batch must be at least 0"):
        write_triton_model(ran.folder, tmp_path, max_batch=-1)
    with pytest.raises(MissingFileError):
        write_triton_model(tmp_path / "nowhere", tmp_path)
    broken = Path(shutil.copytree(ran.folder, tmp_path / "broken"))
    with (broken / "model.onnx").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ExportError, match=r"model\.onnx"):
        write_triton_model(broken, tmp_path / "models")
    assert not (tmp_path / "models").exists()
