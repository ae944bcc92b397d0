"""Files of unknown origin: what they ask for is looked at before anything is allocated, opened or followed."""

import io
import json
import struct
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dynamic_exit.artifact.folder import check_content, check_inside
from dynamic_exit.data.npz_source import read_npz
from dynamic_exit.errors import DataError, ExportError, OperatingPointError, RecordsError
from dynamic_exit.points.operating_point import OperatingPoints
from dynamic_exit.records import Records
from dynamic_exit.trust import json_file
from dynamic_exit.trust.onnx_file import MAX_DEPTH, check_onnx


def header(shape, dtype="<f4"):
    """The start of an .npy file that promises numbers of a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive(path, compress=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compress) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


ARRAYS = {
    "terabytes": {"labels": header((1 << 40,))},
    "fewer than there are": {"labels": header((1,)) + bytes(400)},
    "a negative side": {"labels": header((-4, -4)) + bytes(64)},
    "objects": {"labels": header((2,), "|O") + bytes(16)},
    "no array": {"labels": b"text"},
    "cut short": {"labels": header((2,))[:20]},
}


@pytest.mark.parametrize("members", ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_promise_what_is_not_there_are_refused(tmp_path, members):
    names = ("stages", "kinds", "positions", "topk_classes", "topk_probabilities", "own_cost", "prefix_cost")
    others = {name: header((1,)) + bytes(4) for name in (*names, "cost_unit")}
    path = archive(tmp_path / "records.npz", **members, **others)
    with pytest.raises(RecordsError, match="is not a records file"):
        Records.read(path)
    with pytest.raises(DataError, match=r"is no \.npz file of plain numbers"):
        read_npz(archive(tmp_path / "data.npz", x=header((1,)) + bytes(4), **members))


def test_an_archive_that_expands_a_thousandfold_is_refused_and_one_that_compresses_well_is_read(tmp_path):
    zeros = header((80_000_000,), "|u1") + bytes(80_000_000)
    bomb = archive(tmp_path / "bomb.npz", zipfile.ZIP_DEFLATED, x=zeros, y=header((1,)) + bytes(4))
    with pytest.raises(DataError, match="is no .npz file") as error:
        read_npz(bomb)
    assert "would expand to 0.1 GB" in str(error.value.__cause__)
    np.savez_compressed(tmp_path / "small.npz", x=np.zeros((1000, 100), np.float32), y=np.zeros(1000, np.int64))
    assert read_npz(tmp_path / "small.npz")[0].shape == (1000, 100)


def test_json_that_is_nested_deeply_or_large_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "points.json"
    path.write_text("[" * 200_000)
    with pytest.raises(OperatingPointError, match="nested too deeply"):
        OperatingPoints.read(path)
    monkeypatch.setattr(json_file, "MAX_BYTES", 1000)
    with pytest.raises(OperatingPointError, match="such files may have"):
        OperatingPoints.read(path)


def model(*nodes, tensors=(), outputs=("y",)):
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, results, tensors))


def promising(dims, **fields):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims)
    for key, value in fields.items():
        setattr(tensor, key, value)
    return model(helper.make_node("Add", ["x", "w"], ["y"]), tensors=[tensor])


def outside(location, **entries):
    built = promising([4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        built.graph.initializer[0].external_data.add(key=key, value=str(value))
    return built


def nested(depth):
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [], [])
    for _ in range(depth):
        node = helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph.__class__())
        graph = helper.make_graph([node], "g", [], [])
    return model(*graph.node)


def filled(shape, operator="ConstantOfShape", constant=False):
    values = numpy_helper.from_array(np.asarray(shape, np.int64), "s")
    first = [helper.make_node("Constant", [], ["s"], value=values)] if constant else []
    inputs = ["s"] if operator == "ConstantOfShape" else ["x", "s"]
    return model(*first, helper.make_node(operator, inputs, ["y"]), tensors=[] if constant else [values])


ONNX = {
    "terabytes": (lambda: promising([1 << 20, 1 << 20], raw_data=b"1234"), "has .* bytes"),
    "a negative side": (lambda: promising([-1, 4], raw_data=b"1234"), r"has the shape \[-1, 4\]"),
    "weights above": (lambda: outside("../secret"), "lies outside of the folder"),
    "weights anywhere": (lambda: outside("/etc/passwd"), "lies outside of the folder"),
    "weights behind a link": (lambda: outside("link"), "lies outside of the folder"),
    "no weights": (lambda: outside("gone"), "which is not there"),
    "weights beyond the end": (lambda: outside("weights", offset=8, length=64), "reach beyond the end"),
    "nested": (lambda: nested(MAX_DEPTH + 2), "nested more than"),
    "a constant of terabytes": (lambda: filled([1 << 20, 1 << 20]), "makes a tensor of the shape"),
    "a constant of terabytes of a node": (lambda: filled([1 << 20, 1 << 20], constant=True), "makes a tensor of the"),
    "expanded to terabytes": (lambda: filled([1 << 20, 1 << 20], "Expand"), "makes a tensor of the shape"),
}


@pytest.mark.parametrize(("make", "message"), ONNX.values(), ids=ONNX)
def test_onnx_files_that_ask_for_what_they_do_not_hold_are_refused(tmp_path, make, message):
    (tmp_path / "secret").write_bytes(bytes(16))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights").write_bytes(bytes(16))
    (folder / "link").symlink_to("../secret")
    (folder / "model.onnx").write_bytes(make().SerializeToString())
    with pytest.raises(ExportError, match=f"model.onnx' cannot be used: .*{message}.*; download or export it anew$"):
        check_content(folder / "model.onnx")


def test_plain_onnx_files_pass_and_parts_of_them_do_not(tmp_path, ran):
    (tmp_path / "weights").write_bytes(bytes(16))
    for built in (promising([1], raw_data=b"1234"), outside("weights"), nested(3), filled([8, 8])):
        onnx.save(built, tmp_path / "model.onnx")
        check_onnx(tmp_path / "model.onnx")
    whole = (ran.folder / "model.onnx").read_bytes()
    check_onnx(ran.folder / "model.onnx")
    for content in (b"", b"\xff" * 40, b"text that is no model", whole[: len(whole) // 2], struct.pack("<Q", 1 << 60)):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(ValueError, match="it is|it holds|has .* bytes|shape"):
            check_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "link", "folder/x", "", "a\0b"])
def test_names_and_links_that_lead_outside_are_refused(tmp_path, name):
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "x").write_text("x")
    (place / "link").symlink_to("../x")
    (place / "folder").symlink_to("..")
    with pytest.raises(ExportError, match="which lies outside of its folder"):
        check_inside(place, [name])


def test_links_of_the_hubs_cache_and_within_the_folder_are_followed(tmp_path):
    place = tmp_path / "snapshots" / "abc"
    (tmp_path / "blobs").mkdir()
    place.mkdir(parents=True)
    (tmp_path / "blobs" / "123").write_text("x")
    (place / "model.onnx").symlink_to("../../blobs/123")
    (place / "again").symlink_to("model.onnx")
    assert check_inside(place, ["model.onnx", "again"]) == ["model.onnx", "again"]


def test_a_configuration_of_another_number_of_classes_is_refused(ran, tmp_path):
    import shutil

    from dynamic_exit import load_runner

    folder = shutil.copytree(ran.folder, tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["3"] = "another"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match=r"^model\.onnx answers 3 classes, config\.json names 4; export it anew$"):
        load_runner(folder)
