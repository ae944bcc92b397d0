"""Which classes data have, in what order, and what labels mean: the right number or one sentence, never a guess."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dynamic_exit.analysis.samples import load_samples
from dynamic_exit.artifact.model_config import DynamicExitModelConfig
from dynamic_exit.data.loading import load_splits
from dynamic_exit.errors import DataError, ModelError
from dynamic_exit.passes import ModelSource
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.recipe import DataSource, parse_recipe
from dynamic_exit.sources.models.candidates import load_candidate

SPLITS = ("train", "calibration", "test")
THREE = dict.fromkeys(SPLITS, "a b c")


def folders(base, tree):
    """Folders of classes by split; "a" gets one picture of its own, "a*2" two, "a/" none, "a.DS" a hidden file."""
    tones = itertools.count(1)
    for split, names in tree.items():
        for entry in names if isinstance(names, list) else names.split():
            name, _, count = entry.partition("*")
            folder = base / split / name.removesuffix("/")
            folder.mkdir(parents=True)
            for number in range(0 if name.endswith("/") else int(count or 1)):
                Image.new("RGB", (2, 2), (next(tones), 0, 0)).save(folder / f"{number}.png")
    return base


def source(base, kind="imagefolder", splits=SPLITS, **more):
    values = {"source": kind, "path": str(base), "splits": dict(zip(SPLITS, splits, strict=True)), **more}
    return DataSource.model_validate(values, context={"base": base})


def read(data, model=None):
    said = []
    splits = load_splits(data, 0, model, note=said.append)
    names = {split.class_names for split in splits.values()}
    assert len(names) == 1
    return {key: split.labels.tolist() for key, split in splits.items()}, names.pop(), said


def labelled(*names):
    return ModelSource(source="python", name="m.py:make", labels=list(names))


ORDERS = {
    # classes are one set for all splits
    "test lacks the first": (
        {"train": "a b c", "calibration": "a b c", "test": "b c"},
        {"test": [1, 2]},
        ("a", "b", "c"),
        ["'test' holds no images of a"],
    ),
    "train lacks the last": (
        {"train": "a b", "calibration": "a b c", "test": "b c"},
        {"train": [0, 1], "test": [1, 2]},
        ("a", "b", "c"),
        ["'train' holds no images of c", "'test' holds no images of a"],
    ),
    "calibration has an empty one": (
        {"train": "a b c", "calibration": "a/ b c", "test": "a b c"},
        {"calibration": [1, 2], "test": [0, 1, 2]},
        ("a", "b", "c"),
        ["'calibration' holds no images of a"],
    ),
    "only an empty one elsewhere": (
        {"train": "a b", "calibration": "a/ b", "test": "b"},
        {"test": [1]},
        ("a", "b"),
        ["'calibration' holds no images of a", "'test' holds no images of a"],
    ),
    # what is no class
    "hidden folders": (
        {"train": ".ipynb_checkpoints a b", "calibration": "@eaDir a b", "test": ".AppleDouble a b"},
        dict.fromkeys(SPLITS, [0, 1]),
        ("a", "b"),
        ["no classes are the folders .AppleDouble, .ipynb_checkpoints, @eaDir, which begin with . or @"],
    ),
    "hidden and empty folders": (
        {"train": ".cache a b z/", "calibration": "a b", "test": ["a", "b", "z/"]},
        dict.fromkeys(SPLITS, [0, 1]),
        ("a", "b"),
        ["no classes are the folders .cache, which begin with . or @; z, which are empty"],
    ),
    # order
    "numbers": (
        dict.fromkeys(SPLITS, "1 2 10"),
        dict.fromkeys(SPLITS, [0, 1, 2]),
        ("1", "2", "10"),
        ["every class folder is a number: they count as classes in number order, 1, 2, 10"],
    ),
    "numbers below zero and with fractions": (
        dict.fromkeys(SPLITS, "-1 -10 2.0"),
        dict.fromkeys(SPLITS, [0, 1, 2]),
        ("-10", "-1", "2.0"),
        ["every class folder is a number: they count as classes in number order, -10, -1, 2.0"],
    ),
    "numbers of one width": (dict.fromkeys(SPLITS, "01 02 10"), {"test": [0, 1, 2]}, ("01", "02", "10"), []),
    "names with numbers in them": (
        dict.fromkeys(SPLITS, "x1 x10 x2"),
        {"test": [0, 1, 2]},
        ("x1", "x10", "x2"),
        [],
    ),
    "capitals": (dict.fromkeys(SPLITS, "b C a"), {"test": [0, 1, 2]}, ("C", "a", "b"), []),
}


@pytest.mark.parametrize("tree, labels, names, notes", ORDERS.values(), ids=ORDERS)
def test_folders_of_all_splits_are_one_set_of_classes(tmp_path, tree, labels, names, notes):
    found, classes, said = read(source(folders(tmp_path, tree)))
    assert classes == names
    assert {key: found[key] for key in labels} == labels
    assert said == notes


# tree, keys of `data`, the backbone's own names, the number of each folder in the order of the tree, all names
KNOWN = {
    "data.classes in another order": (THREE, {"classes": [*"cab"]}, None, [1, 2, 0], "c a b"),
    "the backbone in another order": (THREE, {}, [*"bca"], [2, 0, 1], "b c a"),
    "data.classes before the backbone": (THREE, {"classes": [*"cba"]}, [*"abc"], [2, 1, 0], "c b a"),
    "more are known than there are": (THREE, {"classes": [*"dcbax"]}, None, [3, 2, 1], "d c b a x"),
    "numbers": (dict.fromkeys(SPLITS, "1 2 10"), {"classes": ["10", "1", "2"]}, None, [1, 2, 0], "10 1 2"),
    "with a dot": (dict.fromkeys(SPLITS, ".net java"), {"classes": ["java", ".net"]}, None, [1, 0], "java .net"),
    "in one split alone": ({"train": "a b c", "calibration": "b", "test": "b"}, {}, [*"cba"], [2, 1, 0], "c b a"),
}


@pytest.mark.parametrize("tree, keys, own, labels, names", KNOWN.values(), ids=KNOWN)
def test_known_names_decide_what_a_folder_is(tmp_path, tree, keys, own, labels, names):
    found, classes, _ = read(source(folders(tmp_path, tree), **keys), own and labelled(*own))
    assert (found["train"], classes) == (sorted(labels), tuple(names.split()))
    # pixels go with their labels: the i-th folder of the row has the i-th tone
    splits = load_splits(source(tmp_path, **keys), 0, own and labelled(*own))
    tones = next(iter(splits["train"].inputs.values()))[:, 0, 0, 0]
    assert dict(zip(tones.tolist(), splits["train"].labels.tolist(), strict=True)) == dict(enumerate(labels, start=1))


def test_a_hugging_face_model_brings_its_names(tmp_path):
    config = {"model_type": "vit", "id2label": {"0": "dog", "1": "cat"}, "label2id": {"dog": 0, "cat": 1}}
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text(json.dumps(config))
    base = folders(tmp_path / "data", dict.fromkeys(SPLITS, "cat dog"))
    model = ModelSource(source="transformers", name=str(tmp_path / "vit"))
    assert read(source(base), model)[:2] == (dict.fromkeys(SPLITS, [0, 1]), ("dog", "cat"))


def test_names_that_no_folder_has_are_matched_by_order_and_that_is_said(tmp_path):
    base = folders(tmp_path, dict.fromkeys(SPLITS, "n01 n02"))
    found, names, said = read(source(base), labelled("tench", "shark"))
    assert (found["test"], names) == ([0, 1], ("n01", "n02"))
    assert said == [
        "the data call no class as the backbone does: matched by order, class folder 'n01' is the backbone's 'tench' "
        "and 'n02' its 'shark'"
    ]


REFUSED = {
    "misspelt in one split": (
        {"train": "cat dog", "calibration": "cat dog", "test": "cat dogs"},
        {},
        None,
        "class folder '{w}/test/dogs' is in no other split (did you mean 'dog'?); rename it, remove it, or name all "
        "classes in `data.classes`",
    ),
    "in train alone": (
        {"train": "a b zebra", "calibration": "a b", "test": "a b"},
        {},
        None,
        "class folder '{w}/train/zebra' is in no other split (known are: a, b); rename it, remove it, or name all "
        "classes in `data.classes`",
    ),
    "not in data.classes": (
        dict.fromkeys(SPLITS, "cat dog"),
        {"classes": ["cats", "dog"]},
        None,
        "class folder 'cat' is no class of `data.classes`; did you mean 'cats'?",
    ),
    "some unknown to the backbone": (
        dict.fromkeys(SPLITS, "cat dog"),
        {},
        ["dog", "horse"],
        "class folder 'cat' is no class of the backbone; known are: dog, horse",
    ),
    "all unknown to the backbone, which has more": (
        dict.fromkeys(SPLITS, "n01 n02"),
        {},
        ["tench", "shark", "ray"],
        "class folder 'n01' is no class of the backbone, which has 3, among them 'tench'; call them as the backbone "
        "does, or name all classes in `data.classes`",
    ),
    "twice among the backbone's": (
        dict.fromkeys(SPLITS, "crane dog"),
        {},
        ["crane", "dog", "crane"],
        "class folder 'crane' is more than one class of the backbone; give every class a name of its own in "
        "`data.classes`",
    ),
    "no class but hidden ones": (
        {"train": "a", "calibration": ".git a/", "test": "a"},
        {},
        None,
        "image folder '{w}/calibration' has no folders of classes; put the images of each class into one",
    ),
}


@pytest.mark.parametrize("tree, keys, own, sentence", REFUSED.values(), ids=REFUSED)
def test_folders_that_fit_nowhere_are_refused_by_name(tmp_path, tree, keys, own, sentence):
    with pytest.raises(DataError) as refused:
        read(source(folders(tmp_path, tree), **keys), own and labelled(*own))
    assert str(refused.value) == sentence.format(w=tmp_path)


def test_slices_of_one_folder_count_as_splits_of_their_own(tmp_path):
    base = folders(tmp_path, {"train": "a*3 b*3", "dev": "a*4 b*4"})
    found, _, _ = read(source(base, splits=("train", "dev[:50%]", "dev[50%:]")))
    assert sorted(found["calibration"] + found["test"]) == [0] * 4 + [1] * 4
    with pytest.raises(DataError, match="train/c' is in no other split"):
        read(source(folders(tmp_path, {"train": "c"}), splits=("train", "dev[:50%]", "dev[50%:]")))


ARRAYS = {
    "names": (["b", "a"], ["c", "b"], ["a", "c"], None, [[1, 0], [2, 1], [0, 2]], "abc"),
    "names and data.classes": (["b", "a"], ["c", "b"], ["a", "c"], ["c", "b", "a"], [[1, 2], [0, 1], [2, 0]], "cba"),
    "bytes": ([b"b", b"a"], [b"b", b"b"], [b"a", b"a"], None, [[1, 0], [1, 1], [0, 0]], "ab"),
    "digits as text": (["1", "0"], ["2", "2"], ["0", "1"], None, [[1, 0], [2, 2], [0, 1]], ""),
    "truth values": ([True, False], [True, True], [False, False], None, [[1, 0], [1, 1], [0, 0]], ""),
    "whole floats": ([1.0, 0.0], [2.0, 2.0], [0.0, 1.0], None, [[1, 0], [2, 2], [0, 1]], ""),
}


@pytest.mark.parametrize("kind", ["npz", "python"])
@pytest.mark.parametrize("train, calibration, test, classes, numbers, names", ARRAYS.values(), ids=ARRAYS)
def test_labels_of_arrays_and_functions(tmp_path, kind, train, calibration, test, classes, numbers, names):
    arrays = {}
    for start, (key, labels) in enumerate(zip(SPLITS, (train, calibration, test), strict=True)):
        inputs = np.float32([[2 * start], [2 * start + 1]])
        arrays |= {f"x_{key}": inputs, f"y_{key}": labels}
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    if kind == "python":
        (tmp_path / "own.py").write_text(
            f"import numpy as np\nARRAYS = np.load({str(path)!r})\n"
            "def load(name): return ARRAYS['x_' + name], ARRAYS['y_' + name].tolist()\n"
        )
        path = tmp_path / "own.py:load"
    found, told, _ = read(source(path, kind, **({"classes": classes} if classes else {})))
    assert (list(found.values()), told) == (numbers, tuple(names) or None)


class Brightness(nn.Module):
    """Three classes by brightness."""

    def forward(self, x):
        return -((x.float().mean((1, 2, 3))[:, None] - torch.tensor([1.0, 2.0, 3.0])) ** 2)


RECIPE = {
    "model": {"source": "python", "name": "m.py:make"},
    "data": {"source": "imagefolder", "path": "data", "splits": {key: key for key in SPLITS}},
    "dynamic_exit": {"early_exit": {}},
    "export": {"directory": "out"},
}


def recipe(base, **data):
    return parse_recipe({**RECIPE, "data": {**RECIPE["data"], **data}}, base)


@pytest.mark.parametrize(
    "classes, labels",
    [(None, ["ant", "bee", "cow"]), (["cow", "bee", "ant"], ["cow", "bee", "ant"])],
    ids=["of folders", "of data.classes"],
)
def test_names_reach_the_served_labels(tmp_path, classes, labels):
    folders(tmp_path / "data", dict.fromkeys(SPLITS, "ant bee cow"))
    assert load_run_inputs(recipe(tmp_path, **({"classes": classes} if classes else {})), Brightness()).labels == labels


def test_folders_for_some_classes_of_a_nameless_backbone_are_refused(tmp_path):
    folders(tmp_path / "data", dict.fromkeys(SPLITS, "ant cow"))
    with pytest.raises(DataError) as refused:
        load_run_inputs(recipe(tmp_path), Brightness())
    assert str(refused.value) == (
        "the data hold 2 classes, 'ant' to 'cow', the model has 3; name all of the model's in the order of its logits "
        "in `data.classes`"
    )


def test_two_orders_of_the_same_names_are_told(tmp_path):
    folders(tmp_path / "data", dict.fromkeys(SPLITS, "ant bee cow"))
    model = Brightness()
    model.config = type("Config", (), {"id2label": {0: "bee", 1: "ant", 2: "cow"}})
    found = load_run_inputs(recipe(tmp_path, classes=["ant", "bee", "cow"]), model)
    assert found.labels == ["ant", "bee", "cow"]
    assert "class 0 is 'ant' in `data.classes` and 'bee' in the model; `data.classes` counts" in found.notes
    assert load_run_inputs(recipe(tmp_path), model).splits["test"].labels.tolist() == [0, 1, 2]
    assert load_run_inputs(recipe(tmp_path), model).labels == ["bee", "ant", "cow"]


def test_labels_of_another_number_are_refused(tmp_path):
    (tmp_path / "own.py").write_text(
        "import numpy as np\ndef load(name): return np.full((3, 1, 2, 2), np.float32(len(name))), [0, 1, 2]\n"
    )
    short = recipe(tmp_path, source="python", path="own.py:load")
    short = short.model_copy(update={"model": short.model.model_copy(update={"labels": ["ant", "bee"]})})
    with pytest.raises(ModelError, match=r"^key 'model.labels' names 2 classes, the model has 3; name each once$"):
        load_run_inputs(short, Brightness())


SERVED = {
    # folders of every split, what the written model serves, labels of the test split
    "all": ("ant bee cow", "ant bee cow", [0, 1, 2]),
    "another order": ("ant bee cow", "cow ant bee", [1, 2, 0]),
    "some": ("bee cow", "ant bee cow", [1, 2]),
    "other names throughout": ("n01 n02", "ant bee", [0, 1]),
}


def written(tmp_path, served):
    config = DynamicExitModelConfig(id2label=dict(enumerate(served.split())))
    config.save_pretrained(tmp_path / "served")
    return tmp_path / "served"


@pytest.mark.parametrize("tree, served, labels", SERVED.values(), ids=SERVED)
def test_evaluation_matches_folders_to_what_is_served(tmp_path, tree, served, labels):
    folders(tmp_path / "data", dict.fromkeys(SPLITS, tree))
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))  # JSON is YAML
    assert load_samples(tmp_path / "recipe.yaml", written(tmp_path, served)).labels.tolist() == labels
    split = load_samples(tmp_path / "data" / "test", written(tmp_path, served))
    assert split.labels.tolist() == labels and next(iter(split.inputs.values())).dtype == np.uint8


@pytest.mark.parametrize(
    "names, sentence",
    [
        ("ant cows", "the samples have a class 'cows', which the model does not serve; did you mean 'cow'?"),
        ("n1 n2", "the samples have a class 'n1', which the model does not serve; known are: ant, bee, cow"),
    ],
    ids=["some", "all, of another number"],
)
def test_evaluation_refuses_classes_that_are_not_served(tmp_path, names, sentence):
    np.savez(tmp_path / "data.npz", inputs=np.eye(2), labels=names.split())
    with pytest.raises(DataError) as refused:
        load_samples(tmp_path / "data.npz", written(tmp_path, "ant bee cow"))
    assert str(refused.value) == sentence


def test_evaluation_takes_names_for_labels(tmp_path):
    np.savez(tmp_path / "data.npz", inputs=np.eye(3), labels=["cow", "ant", "cow"])
    assert load_samples(tmp_path / "data.npz", written(tmp_path, "ant bee cow")).labels.tolist() == [2, 0, 2]


@pytest.mark.parametrize(
    "own, order",
    [(["c", "a", "b"], (1, 2, 0)), (["a", "b", "c"], None), (["x", "y", "z"], None), (None, None)],
    ids=["another order", "the same", "other names", "none"],
)
def test_candidates_follow_names_that_only_the_backbone_tells(tmp_path, own, order):
    (tmp_path / "m.py").write_text("from torch import nn\ndef make(): return nn.Linear(2, 3)\n")
    source = ModelSource(source="python", name=f"{tmp_path}/m.py:make", labels=own)
    found = load_candidate(source, 3, {"x": torch.ones(2, 2)}, seed=0, served=["a", "b", "c"]).class_order
    assert (None if found is None else tuple(found.tolist())) == order
