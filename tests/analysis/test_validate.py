"""Every fault of a recipe at once, each at its place: good recipes broken in one to three ways."""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest
import tiny
from PIL import Image

from dynamic_exit.analysis.validate import validate

ARRAYS = """\
seed: 0
model:
  source: python
  name: models.py:backbone
  weights: backbone.safetensors
  arguments: {width: 8}
data:
  source: npz
  path: data
  splits:
    train: train
    calibration: calibration
    test: test
  classes: [left, middle, right]
quantization:
  static_quant: {w_dtype: int8}
dynamic_exit:
  tiny_saver:
    candidates:
      - source: python
        name: models.py:saver
        weights: saver2.safetensors
      - {make: auto}
    max_savers: 1
  early_exit:
    count: 2
    heads: [linear, mlp]
    training: {epochs: 15}
  tuning:
    max_accuracy_drop: 0.01
    points:
      - {max_accuracy_drop: 0.1}
      - {budget: 0.03, name: frugal}
export:
  directory: out
  target: onnxruntime
"""
PICTURES = """\
model:
  source: timm
  name: resnet18
  arguments: {num_classes: 2}
  preprocessing: {from_model: true}
data:
  source: imagefolder
  path: pictures
  splits: {train: "[:60%]", calibration: "[60%:80%]", test: "[80%:]"}
  stratify: true
dynamic_exit:
  early_exit: {}
  tuning: {max_accuracy_drop: 0.005, cost: macs}
export: {directory: out}
"""
# what is written in place of what -> a part of the line where the fault is told, and a part of its sentence
BREAKS = {
    "negative seed": ("seed: 0", "seed: -1", "seed: -1", "key 'seed' must be greater than or equal to 0; got -1"),
    "unknown stanza": ("seed: 0", "seeds: 0", "seeds: 0", "unknown key 'seeds'; did you mean 'seed'?"),
    "unknown source": ("source: npz", "source: nzp", "source: nzp", "key 'data.source' must be 'npz', 'imagefolder', "),
    "data path": ("path: data", "path: dta", "path: dta", "dta' does not exist; check the path"),
    "path no text": ("path: data", "path: 3", "path: 3", "key 'data.path' must be a valid string; got 3; put quotes"),
    "split missing": ("    test: test\n", "", "splits:", "key 'data.splits.test' is missing; add it to the recipe"),
    "split misspelt": ("train: train", "train: trian", "train: trian", "trian.npz' does not exist; did you mean"),
    "split key": ("    calibration: c", "    calibrate: c", "calibrate:", "unknown key 'data.splits.calibrate'; did"),
    "slice": ("test: test", "test: test[50:]", "test[50:]", "split 'test[50:]' has a slice that cannot be read; write"),
    "layout": ("  classes:", "  layout: HWC\n  classes:", "HWC", "key 'data.layout' must be 'channels_first' or "),
    "classes no list": ("[left, middle, right]", "3", "classes: 3", "key 'data.classes' must be a valid list; got 3"),
    "yes and no": ("[left, middle, right]", "[no, it, is]", "[no, it", "must be a valid string; got False; put quotes"),
    "model weights": ("backbone.saf", "backbne.saf", "backbne", "backbne.safetensors' do not exist; check the path"),
    "model function": ("py:backbone", "py:bckbone", "py:bckbone", "has no function 'bckbone'; did you mean"),
    "model file": ("models.py:backbone", "model.py:backbone", "model.py:b", "model.py' does not exist; check the path"),
    "model key": ("  weights: b", "  weight: b", "weight: b", "unknown key 'model.weight'; did you mean 'weights'?"),
    "arguments": ("{width: 8}", "[8]", "arguments: [8]", "key 'model.arguments' must be a valid dictionary; got [8]"),
    "algorithm": ("static_quant:", "static_qant:", "static_qant:", "unknown key 'quantization.static_qant'; did you "),
    "parameter": ("w_dtype: int8", "w_dtype: int9", "int9", "'quantization.static_quant.w_dtype' must be 'int8' or "),
    "candidate weights": ("saver2.s", "saver9.s", "saver9.s", "saver9.safetensors' do not exist; check the path"),
    "candidate function": ("models.py:saver", "models.py:svr", "py:svr", "has no function 'svr'; did you mean"),
    "maker": ("make: auto", "make: atuo", "make: atuo", "candidates.1.make' must be 'auto', 'convnet', "),
    "savers": ("max_savers: 1", "max_savers: 0", "max_savers: 0", "must be greater than or equal to 1; got 0"),
    "saver key": ("max_savers: 1", "max_saver: 1", "max_saver:", "unknown key 'dynamic_exit.tiny_saver.max_saver'; "),
    "count": ("count: 2", "count: two", "count: two", "'dynamic_exit.early_exit.count' must be a valid integer"),
    "head": ("[linear, mlp]", "[linear, mpl]", "mpl]", "names an unknown head 'mpl'; did you mean 'mlp'?"),
    "head twice": ("[linear, mlp]", "[mlp, mlp]", "[mlp, mlp]", "names the head 'mlp' twice; name it once"),
    "epochs": ("{epochs: 15}", "{epoch: 15}", "{epoch: 15}", "unknown key 'dynamic_exit.early_exit.training.epoch'; "),
    "drop in points": ("max_accuracy_drop: 0.01", "max_accuracy_drop: 1", "_drop: 1\n", "allows a loss of 100 points"),
    "goals": ("{budget: 0.03,", "{budget: 0.03, max_accuracy_drop: 0.05,", "0.05,", "points.1' must hold "),
    "goal key": ("{budget: 0.03,", "{budgt: 0.03,", "{budgt", "unknown key 'dynamic_exit.tuning.points.1.budgt'; did "),
    "points alike": ("{max_accuracy_drop: 0.1}", "{budget: 0.03}", "tuning:", "holds a point twice; give every "),
    "pass key": ("  early_exit:", "  early_exits:", "early_exits:", "unknown key 'dynamic_exit.early_exits'; did you "),
    "target": ("target: onnx", "target: onxn", "target: onxn", "key 'export.target' must be 'onnxruntime'"),
    "format": ("target: onnxruntime", "target: onnxruntime\n  format: pt2", "export:", "holds `format: pt2`, but `"),
    "directory": ("  directory: out\n", "", "export:", "key 'export.directory' is missing; add it to the recipe"),
    "key twice": ("count: 2", "count: 2\n    count: 3", "count: 3", "key 'count' is written twice, in lines 26 and 27"),
    "list as key": ("count: 2", "? [a, b]\n    : 2", "? [a, b]", "holds a list or a mapping as a key; write a name"),
    "static pass": ("quantization:", "quantisation:", "quantisation:", "unknown key 'quantisation'; did you mean "),
    "model of timm": ("name: resnet18", "name: resnet19", "resnet19", "timm has no model 'resnet19'; did you mean "),
    "shared samples": ('"[60%:80%]"', '"[50%:80%]"', "[50%:80%]", "splits 'calibration' and 'train' share 10% of ''"),
    "split of pictures": ('"[80%:]"', "test", "splits:", "test' has no folders of classes; "),
    "cost": ("cost: macs", "cost: flops", "flops", "key 'dynamic_exit.tuning.cost' must be 'macs' or 'latency'; got "),
    "preprocessing": ("from_model: true", "std: [0.0]", "std: [0.0]", "must hold positive numbers; got [0.0]"),
    "pruning": ("quantization:", "prunning: {}\nquantization:", "prunning:", "unknown key 'prunning'; did you mean"),
    "no passes": ("  early_exit: {}\n", "", "dynamic_exit:", "holds neither `tiny_saver` nor `early_exit`; add one"),
}  # fmt: skip
RECIPES = [
    *((ARRAYS, (name,)) for name in [*BREAKS][:39]),
    *((PICTURES, (name,)) for name in [*BREAKS][39:] if name != "pruning"),
    (ARRAYS, ("negative seed", "target")),
    (ARRAYS, ("unknown source", "head", "directory")),
    (ARRAYS, ("data path", "model weights", "candidate function")),
    (ARRAYS, ("key twice", "goals", "split key")),
    (ARRAYS, ("goal key", "epochs", "saver key")),
    (ARRAYS, ("yes and no", "points alike", "model key")),
    (ARRAYS, ("split misspelt", "format", "maker")),
    (ARRAYS, ("algorithm", "pass key", "drop in points")),
    (ARRAYS, ("parameter", "candidate weights", "layout")),
    (ARRAYS, ("model file", "slice", "savers")),
    (ARRAYS, ("pruning", "count")),
    (ARRAYS, ("list as key", "unknown stanza", "classes no list")),
    (PICTURES, ("model of timm", "shared samples", "cost")),
    (PICTURES, ("no passes", "preprocessing")),
    (PICTURES, ("split of pictures", "cost", "preprocessing")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    tiny.build(folder)
    for place, name in enumerate("ab"):
        (folder / "pictures" / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), place, np.uint8)).save(folder / "pictures" / name / "0.png")
    return folder


