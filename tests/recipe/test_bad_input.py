"""The table of refused input: one exact sentence on stderr, exit code 2, and nothing written or lost."""

import json

import neural_compressor.torch.quantization  # noqa: F401  its import logs to stderr, which the tests compare
import numpy as np
import pytest
import tiny
import torch
from refusals import assert_refused, file, rows, without_steps


def data(split, inputs=None, labels=None):
    """A change that rewrites a split's arrays."""

    def change(folder):
        x, y = (array.copy() for array in tiny.samples(split))
        x, y = inputs(x) if inputs else x, labels(y) if labels else y
        np.savez(folder / "data" / f"{split}.npz", inputs=x, labels=y)

    return change


def put(row, value):
    def change(array):
        array[row] = value
        return array

    return change


def append(content):
    return lambda folder: (folder / "recipe.yaml").write_text((folder / "recipe.yaml").read_text() + content)


def full(folder):
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("the only copy")


def truncated(folder):
    path = folder / "data" / "test.npz"
    path.write_bytes(path.read_bytes()[:2000])


def plain_array(folder):
    with (folder / "data" / "test.npz").open("wb") as file:
        np.save(file, np.zeros(3))


def pickled(folder):
    np.savez(folder / "data" / "test.npz", inputs=np.array([{}]), labels=np.zeros(1, int))


def not_finite(folder):
    torch.save(
        {"state_dict": tiny.backbone().state_dict() | {"head.2.bias": torch.full((3,), torch.nan)}}, folder / "w"
    )


CANDIDATE = {"source": "python", "name": "models.py:saver", "stage": "other"}
LARGER = {"source": "python", "name": "models.py:backbone", "stage": "larger", "arguments": {"width": 16}}
SAVERS = "dynamic_exit__tiny_saver__candidates"

