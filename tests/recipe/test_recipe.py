import copy
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_exit.errors import RecipeError
from dynamic_exit.recipe import parse_recipe, read_recipe, recipe_text

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
@pytest.mark.parametrize("depth", ["here", "above/and/below"])
def test_shipped_recipes_survive_writing(path, depth, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMIC_EXIT_DATA", str(tmp_path))
    recipe = read_recipe(path)
    folder = path.parent if depth == "here" else tmp_path / depth
    again = parse_recipe(yaml.safe_load(recipe_text(recipe, folder)), folder)
    assert again == recipe


def test_there_are_recipes_to_test():
    assert "quickstart.yaml" in [path.name for path in RECIPES]


shares, allowed = st.floats(0, 1), st.floats(0, 0.2)
text = st.text("abcxyz_ -é", min_size=1, max_size=8).filter(str.strip)
goals = st.one_of(
    st.fixed_dictionaries({"max_accuracy_drop": allowed}),
    st.fixed_dictionaries({"budget": st.floats(0.01, 1), "name": text}),
)
paths = st.sampled_from(["a/b.npz", "../c", "/data/d", "own.py:load", "~/e", "package.module:load", "."])
sources = st.fixed_dictionaries(
    {
        "source": st.just("python"),
        "name": st.sampled_from(["m.py:make", "../up/m.py:make", "package.m:make", "/m.py:f"]),
    },
    optional={
        "weights": st.sampled_from(["w.safetensors", "../w.pt", "/abs/w.pt"]),
        "arguments": st.dictionaries(text, st.one_of(st.none(), st.booleans(), st.integers(), text, st.lists(shares))),
        "preprocessing": st.fixed_dictionaries(
            {}, optional={"size": st.just([4, 5]), "scale": st.floats(0.1, 9), "std": st.lists(st.floats(0.1, 9))}
        ),
        "stage": text,
    },
)
recipes = st.fixed_dictionaries(
    {
        "model": sources,
        "data": st.fixed_dictionaries(
            {
                "source": st.sampled_from(["npz", "imagefolder", "python"]),
                "path": paths,
                "splits": st.fixed_dictionaries(
                    {key: st.sampled_from(["a", "dev[:50%]", "dev[50%:]"]) for key in ("train", "calibration", "test")}
                ),
            },
            optional={
                "classes": st.lists(text, min_size=1),
                "layout": st.just("channels_last"),
                "duplicates": st.just("drop"),
                "stratify": st.just(True),
            },
        ),
        "dynamic_exit": st.fixed_dictionaries(
            {
                "early_exit": st.fixed_dictionaries(
                    {},
                    optional={
                        "positions": st.one_of(st.sampled_from(["auto", "all"]), st.lists(text, min_size=1)),
                        "count": st.integers(1, 9),
                        "heads": st.sampled_from([["linear"], ["mlp", "conv"], ["mlp", {"kind": "mlp", "width": 8}]]),
                        "training": st.fixed_dictionaries({}, optional={"epochs": st.integers(1, 9)}),
                    },
                )
            },
            optional={
                "tiny_saver": st.fixed_dictionaries(
                    {"candidates": st.lists(sources, min_size=1, max_size=3, unique_by=repr)},
                    optional={"max_savers": st.integers(1, 3), "fuse": st.sampled_from(["mean", "none"])},
                ),
                "tuning": st.fixed_dictionaries(
                    {},
                    optional={
                        "max_accuracy_drop": allowed,
                        "guarantee": st.one_of(st.none(), st.floats(0.6, 0.99)),
                        "cost": st.sampled_from(["macs", "latency"]),
                        "points": st.lists(goals, max_size=3),
                    },
                ),
            },
        ),
        "export": st.fixed_dictionaries({"directory": st.sampled_from(["out", "../out", "/tmp/out"])}),
    },
    optional={
        "seed": st.integers(0, 2**31),
        "pruning": st.fixed_dictionaries({}, optional={"ratio": st.floats(0, 0.9)}),
        "quantization": st.sampled_from([None, {"static_quant": None}, {"static_quant": {"act_dtype": "int8"}}]),
    },
)


def in_order(values):
    """Write the passes in their order, and give candidates names of their own."""
    values = copy.deepcopy(values)
    if "quantization" in values:
        values["quantization"] = values.pop("quantization")
    for index, candidate in enumerate(values["dynamic_exit"].get("tiny_saver", {}).get("candidates", ())):
        candidate["stage"] = f"saver {index}"
    return values


@settings(max_examples=25, deadline=None)
@given(values=recipes.map(in_order), folder=st.sampled_from(["/a", "/a/b/c", "/other/place"]))
def test_any_recipe_survives_writing_to_any_folder(values, folder):
    try:
        recipe = parse_recipe(values, Path("/a/b"))
    except RecipeError as error:  # two points of one goal or name
        assert "twice" in str(error)
        return
    written = yaml.safe_load(recipe_text(recipe, Path(folder)))
    assert parse_recipe(written, Path(folder)) == recipe


def test_every_default_is_written(tmp_path):
    recipe = parse_recipe(
        {
            "model": {"source": "timm", "name": "resnet18"},
            "data": {"source": "npz", "path": "d.npz", "splits": {"train": "a", "calibration": "b", "test": "c"}},
            "dynamic_exit": {
                "tiny_saver": {"candidates": [{"source": "timm", "name": "resnet10t"}]},
                "early_exit": {},
            },
            "export": {"directory": "out"},
        },
        tmp_path,
    )
    preprocessing = {"size": None, "interpolation": None, "scale": None, "mean": None, "std": None}
    preprocessing["from_model"] = False
    source = {"source": "timm", "weights": None, "arguments": {}, "preprocessing": preprocessing, "labels": None}
    source |= {"quantize": True, "stage": None, "weights_key": None}
    assert yaml.safe_load(recipe_text(recipe, tmp_path / "out")) == {
        "seed": 0,
        "model": {**source, "name": "resnet18"},
        "data": {
            "source": "npz",
            "path": "../d.npz",
            "splits": {"train": "a", "calibration": "b", "test": "c", "unlabelled": None},
            "classes": None,
            "stratify": False,
            "layout": "channels_first",
            "duplicates": "refuse",
            "groups": None,
            "max_bad": 0,
            "text": None,
        },
        "pruning": None,
        "quantization": None,
        "dynamic_exit": {
            "tiny_saver": {
                "candidates": [{**source, "name": "resnet10t"}],
                "selection": "chain",
                "max_savers": 2,
                "fuse": None,
                "quantize": True,
                "time_limit": None,
                "fine_tune": None,
                "replace_backbone": False,
            },
            "early_exit": {
                "positions": "auto",
                "count": 4,
                "heads": ["linear"],
                "sequence": None,
                "training": {
                    "epochs": 40,
                    "batch_size": 64,
                    "learning_rate": 0.01,
                    "warmup": 0.1,
                    "weight_decay": 0.01,
                    "distillation": 0.5,
                    "weighting": "none",
                    "augment": "none",
                    "views": 1,
                    "validation": 0.1,
                    "patience": 10,
                    "cache": "disk",
                    "cache_limit": 20.0,
                },
            },
            "tuning": {
                "max_accuracy_drop": 0.005,
                "risk": "accuracy",
                "max_risk_increase": None,
                "max_class_drop": None,
                "guarantee": None,
                "cost": "macs",
                "batch_size": 64,
                "threads": 1,
                "fuse": "auto",
                "confidence": "auto",
                "points": [],
                "default_point": None,
                "static_search": None,
            },
            "cache": {"directory": None, "enabled": True},
        },
        "upgrade": None,
        "export": {
            "directory": ".",
            "target": "onnxruntime",
            "format": "onnx",
            "layout": "single",
            "compile": False,
            "opset": 20,
            "reduce_range": None,
            "drop_unreached": False,
        },
        "report": {"samples": 4},
    }


def test_overrides_replace_add_and_reach_into_stanzas_left_out(tmp_path):
    path = tiny.write(tmp_path, tiny.recipe(dynamic_exit__tuning=None))
    recipe = read_recipe(
        path,
        {
            "seed": 9,
            "dynamic_exit.tuning.max_accuracy_drop": 0.15,
            "model.arguments.width": 12,
            "quantization": None,
            "export.directory": "elsewhere",
        },
    )
    assert (recipe.seed, recipe.dynamic_exit.tuning.max_accuracy_drop) == (9, 0.15)
    assert recipe.model.arguments == {"width": 12}
    assert recipe.quantization is None
    assert recipe.export.directory == str(tmp_path / "elsewhere")
    assert read_recipe(path).seed == 3


def test_paths_expand_and_are_relative_to_the_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD", str(tmp_path / "far"))
    monkeypatch.setenv("HOME", "/home/somebody")
    changes = {
        "data__path": "$WORLD/d.npz",
        "model__weights": "~/w.pt",
        "export__directory": "../out",
        "model__name": "sub/m.py:make",
    }
    path = tiny.write(tmp_path, tiny.recipe(**changes))
    monkeypatch.chdir("/")
    recipe = read_recipe(path)
    assert recipe.data.path == str(tmp_path / "far/d.npz")
    assert recipe.model.weights == "/home/somebody/w.pt"
    assert recipe.export.directory == str(tmp_path.parent / "out")
    assert recipe.model.name == f"{tmp_path}/sub/m.py:make"


def test_names_that_are_no_paths_stay(tmp_path):
    model = {"source": "transformers", "name": "google/vit-base-patch16-224"}
    recipe = parse_recipe(tiny.recipe(model=model, data__path="package.data:load"), tmp_path)
    assert recipe.model.name == "google/vit-base-patch16-224"
    assert recipe.data.path == "package.data:load"
    assert recipe.model.stage_name == "vit-base-patch16-224"


def test_anchors_and_merges_are_read(tmp_path):
    """A merge brings keys that may come twice: what stands beside it wins."""
    (tmp_path / "recipe.yaml").write_text(
        """
        model: &backbone {source: python, name: models.py:backbone, arguments: {width: 5}}
        data: {source: npz, path: data, splits: {train: train, calibration: calibration, test: test}}
        dynamic_exit:
          tiny_saver:
            candidates:
              - <<: *backbone
                arguments: {width: 2}
        export: {directory: out}
        """
    )
    recipe = read_recipe(tmp_path / "recipe.yaml")
    (candidate,) = recipe.dynamic_exit.tiny_saver.candidates
    assert (candidate.name, candidate.arguments) == (recipe.model.name, {"width": 2})
    assert recipe.model.arguments == {"width": 5}


@pytest.mark.parametrize(
    ("tuning", "goals", "default"),
    [
        ({}, [(0.005, None)], "accuracy-drop-0.5%"),
        ({"points": [{"budget": 0.5}]}, [(0.005, None), (None, 0.5)], "accuracy-drop-0.5%"),
        (
            {"points": [{"budget": 0.5}, {"name": "careful", "max_accuracy_drop": 0.005}]},
            [(None, 0.5), (0.005, None)],
            "careful",
        ),
        (
            {"max_accuracy_drop": 0.0, "points": [{"max_accuracy_drop": 0.1}]},
            [(0.0, None), (0.1, None)],
            "accuracy-drop-0%",
        ),
        (
            {"points": [{"max_accuracy_drop": 0.1}, {"budget": 0.5}], "default_point": "budget-50%"},
            [(0.1, None), (None, 0.5)],
            "budget-50%",
        ),
    ],
)
def test_goals_hold_the_default_once(tmp_path, tuning, goals, default):
    found = parse_recipe(tiny.recipe(dynamic_exit__tuning=tuning), tmp_path).dynamic_exit.tuning
    assert [(goal.max_accuracy_drop, goal.budget) for goal in found.goals] == goals
    assert found.default_goal == default


def test_a_pass_that_is_set_from_outside_goes_before_quantization(tmp_path):
    path = tiny.build(tmp_path)
    recipe = read_recipe(path, {"pruning.ratio": 0.25})
    assert list(recipe.static_passes) == ["pruning"] and recipe.quantization is not None
    text = recipe_text(recipe, tmp_path)
    assert text.index("\npruning:") < text.index("\nquantization:")
    off = read_recipe(path, {"quantization": None, "pruning.ratio": 0.25})
    assert off.quantization is None and list(off.static_passes) == ["pruning"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "loaded"),
    [({"quantization": None}, []), ({}, ["onnxruntime.quantization"])],
    ids=["float", "int8"],
)
def test_a_check_loads_large_libraries_only_where_the_recipe_needs_them(tmp_path, changes, loaded):
    code = (
        "import sys\nfrom dynamic_exit.pipeline.inputs import load_run_inputs\n"
        "from dynamic_exit.recipe import read_recipe\nload_run_inputs(read_recipe('recipe.yaml'))\n"
        "print(*(name for name in sys.argv[1:] if name in sys.modules), sep=',')"
    )
    tiny.build(tmp_path, **changes)
    names = ["neural_compressor", "onnxruntime.quantization", *(["torch._dynamo"] if not loaded else [])]
    command = [sys.executable, "-c", code, *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip().rpartition("\n")[2].split(",") == (loaded or [""])
