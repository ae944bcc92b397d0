"""Each thing of docs/how-to/extend.md, a target and a static pass, word for word, installed and in one recipe."""

import json
import os
import sys
import tomllib
from pathlib import Path

import onnx
import pytest
import yaml
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
import documents  # noqa: E402
import fork_server  # noqa: E402
import tiny  # noqa: E402  (the tiny world lies beside the other tests)
from distributions import install_pages  # noqa: E402

PAGES = (
    "docs/how-to/extend.md",
    "docs/how-to/maker.md",
    "docs/how-to/target.md",
    "docs/how-to/static-pass.md",
)
BLOCKS = [block for page in PAGES for block in documents.blocks(page)]
FRAGMENTS = [yaml.safe_load(block.code) for block in BLOCKS if block.language == "yaml"]


def merge(values, more):
    """Put a fragment into a recipe; models, data and lists are replaced."""
    for key, value in more.items():
        inside = isinstance(value, dict) and key not in ("model", "data")
        values[key] = merge(values.get(key, {}), value) if inside else value
    return values


def command(folder, *arguments):
    """Run a command in a process for which the distribution of the pages is installed."""
    places = os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")])
    return fork_server.run(fork_server.COMMAND, *arguments, environment={**os.environ, "PYTHONPATH": places})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a recipe with every fragment of the pages has run."""
    folder = tmp_path_factory.mktemp("extend")
    install_pages(folder / "site", *PAGES)
    tiny.build(folder)
    (folder / "saver2.safetensors").rename(folder / "saver.safetensors")
    for place in ("my_models", "my_samples"):
        (folder / place).mkdir()
    (folder / "models.py").rename(folder / "my_models" / "hubconf.py")
    for split, name in (("train", "train"), ("calibration", "dev"), ("test", "test")):
        images, labels = tiny.samples(split)
        save_file({"images": images, "labels": labels}, folder / "my_samples" / f"{name}.safetensors")
    values = tiny.recipe(quantization=None, dynamic_exit__early_exit={"count": 1, "training": {"epochs": 2}})
    for fragment in FRAGMENTS:
        merge(values, fragment)
    # the saver that the page's maker makes costs 0.036 of the backbone
    values["dynamic_exit"]["tuning"]["points"] = [{"max_accuracy_drop": 0.1}, {"budget": 0.05}]
    late = {key: values.pop(key) for key in ("dynamic_exit", "export")}
    recipe = tiny.write(folder, {**values, **late})
    done = command(folder, "run", recipe)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out" not in done.stderr, done.stderr
    return folder


def test_every_kind_has_a_file_an_entry_and_a_fragment():
    entries = [tomllib.loads(block.code)["project"]["entry-points"] for block in BLOCKS if block.language == "toml"]
    groups = [group for each in entries for group in each]
    kinds = ("heads", "evidence", "models", "data", "makers", "targets", "passes")
    assert groups == [f"dynamic_exit.{kind}" for kind in kinds]
    assert [block.language for block in BLOCKS] == ["python", "toml", "yaml"] * len(groups)


def test_all_of_them_are_in_the_recipe_that_ran(folder):
    written = yaml.safe_load((folder / "out" / "recipe.yaml").read_text())
    dynamic = written["dynamic_exit"]
    assert dynamic["early_exit"]["heads"] == [{"kind": "mean", "dropout": 0.1}]
    assert dynamic["tuning"]["fuse"] == "largest"
    assert written["model"]["source"] == "torch_hub" and written["model"]["folder"] == "../my_models"
    given, made = dynamic["tiny_saver"]["candidates"]
    assert given["source"] == "torch_hub" and (made["make"], made["hidden"]) == ("dense", [8, 16, 32])
    assert written["data"]["source"] == "safetensors" and written["data"]["inputs"] == "images"
    assert written["export"]["target"] == "half_weights" and written["export"]["smallest"] == 16
    assert written["rounding"] == {"digits": 1}


def test_the_file_is_that_of_the_target(folder):
    def kinds(graph):
        inner = [each.g for node in graph.node for each in node.attribute if each.HasField("g")]
        return [each.data_type for each in graph.initializer] + [kind for each in inner for kind in kinds(each)]

    assert onnx.TensorProto.FLOAT16 in kinds(onnx.load(folder / "out" / "model.onnx").graph)
    assert json.loads((folder / "out" / "metrics.json").read_text())["target"] == "half_weights"
    config = json.loads((folder / "out" / "config.json").read_text())
    assert (config["target"], config["numerics"]) == ("half_weights", "half weights")


def test_a_target_that_does_not_quantize_refuses_to(folder):
    values = yaml.safe_load((folder / "recipe.yaml").read_text())
    order = {
        "quantization": {"static_quant": {}},
        "dynamic_exit": values.pop("dynamic_exit"),
        "export": values.pop("export"),
    }
    done = command(folder, "validate", tiny.write(folder, {**values, **order}, "quantized.yaml"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "key 'quantization' is for targets that quantize; this one does not, leave it out" in " ".join(
        done.stderr.split()
    )


def test_the_maker_made_what_fits_its_share(folder):
    rows = json.loads((folder / "out" / "metrics.json").read_text())["candidates"]
    (row,) = (each for each in rows if each["stage"] == "dense_0.05")
    # 36 pixels to 32 units to 3 classes
    assert row["cost"] == 36 * 32 + 32 * 3 and row["accuracy"] > 0.5


def test_all_of_them_made_what_was_written(folder):
    points = json.loads((folder / "out" / "operating_points.json").read_text())["points"]
    assert {point["fuse"] for point in points} == {"largest"}
    stages = json.loads((folder / "out" / "metrics.json").read_text())["stages"]
    assert [each["stage"].partition(":")[2] for each in stages] == ["", "mean", ""], "saver, exit and backbone"