def line_of(text, part):
    lines = [number for number, line in enumerate(text.splitlines(True), start=1) if part in line]
    assert len(lines) == 1, (part, lines)
    return lines[0]


@pytest.mark.parametrize(("text", "names"), RECIPES, ids=[", ".join(names) for _, names in RECIPES])
def test_every_fault_is_told_at_once_at_its_line(folder, text, names):
    for name in names:
        old, new, _, _ = BREAKS[name]
        assert text.count(old) >= 1, name
        text = text.replace(old, new, 1)
    expected = [(line_of(text, BREAKS[name][2]), BREAKS[name][3]) for name in names]
    path = folder / "broken.yaml"
    path.write_text(text)
    faults = validate(path, {}).faults
    assert [fault.line for fault in faults] == sorted(line for line, _ in expected), [*map(str, faults)]
    for line, message in expected:
        assert any(fault.line == line and message in fault.message for fault in faults), [*map(str, faults)]


def test_there_are_forty_broken_recipes_and_two_good_ones(folder):
    assert len(RECIPES) >= 40
    path = folder / "good.yaml"
    path.write_text(ARRAYS)
    found = validate(path, {})
    assert (found.faults, found.recipe is not None, found.candidates > 1) == ([], True, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: [", "is not valid YAML: while parsing a flow node expected the node content"),
        ("", "the recipe is empty; it needs the stanzas model, data, dynamic_exit and export"),
        ("- 1", "the recipe must be a mapping, not a list; it needs the stanzas model, data, dynamic_exit and export"),
        ("model: &a {source: timm, arguments: {x: *a}}", "anchor in line 1 stands inside itself; write its values out"),
        ("a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 8)}]\n" for old, new in zip("abcde", "bcdef", strict=True)
        ), "the recipe has more than 20000 values, aliases counted each time; write what is needed"),
        ("#" * 10_000_000, "has 10.0 MB, more than any recipe needs; give the right file"),
        ("[" * 3000, "is not valid YAML: it is nested too deeply"),
        (b"model: \xff\xfe", "is not valid YAML: 'utf-8' codec can't decode byte 0xff"),
    ],
    ids=["not YAML", "empty", "list", "looping anchor", "many aliases", "10 MB", "deep", "bytes"],
)  # fmt: skip
def test_what_is_no_recipe_is_told_in_one_sentence(tmp_path, command, content, message):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (fault,) = validate(path, {}).faults
    assert message in fault.message and "\n" not in fault.message
    code, out, err = command("run", path)  # which stops at it, too
    assert (code, out, err) == (2, "", f"dynamic-exit: {fault.message}\n")