# what it is called, changes of the recipe, changes of the folder, the whole message; {w} is the folder
TABLE = [
    # a misspelt key at any depth
    ("key at the top", {"quantisation": {}}, None, "unknown key 'quantisation'; did you mean 'quantization'?"),
    (
        "key in a stanza",
        {"dynamic_exit__early_exit__position": "auto"},
        None,
        "unknown key 'dynamic_exit.early_exit.position'; did you mean 'positions'?",
    ),
    (
        "key near nothing",
        {"export__where": "x"},
        None,
        "unknown key 'export.where'; known are: compile, directory, drop_unreached, format, layout, opset, "
        "reduce_range, target",
    ),
    (
        "key three deep",
        {"dynamic_exit__early_exit__training__epoch": 3},
        None,
        "unknown key 'dynamic_exit.early_exit.training.epoch'; did you mean 'epochs'?",
    ),
    (
        "key in a candidate",
        {f"{SAVERS}__1__weight": "x"},
        None,
        "unknown key 'dynamic_exit.tiny_saver.candidates.1.weight'; did you mean 'weights'?",
    ),
    (
        "key in a point",
        {"dynamic_exit__tuning__points": [{"budget": 0.5}, {"max_acuracy_drop": 0.1}]},
        None,
        "unknown key 'dynamic_exit.tuning.points.1.max_acuracy_drop'; did you mean 'max_accuracy_drop'?",
    ),
    (
        "key in preprocessing",
        {"model__preprocessing": {"means": [0.0]}},
        None,
        "unknown key 'model.preprocessing.means'; did you mean 'mean'?",
    ),
    (
        "algorithm",
        {"quantization": {"static_qant": {}}},
        None,
        "unknown key 'quantization.static_qant'; did you mean 'static_quant'?",
    ),
    (
        "parameter of an algorithm",
        {"quantization": {"static_quant": {"w_dtyp": "int8"}}},
        None,
        "unknown key 'quantization.static_quant.w_dtyp'; did you mean 'w_dtype'?",
    ),
    # a value that cannot be
    ("key missing", {"model": None}, None, "key 'model' is missing; add it to the recipe"),
    ("value out of range", {"seed": -1}, None, "key 'seed' must be greater than or equal to 0; got -1"),
    (
        "negative samples",
        {"report": {"samples": -1}},
        None,
        "key 'report.samples' must be greater than or equal to 0; got -1",
    ),
    (
        "many samples",
        {"report": {"samples": 25}},
        None,
        "key 'report.samples' must be less than or equal to 24; got 25",
    ),
    (
        "samples as text",
        {"report": {"samples": "few"}},
        None,
        "key 'report.samples' must be a valid integer, unable to parse string as an integer; got 'few'",
    ),
    ("key in report", {"report": {"sample": 3}}, None, "unknown key 'report.sample'; did you mean 'samples'?"),
    ("opset too old", {"export__opset": 16}, None, "key 'export.opset' must be greater than or equal to 17; got 16"),
    (
        "value unknown",
        {"data__source": "npx"},
        None,
        "key 'data.source' must be 'npz', 'imagefolder', 'text', 'python', 'datasets' or 'webdataset'; got 'npx'",
    ),
    (
        "two goals in a point",
        {"dynamic_exit__tuning__points": [{"max_accuracy_drop": 0.1, "budget": 0.5}]},
        None,
        "key 'dynamic_exit.tuning.points.0' must hold one of `max_accuracy_drop`, `max_risk_increase` and `budget`",
    ),
    (
        "unknown risk",
        {"dynamic_exit__tuning__risk": "acuracy"},
        None,
        "key 'dynamic_exit.tuning.risk' names no risk: 'acuracy' is neither a file of costs (.csv, .npy) nor "
        "file.py:function; did you mean 'accuracy'?",
    ),
    (
        "increase of a risk that is accuracy",
        {"dynamic_exit__tuning__max_risk_increase": 0.01},
        None,
        "key 'dynamic_exit.tuning' holds `max_risk_increase`, but its risk is accuracy; give `max_accuracy_drop`",
    ),
    (
        "drop of accuracy where the risk is another",
        {"dynamic_exit__tuning__risk": "top_5", "dynamic_exit__tuning__points": [{"max_accuracy_drop": 0.01}]},
        None,
        "key 'dynamic_exit.tuning' holds `max_accuracy_drop`, but its risk is top_5; give `max_risk_increase`",
    ),
    (
        "limit on classes in a static search",
        {"dynamic_exit__tuning": {"max_class_drop": 0.02, "static_search": {"pruning": [0, 0.2]}}},
        None,
        "key 'dynamic_exit.tuning' has `static_search`, which compares accuracies, and `risk` or `max_class_drop`; "
        "search first, then tune the recipe that was found",
    ),
    (
        "another risk where the backbone is replaced",
        {"dynamic_exit__tuning": {"risk": "agreement"}, "dynamic_exit__tiny_saver__replace_backbone": True},
        None,
        "the recipe has both `tiny_saver.replace_backbone`, which goes by accuracy, and `tuning.risk` or "
        "`tuning.max_class_drop`; keep one",
    ),
    (
        "static search where the backbone is replaced",
        {"dynamic_exit__tuning": {"static_search": {}}, "dynamic_exit__tiny_saver__replace_backbone": True},
        None,
        "the recipe has both `tiny_saver.replace_backbone`, which drops the backbone, and `tuning.static_search`, "
        "which searches the best form of it; keep one",
    ),
    (
        "limit on classes where the chain may end early",
        {"dynamic_exit__tuning": {"max_class_drop": 0.02}, "export__drop_unreached": True},
        None,
        "the recipe has both `export.drop_unreached`, which goes by accuracy, and `tuning.risk` or "
        "`tuning.max_class_drop`; keep one",
    ),
    (
        "risk of more classes than a wrong answer leaves",
        {"dynamic_exit__tuning": {"risk": "top_3"}},
        None,
        "the risk 'top_3' looks at 3 of 3 classes, of which records keep 20; take top_2 or less",
    ),
    (
        "matrix of costs for other classes",
        {"dynamic_exit__tuning": {"risk": [[0, 1], [1, 0]]}},
        None,
        "the cost matrix is of shape (2, 2); 3 classes need 3 rows (true classes) and 3 columns (answers)",
    ),
    (
        "point called like the backbone",
        {"dynamic_exit__tuning__points": [{"budget": 0.5, "name": "backbone"}]},
        None,
        "key 'dynamic_exit.tuning' calls a point 'backbone', which is the backbone alone; give it another name",
    ),
    (
        "point called like the default's",
        {"dynamic_exit__tuning__points": [{"budget": 0.5, "name": "accuracy-drop-1%"}]},
        None,
        "key 'dynamic_exit.tuning' holds a point twice; give every point its own goal and name",
    ),
    (
        "default point that is no point",
        {"dynamic_exit__tuning": {"points": [{"budget": 0.5}], "default_point": "budget-5%"}},
        None,
        "key 'dynamic_exit.tuning' has a `default_point` 'budget-5%', which is none of its points; did you mean "
        "'budget-50%'?",
    ),
    (
        "default point without points",
        {"dynamic_exit__tuning": {"default_point": "budget-5%"}},
        None,
        "key 'dynamic_exit.tuning' has a `default_point` 'budget-5%', which is none of its points; give it `points`",
    ),
    (
        "default point of a static search",
        {
            "dynamic_exit__tuning": {
                "points": [{"budget": 0.5}],
                "default_point": "budget-50%",
                "static_search": {"pruning": [0, 0.2]},
            }
        },
        None,
        "key 'dynamic_exit.tuning' has `static_search`, which chooses by `max_accuracy_drop`, and `default_point`; "
        "keep one",
    ),
    (
        "upgrade without a budget",
        {"upgrade": {"backbones": [LARGER]}, "dynamic_exit__tuning__points": []},
        None,
        "the recipe has `upgrade`, whose points are budgets over what `model` costs today; give `dynamic_exit.tuning` "
        "budgets alone, such as `points: [{budget: 1.0}]`",
    ),
    (
        "upgrade with a drop",
        {"upgrade": {"backbones": [LARGER]}},
        None,
        "the recipe has `upgrade`, whose points are budgets over what `model` costs today; give `dynamic_exit.tuning` "
        "budgets alone, such as `points: [{budget: 1.0}]`",
    ),
    (
        "upgrade and pruning",
        {
            "upgrade": {"backbones": [LARGER]},
            "pruning": {"target_cost": 0.5},
            "quantization": None,
            "dynamic_exit__tuning__points": [{"budget": 1.0}],
        },
        None,
        "the recipe has both `upgrade` and `pruning`; keep one",
    ),
    (
        "upgrade without backbones",
        {"upgrade": {"backbones": []}, "dynamic_exit__tuning__points": [{"budget": 1.0}]},
        None,
        "key 'upgrade.backbones' list should have at least 1 item after validation, not 0; got []",
    ),
    (
        "backbone of an upgrade called like the model",
        {
            "upgrade": {"backbones": [{**LARGER, "stage": "backbone"}]},
            "dynamic_exit__tuning__points": [{"budget": 1.0}],
        },
        None,
        "two of `model`, which is a saver of every backbone of `upgrade`, these backbones and the candidates are "
        "called 'backbone'; name each model once, or give it its own `stage`",
    ),
    (
        "nothing dynamic",
        {"dynamic_exit__tiny_saver": None, "dynamic_exit__early_exit": None},
        None,
        "key 'dynamic_exit' holds neither `tiny_saver` nor `early_exit`; add one of them",
    ),
    (
        "quantized before pruned",
        {},
        append("pruning: {ratio: 0.2}\n"),
        "the recipe prunes after it quantizes; write `pruning` before `quantization`",
    ),
    (
        "key twice",
        {},
        file("recipe.yaml", "seed: 1\nmodel: {}\nseed: 2\n"),
        "key 'seed' is written twice, in lines 1 and 3; keep one",
    ),
    (
        "key twice in one line",
        {},
        file("recipe.yaml", "model: {source: timm, source: python}"),
        "key 'source' is written twice, in lines 1 and 1; keep one",
    ),
    (
        "environment variable",
        {"data__path": "${NO_SUCH_PLACE}/data"},
        None,
        "key 'data.path' names the environment variable 'NO_SUCH_PLACE', which is not set; "
        "set it or write the path out",
    ),
    (
        "candidate called final",
        {f"{SAVERS}__0__stage": "final"},
        None,
        "a candidate is called 'final', the backbone's own name; give it another `stage`",
    ),
    (
        "two candidates of one name",
        {f"{SAVERS}__0__stage": "saver4"},
        None,
        "key 'dynamic_exit.tiny_saver' has two candidates called 'saver4'; give each its own `stage`",
    ),
    (
        "head unknown",
        {"dynamic_exit__early_exit__heads": ["linear", "mpl"]},
        None,
        "key 'dynamic_exit.early_exit.heads' names an unknown head 'mpl'; did you mean 'mlp'?",
    ),
    (
        "head twice",
        {"dynamic_exit__early_exit__heads": ["mlp", "mlp"]},
        None,
        "key 'dynamic_exit.early_exit.heads' names the head 'mlp' twice; name it once",
    ),
    (
        "position unknown",
        {"dynamic_exit__early_exit__positions": ["block1", "blok2"]},
        None,
        "the backbone has no cut 'blok2'; did you mean 'block2'?",
    ),
    # recipes that are none
    (
        "recipe empty",
        {},
        file("recipe.yaml", ""),
        "the recipe is empty; it needs the stanzas model, data, dynamic_exit and export",
    ),
    (
        "recipe a list",
        {},
        file("recipe.yaml", "- model\n- data\n"),
        "the recipe must be a mapping, not a list; it needs the stanzas model, data, dynamic_exit and export",
    ),
    (
        "recipe not YAML",
        {},
        file("recipe.yaml", "model: [timm\n"),
        "recipe '{w}/recipe.yaml' is not valid YAML: while parsing a flow sequence in \"<unicode string>\", line 1, "
        "column 8: model: [timm ^ expected ',' or ']', but got '<stream end>' in \"<unicode string>\", "
        "line 2, column 1: ^",
    ),
    # a missing file, or one that holds something else
    (
        "weights missing",
        {"model__weights": "nowhere.safetensors"},
        None,
        "weights '{w}/nowhere.safetensors' do not exist; check the path",
    ),
    (
        "weights broken",
        {"model__weights": "w.pt"},
        file("w.pt", "no weights"),
        "weights '{w}/w.pt' are no torch file of plain tensors; save the model's state_dict",
    ),
    ("data missing", {"data__path": "nowhere"}, None, "data path '{w}/nowhere' does not exist; check the path"),
    (
        "split missing",
        {"data__splits__test": "tset"},
        None,
        "data file '{w}/data/tset.npz' does not exist; check the path and the names of the splits",
    ),
    *(
        (
            f"data {name}",
            {},
            change,
            "data file '{w}/data/test.npz' is no .npz file of plain numbers; write it with numpy.savez",
        )
        for name, change in (
            ("of text", file("data/test.npz", "1;2;3")),
            ("of nothing", file("data/test.npz", "")),
            ("cut off", truncated),
            ("of one array", plain_array),
            ("of objects", pickled),
        )
    ),
    (
        "data without labels",
        {},
        lambda folder: np.savez(folder / "data" / "test.npz", inputs=np.zeros((2, 1, 6, 6), np.float32)),
        "data file '{w}/data/test.npz' has no array 'labels'; it has inputs",
    ),
    (
        "python file missing",
        {"model__name": "modls.py:backbone"},
        None,
        "file '{w}/modls.py' does not exist; check the path",
    ),
    (
        "python function missing",
        {"model__name": "models.py:bakbone"},
        None,
        "'{w}/models.py' has no function 'bakbone'; did you mean 'backbone'?",
    ),
    (
        "python file of wrong syntax",
        {},
        file("models.py", "def backbone(:\n"),
        "'{w}/models.py' cannot be imported: invalid syntax (models.py, line 1); repair it",
    ),
    (
        "python file that raises",
        {},
        file("models.py", "1 / 0\n"),
        "'{w}/models.py' cannot be imported: division by zero; repair it",
    ),
    (
        "constructor refuses",
        {"model__arguments": {"wide": 3}},
        None,
        "model '{w}/models.py:backbone' cannot be built: backbone() got an unexpected keyword argument 'wide'; "
        "check its `arguments`",
    ),
    (
        "timm name unknown",
        {"model": {"source": "timm", "name": "resnt18"}},
        None,
        "timm has no model 'resnt18'; did you mean 'resnet18'?",
    ),
    (
        "transformers folder missing",
        {"model": {"source": "transformers", "name": "./vit"}},
        None,
        "model folder '{w}/vit' does not exist; check the path",
    ),
    # models and data that do not fit each other
    (
        "weights do not fit in shape",
        {"model__arguments": {"width": 6}},
        None,
        "weights '{w}/backbone.safetensors' do not fit model '{w}/models.py:backbone': 'block3.0.weight' is "
        "[8, 4, 3, 3] in the file and [6, 4, 3, 3] in the model; check its `arguments`",
    ),
    (
        "weights do not fit in names",
        {"model__weights": "saver2.safetensors"},
        None,
        "weights '{w}/saver2.safetensors' do not fit model '{w}/models.py:backbone': the file holds '1.bias', the "
        "model 'block1.0.weight'; check its `arguments`",
    ),
    (
        "weights of NaN",
        {"model__weights": "w"},
        not_finite,
        "the backbone gives NaN or infinite logits; check its weights and preprocessing",
    ),
    (
        "label too high",
        {},
        data("test", labels=put(4, 3)),
        "split 'test' has label 3 of sample 4, the model only classes 0 to 2; map the labels",
    ),
    (
        "label negative",
        {},
        data("train", labels=put(0, -1)),
        "split 'train' has label -1 of sample 0, the model only classes 0 to 2; map the labels",
    ),
    (
        "labels no whole numbers",
        {},
        data("calibration", labels=lambda y: y + 0.5),
        "split 'calibration' must have one whole number as label for each sample; got float64 [160] for 160 samples; "
        "fractions are for regression, which is not supported",
    ),
    (
        "names of other classes",
        {"data__classes": ["left", "right"]},
        None,
        "key 'data.classes' names 2 classes, the model has 3; name each once",
    ),
    (
        "split empty",
        {},
        data("calibration", inputs=lambda x: x[:0], labels=lambda y: y[:0]),
        "split 'calibration' is empty ('calibration'); give it at least one sample",
    ),
    (
        "slice empty",
        {"data__splits__test": "test[50%:50%]"},
        None,
        "split 'test' is empty ('test[50%:50%]'); give it at least one sample",
    ),
    (
        "one sample to calibrate on",
        {"data__splits__calibration": "calibration[:1%]"},
        None,
        "split 'calibration' has 1 sample; give it at least 2",
    ),
    (
        "slice unreadable",
        {"data__splits__test": "test[:half]"},
        None,
        "split 'test[:half]' has a slice that cannot be read; write it as name[0%:50%]",
    ),
    (
        "slice backwards",
        {"data__splits__test": "test[80%:20%]"},
        None,
        "split 'test[80%:20%]' must slice upwards within 0% and 100%",
    ),
    (
        "splits the same",
        {"data__splits__calibration": "test"},
        None,
        "splits 'calibration' and 'test' overlap in 150 samples, first sample 0 of 'calibration' and 0 of 'test'; "
        "make them disjoint, or set `duplicates: drop`",
    ),
    (
        "splits share one sample",
        {},
        lambda folder: data("test", inputs=put(5, tiny.samples("train")[0][7]))(folder),
        "splits 'train' and 'test' overlap in 1 samples, first sample 7 of 'train' and 5 of 'test'; "
        "make them disjoint, or set `duplicates: drop`",
    ),
    (
        "splits of two shapes",
        {},
        data("test", inputs=lambda x: x[:, :, :5]),
        "split 'test' holds samples of float32 [1, 5, 6] and split 'train' of float32 [1, 6, 6]; "
        "give all splits one shape and type",
    ),
    (
        "NaN in the data",
        {},
        data("calibration", inputs=put((9, 0, 2, 2), np.nan)),
        "split 'calibration' holds NaN or infinity, first in sample 9; repair or remove it",
    ),
    (
        "infinity in the data",
        {},
        data("test", inputs=put((149, 0, 5, 5), -np.inf)),
        "split 'test' holds NaN or infinity, first in sample 149; repair or remove it",
    ),
    (
        "pattern that matches nothing",
        {f"{SAVERS}__1": CANDIDATE | {"name": "models.py:savr*", "stage": None}},
        None,
        "pattern '{w}/models.py:savr*' matches no python model; did you mean '{w}/models.py:saver'?",
    ),
    (
        "no usable cut",
        {"model": {"source": "python", "name": "models.py:flat"}, "dynamic_exit__tiny_saver": None},
        None,
        "the backbone has no usable cut: nowhere early enough does one tensor alone carry everything on; "
        "leave `early_exit` out of the recipe",
    ),
    # an output where something could be lost
    ("output not empty", {}, full, "output folder '{w}/out' is not empty; choose another one or empty it"),
    ("output a file", {}, file("out", "x"), "output '{w}/out' is a file; choose a folder that does not exist yet"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Restored by every test that changes it."""
    folder = tmp_path_factory.mktemp("world")
    tiny.build(folder)
    return folder, tiny.tree(folder)


def restore(folder, content):
    for name in sorted(set(tiny.tree(folder)) - set(content), reverse=True):
        (folder / name).unlink() if (folder / name).is_file() else (folder / name).rmdir()
    for name, data in content.items():
        if data is not None:
            (folder / name).write_bytes(data)


@rows(TABLE)
def test_refused(world, command, changes, change, message):
    folder, content = world
    try:
        assert_refused(command, "run", folder, changes, change, message)
    finally:
        restore(folder, content)


def nan_saver(folder):
    torch.save(tiny.saver(2).state_dict() | {"4.bias": torch.full((3,), torch.nan)}, folder / "nan.pt")


# a candidate that cannot be used: what it is called, its source, changes of the folder, the reason
LEFT_OUT = [
    (
        "weights missing",
        CANDIDATE | {"weights": "nowhere.pt"},
        None,
        "weights '{w}/nowhere.pt' do not exist; check the path",
    ),
    (
        "weights that do not fit",
        CANDIDATE | {"weights": "saver4.safetensors", "arguments": {"width": 2}},
        None,
        "weights '{w}/saver4.safetensors' do not fit model '{w}/models.py:saver': '1.weight' is [4, 1, 3, 3] in the "
        "file and [2, 1, 3, 3] in the model; check its `arguments`",
    ),
    (
        "function missing",
        CANDIDATE | {"name": "models.py:savr"},
        None,
        "'{w}/models.py' has no function 'savr'; did you mean 'saver'?",
    ),
    (
        "other classes",
        CANDIDATE | {"arguments": {"classes": 4}},
        None,
        "candidate 'other' has 4 classes and the backbone 3; use one with 3",
    ),
    (
        "NaN",
        CANDIDATE | {"weights": "nan.pt"},
        nan_saver,
        "candidate 'other' gives NaN or infinite logits; check its weights and preprocessing",
    ),
    (
        "larger than the backbone",
        CANDIDATE | {"name": "models.py:backbone", "arguments": {"width": 9}},
        None,
        "it costs 0.04126 M multiply-adds, the backbone 0.03444 M multiply-adds",
    ),
    (
        "as large as the backbone",
        CANDIDATE | {"name": "models.py:backbone"},
        None,
        "it costs 0.03444 M multiply-adds, the backbone 0.03444 M multiply-adds",
    ),
]


@pytest.mark.parametrize(
    ("candidate", "change", "reason"), [row[1:] for row in LEFT_OUT], ids=[row[0] for row in LEFT_OUT]
)
def test_no_candidate_remains(world, command, candidate, change, reason):
    """Each candidate that cannot be used is named; where none remains, nothing is written."""
    folder, content = world
    try:
        tiny.write(folder, tiny.recipe(**{SAVERS: [candidate]}))
        if change:
            change(folder)
        before = tiny.tree(folder)
        code, out, err = command("run", folder / "recipe.yaml")
        reason = reason.replace("{w}", str(folder))
        assert (code, out, "".join(without_steps(err)).splitlines()) == (
            2,
            "",
            [
                f"warning: candidate 'other' is left out: {reason}",
                f"dynamic-exit: no candidate of `tiny_saver` can be used, 'other' is left out: {reason}; give others",
            ],
        )
        assert tiny.tree(folder) == before
    finally:
        restore(folder, content)


def test_the_run_goes_on_without_candidates_that_cannot_be_used(tmp_path, command):
    """All of them at once beside a good one: named on stderr, and kept in the table with the reason."""
    values = tiny.recipe(dynamic_exit__early_exit=None, quantization=None)
    savers = values["dynamic_exit"]["tiny_saver"]["candidates"]
    bad = [candidate | {"stage": f"bad{place}"} for place, (_, candidate, _, _) in enumerate(LEFT_OUT)]
    tiny.build(tmp_path)
    nan_saver(tmp_path)
    savers[1:] = bad
    recipe = tiny.write(tmp_path, values)
    code, out, err = command("run", recipe, "--json")
    assert code == 0
    rows = {row["stage"]: row for row in json.loads(out)["candidates"]}
    assert rows["saver2"]["chosen"]
    for place, (_, _, _, reason) in enumerate(LEFT_OUT):
        name = f"bad{place}"
        reason = reason.replace("{w}", str(tmp_path)).replace("'other'", f"'{name}'")
        assert f"warning: candidate '{name}' is left out: {reason}\n" in err
        assert rows[name]["why"] == f"left out: {reason}"
        assert (rows[name]["chosen"], rows[name]["accuracy"], rows[name]["saving_alone"]) == (False, None, None)
    # what is known of one that was too dear is told
    assert [name for name in rows if rows[name]["cost"] is None] == [f"bad{place}" for place in range(5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nowhere.yaml"), "recipe 'nowhere.yaml' does not exist; give the path of a YAML file"),
        (("validate", "nowhere.yaml"), "recipe 'nowhere.yaml' does not exist; give the path of a YAML file"),
        (("run", "recipe.yaml", "--set", "seed"), "--set takes key=value; got 'seed'"),
        (("run", "recipe.yaml", "--set", "seed=[1"), "--set seed=[1: the value is no YAML; put quotes around it"),
        (
            ("run", "recipe.yaml", "--set", "dynamic_exit.early_exit.cont=1"),
            "unknown key 'dynamic_exit.early_exit.cont'; did you mean 'count'?",
        ),
        (
            ("validate", "recipe.yaml", "--set", "seed.x=1"),
            "key 'seed.x' does not lead into a stanza; use dotted names such as dynamic_exit.tuning.cost",
        ),
        (
            ("run", "recipe.yaml", "--output", "data"),
            "output folder '{w}/data' is not empty; choose another one or empty it",
        ),
        (
            ("evaluate", "nowhere", "--data", "recipe.yaml"),
            "folder 'nowhere' does not exist; give a folder that `dynamic-exit run` wrote",
        ),
        (
            ("evaluate", "data", "--data", "recipe.yaml"),
            "'data' has no config.json; it is no complete dynamic model, export it anew",
        ),
        (("inspect", "data"), "'data' has no model.onnx; give a folder that `dynamic-exit run` wrote"),
    ],
    ids=lambda value: value[0] + "-" + "-".join(value[2:]) if isinstance(value, tuple) else "",
)
def test_refused_arguments(world, command, monkeypatch, arguments, message):
    folder, content = world
    monkeypatch.chdir(folder)
    code, out, err = command(*arguments)
    assert (code, out, err) == (2, "", f"dynamic-exit: {message.replace('{w}', str(folder))}\n")
    assert tiny.tree(folder) == content


def test_unknown_option_exits_with_2(world, command):
    code, out, err = command("run", world[0] / "recipe.yaml", "--outputs", "x")
    assert (code, out) == (2, "")
    assert "No such option '--outputs'" in err or "No such option: --outputs" in err
    assert "Traceback" not in err
