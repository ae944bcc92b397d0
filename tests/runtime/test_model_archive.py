import json
import shutil
import typing
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.export.passes import move_to_device_pass

from dynamic_exit.artifact.folder import checksum
from dynamic_exit.artifact.saved_model import load_model, save_model
from dynamic_exit.errors import ExportError, ModelError, OutputError
from dynamic_exit.graph import export_program
from dynamic_exit.runtime.archive import pack, unpack
from dynamic_exit.runtime.model import DynamicExitModel

X = torch.randn(5, 6)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    segments = [nn.Linear(6, 8), nn.Linear(8, 4)]
    exits = {"exit.0": (0, nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.5)))}
    model = DynamicExitModel(
        segments, input_names=["x"], savers={"saver": nn.Linear(6, 4)}, exits=exits, fuse="mean",
        thresholds=[float("inf"), 0.4],
    ).eval()  # fmt: skip
    folder = tmp_path_factory.mktemp("archive") / "model"
    save_model(model, folder, (X,))
    return model, folder


def test_a_saved_model_answers_the_same(saved):
    model, folder = saved
    loaded = load_model(folder)
    assert (loaded.chain, loaded.thresholds, loaded.fuse) == (model.chain, model.thresholds, model.fuse)
    for rows in (1, 2, 5):
        for one, two in zip(model(X[:rows]), loaded(X[:rows]), strict=True):
            assert torch.equal(one, two)


def test_types_of_records_are_evaluated_once(saved, monkeypatch):
    """torch does so for each record, which took a quarter of the time; what it calls is as before afterwards."""
    from torch._export.serde import serialize

    evaluated = Counter()

    def count(kind, *arguments, real=typing.get_type_hints, **names):
        evaluated[kind] += 1
        return real(kind, *arguments, **names)

    monkeypatch.setattr(typing, "get_type_hints", count)
    unpack(saved[1] / "segment1.pt2", ["hidden"])
    assert evaluated and set(evaluated.values()) == {1}
    assert serialize.typing is typing


def test_nothing_is_overwritten(saved):
    model, folder = saved
    with pytest.raises(OutputError, match="is not an empty folder; give a new one"):
        save_model(model, folder, (X,))


def changed(folder, tmp_path, part, entry, change):
    """Copy a saved model with one entry of one archive changed."""
    other = tmp_path / "other"
    other.mkdir()
    for path in folder.iterdir():
        if path.name != part:
            (other / path.name).write_bytes(path.read_bytes())
            continue
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(other / part, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                new.writestr(name, change(content) if name.endswith(entry) else content)
            if entry.startswith("+"):
                new.writestr(old.namelist()[0].split("/")[0] + "/" + entry[1:], change(b""))
    config = json.loads((other / "config.json").read_text())
    config["checksums"][part] = checksum(other / part)  # who puts code into an archive can count, too
    (other / "config.json").write_text(json.dumps(config))
    return other


def pickled(content):
    config = json.loads(content)
    for entry in config["config"].values():
        entry["use_pickle"] = True
    return json.dumps(config).encode()


@pytest.mark.parametrize(
    ("entry", "change"),
    [
        ("weights/model_weights_config.json", pickled),
        ("sample_inputs/model.pt", lambda content: b"cos\nsystem\n(S'false'\ntR."),
        ("+data/weights/model.pt", lambda content: b"anything"),
    ],
)
def test_an_archive_with_pickles_is_refused_before_torch_reads_it(saved, tmp_path, entry, change):
    other = changed(saved[1], tmp_path, "segment0.pt2", entry, change)
    with pytest.raises(ModelError, match="holds pickled objects, which can run any code; save the model anew"):
        load_model(other)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ExportError, match="has no config.json; it is no complete dynamic model"):
        load_model(tmp_path)
    (tmp_path / "dynamic_model.json").write_text('{"_type": "dynamic_exit.torch_model", "_version": 9}')
    with pytest.raises(ExportError, match="version 9; this program reads dynamic_exit.torch_model version 1"):
        load_model(tmp_path)


def test_an_archive_that_was_altered_is_refused(saved, tmp_path):
    other = Path(shutil.copytree(saved[1], tmp_path / "copy"))
    (other / "saver0.pt2").write_bytes((other / "segment0.pt2").read_bytes())
    with pytest.raises(ExportError, match="saver0.pt2' is not the file that was exported"):
        load_model(other)


class Positions(nn.Module):
    """Makes a tensor in its forward pass, where its input is."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(9, 4), nn.Embedding(8, 4)

    def forward(self, tokens):
        return (self.words(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))).mean(1)


@pytest.mark.parametrize("moved", [False, True])
def test_what_an_archive_makes_in_its_forward_pass_follows_it(moved):
    """A program that came from a GPU too, whose devices torch writes as strings."""
    model, tokens = Positions().eval(), torch.ones(2, 8, dtype=torch.int64)
    program = export_program(model, [tokens])
    content = pack(move_to_device_pass(program, "cpu") if moved else program)
    part = unpack(content, ["tokens"], "it")
    assert torch.equal(part(tokens), model(tokens))
    devices = {str(node.kwargs["device"]) for node in part.to("meta").body.graph.nodes if "device" in node.kwargs}
    assert devices == {"meta"}
    assert part(tokens.to("meta")).device.type == "meta"


def test_a_batch_norm_on_a_gpu_is_exported():
    """Torch's kernel for it depends on the batch size, which is free; fake tensors stand for a GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        model, inputs = nn.BatchNorm2d(3).eval(), torch.ones(2, 3, 4, 4)
    program = export_program(model, [inputs], functional=False)
    (limits,) = program.range_constraints.values()
    assert (limits.lower, limits.upper) == (1, 65535)
