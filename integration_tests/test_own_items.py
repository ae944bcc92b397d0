"""Items of another distribution, each registered by its entry point and used in a recipe that runs."""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
import fork_server  # noqa: E402
import tiny  # noqa: E402  (the tiny world lies beside the other tests)
from commands import forked  # noqa: E402
from distributions import install  # noqa: E402

from dynamic_exit import DynamicExitModelForImageClassification  # noqa: E402

HEAD = '''
from pydantic import Field
from torch import nn

from dynamic_exit.passes import Stanza
from dynamic_exit.passes.early_exit.heads import ExitHead, GlobalPool


class MeanOptions(Stanza):
    """Options of the head."""

    scale: float = Field(1.0, gt=0, description="factor of the features")


class MeanHead(ExitHead):
    """One layer on means."""

    Options = MeanOptions

    def __init__(self, layout, classes, scale):
        pool = GlobalPool(layout)
        super().__init__(pool)
        self.scale, self.layer = scale, nn.Linear(pool.channels, classes)

    def answer(self, features):
        return self.layer(features * self.scale)
'''
RULE = '''
import numpy as np
import torch

from dynamic_exit.chain import EvidenceRule


class LargestProbability(EvidenceRule):
    """The largest probability of each class so far."""

    def numpy(self, state, probabilities):
        largest = np.maximum(*state, probabilities) if state else probabilities
        return (largest,), largest

    def torch(self, state, probabilities):
        largest = torch.maximum(*state, probabilities) if state else probabilities
        return (largest,), largest

    def onnx(self, graph, state, probabilities):
        largest = graph.add("Max", state, probabilities) if state else probabilities
        return largest, largest

    def onnx_width(self, classes):
        return classes
'''
DATA = '''
from pathlib import Path

from pydantic import Field

from dynamic_exit.recipe import DataKind, DataSource
from dynamic_exit.data import read_npz


class ScaledSource(DataSource):
    """Samples in .npz files, times a factor."""

    factor: float = Field(1.0, gt=0, description="of all pixels")


def make(source, request):
    def read(name):
        inputs, labels = read_npz(Path(source.path), name)
        return inputs * inputs.dtype.type(source.factor), labels

    return read


SCALED = DataKind(ScaledSource, make)
'''
MODELS = (
    tiny.MODELS
    + '''
import fnmatch

from pydantic import Field

from dynamic_exit.passes import ModelKind, ModelSource
from dynamic_exit.sources.models import BuiltModel, ModelBuilder


class ZooSource(ModelSource):
    """Networks of the zoo."""

    width: int = Field(8, ge=1, description="of the last layers")


class ZooBuilder(ModelBuilder):
    """Builds networks by the names of their functions."""

    def build(self):
        if self.source.name in ("nothing", "naked"):
            return BuiltModel(None) if self.source.name == "nothing" else flat()
        return BuiltModel(globals()[self.source.name](self.source.width))

    def find_matches(self):
        return fnmatch.filter(["saver", "backbone"], self.source.name), "its networks are saver and backbone"

    def find_class_names(self, model):
        return ["left", "middle", "right"]


class IdleBuilder(ModelBuilder):
    """Builds nothing."""


ZOO = ModelKind(ZooSource, ZooBuilder)
IDLE = ModelKind(ZooSource, IdleBuilder)
'''
)
ENTRIES = {
    "dynamic_exit.evidence": {"largest": "own_rules:LargestProbability"},
    "dynamic_exit.heads": {"mean": "own_heads:MeanHead", "lost": "no_such_module_here:Head"},
    "dynamic_exit.data": {"scaled": "own_data:SCALED", "bare": "own_data:make", "lost": "no_such_module_here:DATA"},
    "dynamic_exit.models": {
        "zoo": "own_models:ZOO",
        "bare": "own_models:flat",
        "idle": "own_models:IDLE",
        "lost": "no_such_module_here:ZOO",
    },
}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Runs a command in a process for which the distribution is installed; gives its exit code and what it wrote."""
    site = tmp_path_factory.mktemp("own_items") / "site"
    install(site, "own-items", {"own_heads": HEAD, "own_rules": RULE, "own_data": DATA, "own_models": MODELS}, ENTRIES)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}

    def call(*arguments):
        done = fork_server.run(fork_server.COMMAND, *arguments, environment=environment)
        return done.returncode, done.stdout + done.stderr

    return call


def with_heads(folder, *heads):
    changes = {"dynamic_exit__tiny_saver": None, "dynamic_exit__tuning__points": []}
    training = {"count": 1, "heads": list(heads), "training": {"epochs": 2}}
    return tiny.write(folder, tiny.recipe(quantization=None, dynamic_exit__early_exit=training, **changes))


def test_a_recipe_runs_with_a_head_of_another_distribution(command, tmp_path):
    tiny.build(tmp_path)
    code, said = command("run", with_heads(tmp_path, {"kind": "mean", "scale": 0.5}))
    assert code == 0, said
    assert "exit head 'lost' of 'own-items' is left out: ModuleNotFoundError: " in said, "the rest works"
    assert "kind: mean" in (tmp_path / "out" / "recipe.yaml").read_text()
    DynamicExitModelForImageClassification.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ("maen", "names an unknown head 'maen'; did you mean 'mean'?"),
        ({"kind": "mean", "scael": 1}, "sets up the head 'mean' wrongly: unknown key 'scael'; did you mean 'scale'?"),
        (
            "lost",
            "names the head 'lost', which could not be loaded: ModuleNotFoundError: No module named "
            "'no_such_module_here'",
        ),
    ],
)
def test_a_head_of_another_distribution_is_refused_as_ours(command, tmp_path, head, sentence):
    tiny.build(tmp_path)
    code, said = command("validate", with_heads(tmp_path, head))
    assert code == 2, said
    assert sentence in " ".join(said.split())


def test_a_recipe_runs_with_an_evidence_rule_of_another_distribution(command, tmp_path):
    """The run itself verifies at every point that the file answers as its stages do."""
    tiny.build(tmp_path)
    recipe = tiny.recipe(quantization=None, dynamic_exit__early_exit=None)
    recipe["dynamic_exit"]["tiny_saver"]["fuse"] = "largest"
    code, said = command("run", tiny.write(tmp_path, recipe))
    assert code == 0, said
    points = json.loads((tmp_path / "out" / "operating_points.json").read_text())["points"]
    assert {point["fuse"] for point in points} == {"largest"} and any(point["stages"] for point in points)


def test_without_that_distribution_its_rule_is_unknown(tmp_path):
    tiny.build(tmp_path)
    recipe = tiny.recipe()
    recipe["dynamic_exit"]["tiny_saver"]["fuse"] = "largest"
    here = forked(tmp_path / "log", "validate", tiny.write(tmp_path, recipe))
    assert here.ended() == 2
    assert "tiny_saver.fuse' must be 'mean', 'none' or 'product'; got 'largest'" in " ".join(here.said.split())


def with_data(folder, **values):
    changes = {"dynamic_exit__tiny_saver": None, "dynamic_exit__tuning__points": []}
    changes |= {f"data__{key}": value for key, value in values.items()}
    training = {"count": 1, "training": {"epochs": 2}}
    return tiny.write(folder, tiny.recipe(quantization=None, dynamic_exit__early_exit=training, **changes))


def test_a_recipe_runs_on_data_of_another_distribution(command, tmp_path):
    tiny.build(tmp_path)
    code, said = command("run", with_data(tmp_path, source="scaled", factor=2))
    assert code == 0, said
    assert "data source 'lost' of 'own-items' is left out: ModuleNotFoundError: " in said, "the rest works"
    written = (tmp_path / "out" / "recipe.yaml").read_text()
    assert "source: scaled" in written and "factor: 2.0" in written
    code, said = command("validate", tmp_path / "out" / "recipe.yaml")
    assert code == 0, said


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"source": "scaeld"},
            "key 'data.source' must be 'npz', 'imagefolder', 'text', 'python', 'datasets', 'webdataset' or 'scaled'; "
            "got 'scaeld'",
        ),
        ({"source": "scaled", "facter": 2}, "unknown key 'data.facter'; did you mean 'factor'?"),
        ({"source": "npz", "factor": 2}, "unknown key 'data.factor'; "),
        ({"source": "scaled", "factor": 0}, "key 'data.factor' must be greater than 0; got 0"),
        (
            {"source": "lost"},
            "key 'data.source' names the data source 'lost', which could not be loaded: ModuleNotFoundError: ",
        ),
        (
            {"source": "bare"},
            "which could not be loaded: data source 'bare' must be a DataKind whose stanza is a subclass of "
            "DataSource; got <function make",
        ),
    ],
)
def test_data_of_another_distribution_are_refused_as_ours(command, tmp_path, values, sentence):
    tiny.build(tmp_path)
    code, said = command("validate", with_data(tmp_path, **values))
    assert code == 2, said
    assert sentence in " ".join(said.split())


def with_models(folder, model, candidate=None):
    """A recipe whose backbone and saver come from the zoo."""
    own = {"source": "zoo", "name": "backbone", "weights": "backbone.safetensors", **model}
    saver = {"source": "zoo", "name": "s*r", "width": 4, "weights": "{name}4.safetensors", **(candidate or {})}
    changes = {"model": own, "dynamic_exit__early_exit": None, "dynamic_exit__tiny_saver__candidates": [saver]}
    return tiny.write(folder, tiny.recipe(quantization=None, data__classes=None, **changes))


def test_a_recipe_runs_with_models_of_another_distribution(command, tmp_path):
    tiny.build(tmp_path)
    code, said = command("run", with_models(tmp_path, {"width": 8}))
    assert code == 0, said
    assert "model source 'lost' of 'own-items' is left out: ModuleNotFoundError: " in said, "the rest works"
    assert "is not trained" not in said and "no trained weights" not in said
    written = (tmp_path / "out" / "recipe.yaml").read_text()
    assert written.count("source: zoo") == 2 and "width: 8" in written and "width: 4" in written
    assert json.loads((tmp_path / "out" / "config.json").read_text())["id2label"]["1"] == "middle", "its source says so"
    points = json.loads((tmp_path / "out" / "operating_points.json").read_text())["points"]
    assert "saver" in [stage["stage"] for point in points for stage in point["stages"]]
    code, said = command("validate", tmp_path / "out" / "recipe.yaml")
    assert code == 0, said


@pytest.mark.parametrize(
    ("model", "candidate", "sentence"),
    [
        (
            {"source": "zooo"},
            {},
            "key 'model.source' must be 'timm', 'transformers', 'python', 'onnx' or 'zoo'; got 'zooo'",
        ),
        ({"wdith": 4}, {}, "unknown key 'model.wdith'; did you mean 'width'?"),
        ({}, {"wdith": 4}, "unknown key 'dynamic_exit.tiny_saver.candidates.0.wdith'; did you mean 'width'?"),
        ({"source": "python", "width": 4}, {}, "unknown key 'model.width'; "),
        (
            {},
            {"width": 0},
            "key 'dynamic_exit.tiny_saver.candidates.0.width' must be greater than or equal to 1; got 0",
        ),
        ({"source": "lost"}, {}, "names the model source 'lost', which could not be loaded: ModuleNotFoundError: "),
        (
            {"source": "bare"},
            {},
            "model source 'bare' must be a ModelKind whose stanza is a subclass of ModelSource; got <function flat",
        ),
        (
            {"source": "idle"},
            {},
            "which could not be loaded: model source 'idle' has a builder that lacks `build`; add it",
        ),
        ({"name": "nothing"}, {}, "model 'nothing' must be a torch.nn.Module; got NoneType"),
        ({"name": "naked"}, {}, "model source 'zoo' must build a BuiltModel; got Sequential"),
        ({"name": "lion"}, {}, "zoo model 'lion' cannot be built: 'lion'; check its `arguments`"),
        ({}, {"name": "l*n"}, "pattern 'l*n' matches no zoo model; its networks are saver and backbone"),
    ],
)
def test_models_of_another_distribution_are_refused_as_ours(command, tmp_path, model, candidate, sentence):
    tiny.build(tmp_path)
    code, said = command("validate", with_models(tmp_path, model, candidate))
    assert code == 2, said
    assert sentence in " ".join(said.split())