def test_the_command_prints_places_as_compilers_do_or_json(folder, command):
    path = folder / "broken.yaml"
    path.write_text(ARRAYS.replace("seed: 0", "seed: -1").replace("target: onnx", "target: onxn"))
    code, out, err = command("validate", path)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first == f"dynamic-exit: {path}:1:1: key 'seed' must be greater than or equal to 0; got -1"
    assert second.startswith(f"dynamic-exit: {path}:36:3: key 'export.target' must be ")
    code, out, err = command("validate", path, "--json")
    assert (code, err) == (2, "")
    faults = json.loads(out)["faults"]
    assert [(each["line"], each["column"], each["key"], each["file"]) for each in faults] == [
        (1, 1, "seed", str(path)),
        (36, 3, "export.target", str(path)),
    ]


def test_what_models_and_data_hold_is_told_at_their_place(folder, command):
    path = folder / "other.yaml"
    path.write_text(ARRAYS.replace("[left, middle, right]", "[left, right]"))
    assert command("validate", path)[2].splitlines()[-1] == (
        f"dynamic-exit: {path}:14:3: key 'data.classes' names 2 classes, the model has 3; name each once"
    )
    path.write_text(ARRAYS.replace("{width: 8}", "{width: 9}"))
    assert f"{path}:2:1: weights '" in command("validate", path)[2]


def test_a_faulty_recipe_takes_less_than_a_second_and_a_half_of_processor_time(folder):
    path = folder / "slow.yaml"
    path.write_text(ARRAYS.replace("path: data", "path: dta").replace("count: 2", "count: 0"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "dynamic_exit", "validate", str(path)], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert len(done.stderr.splitlines()) == 2
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
