"""What is found out about models and data, and the recipe that is written for them."""

import json

import numpy as np
import pytest
import tiny
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from dynamic_exit.data.loading import draw_order, load_splits
from dynamic_exit.errors import DynamicExitError
from dynamic_exit.recipe import parse_recipe
from dynamic_exit.start import Question, Request, look_at, refuse_to_guess, starting_recipe


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text("def net():\n    raise AssertionError\n")
    return tmp_path


def pictures(path, classes, count=6, size=(8, 8)):
    for name in classes:
        (path / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.random.default_rng([i, len(str(path)), *map(ord, name)]).integers(0, 256, (*size, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(path / name / f"{i}.png")


def write_rows(path, rows):
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def look(data, model="models.py:net", ask=refuse_to_guess, **options):
    return look_at(Request(model, data, **options), ask)


def recipe_of(found, folder):
    """The stanzas of the recipe that is written into a folder, which is valid."""
    text = starting_recipe(
        found, file=folder / "recipe.yaml", output=folder / "out", drop=0.01, target="onnxruntime", seed=3
    )
    values = yaml.safe_load(text)
    parse_recipe(values, folder)
    return values


def test_a_folder_of_classes_is_parted_by_the_seed_and_by_class(folder):
    pictures(folder / "my pictures", ["rot é", "猫"], count=10)
    found = look("my pictures", pixels="0-1")
    assert found.lines[1:] == [
        "data: 20 pictures (8 x 8) of 2 classes (rot é, 猫)",
        "splits: 12 train, 4 calibration, 4 test (drawn by the seed, alike by class)",
    ]
    values = recipe_of(found, folder)
    assert values["seed"] == 3
    assert values["model"] == {
        "source": "python",
        "name": "models.py:net",
        "preprocessing": {"scale": 0.00392157},
    }
    assert values["data"]["path"] == "my pictures"
    splits = load_splits(parse_recipe(values, folder).data, 3)
    assert {key: np.bincount(split.labels).tolist() for key, split in splits.items()} == {
        "train": [6, 6],
        "calibration": [2, 2],
        "test": [2, 2],
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "val", "test"), {"train": "train", "calibration": "val", "test": "test"}),
        (("train", "test"), {"train": "train", "calibration": "test[:50%]", "test": "test[50%:]"}),
        (("Training", "valid"), {"train": "Training", "calibration": "valid[:50%]", "test": "valid[50%:]"}),
    ],
)
def test_folders_of_splits_are_known_by_their_names(folder, names, expected):
    for name in names:
        pictures(folder / "p" / name, "ab")
    data = recipe_of(look("p", pixels="0-255"), folder)["data"]
    assert data["splits"] == expected
    assert data.get("stratify", False) == ("[" in expected["test"])


def test_folders_of_classes_may_be_called_like_splits_if_they_hold_pictures(folder):
    pictures(folder / "p", ["test", "train"])
    assert look("p", pixels="0-1").data.splits.names["train"] == "[:60%]"


def test_names_may_hold_spaces_quotes_and_any_letters(folder):
    names = ["кошка рыжая", "犬 いぬ", "قطة", "a: b & <c> #1", "it's"]
    pictures(folder / "мои фото", names)
    found = look("мои фото", pixels="0-1")
    assert found.lines[1].startswith("data: 30 pictures (8 x 8) of 5 classes (")
    source = parse_recipe(recipe_of(found, folder), folder).data
    splits = load_splits(source, 0)
    assert splits["test"].class_names == tuple(sorted(names))
    assert [len(split) for split in splits.values()] == [18, 6, 6]


def test_splits_of_other_names_are_named_by_the_user(folder):
    for name in ("one", "two", "three"):
        pictures(folder / "p" / name, "ab")
    with pytest.raises(DynamicExitError, match="of which it is not plain what each is for; give --splits train=NAME,"):
        look("p", pixels="0-1")
    found = look("p", pixels="0-1", splits="train=one,calibration=two,test=three[:50%]")
    assert (found.data.splits.names["test"], found.data.splits.counts["test"]) == ("three[:50%]", 6)


@pytest.mark.parametrize(
    ("rows", "name", "columns"),
    [
        (["id,review,sentiment", *(f"{i},good film {i},{'no' if i % 2 else 'yes'}" for i in range(20))], "a.csv",
         {"text": "review", "label": "sentiment"}),
        ([f"it was {i} o'clock\t{'AB'[i % 2]}" for i in range(20)], "a.tsv", {"text": 0, "label": 1}),
        (["kind\twords", *(f"{'AB'[i % 2]}\tit was {i} o'clock" for i in range(20))], "a.tsv",
         {"text": "words", "label": "kind"}),
        ([json.dumps({"premise": f"p {i}", "hypothesis": "h", "label": i % 2}) for i in range(20)], "a.jsonl",
         {"text": "premise", "pair": "hypothesis", "label": "label"}),
    ],
    ids=["named", "without header", "header of other names", "pairs"],
)  # fmt: skip
def test_columns_of_texts_are_found(folder, rows, name, columns):
    write_rows(folder / name, rows)
    data = recipe_of(look(name), folder)["data"]
    assert data["text"]["columns"] == columns
    assert (data["source"], data["stratify"]) == ("text", True)


def test_what_is_not_plain_is_asked(folder):
    rows = ["first,second,words", *(f"{'AB'[i % 2]},{'XYZ'[i % 3]},it was {i} o'clock" for i in range(30))]
    write_rows(folder / "a.csv", rows)
    asked = []

    def ask(question):
        asked.append(question)
        return "second"

    assert recipe_of(look("a.csv", ask=ask), folder)["data"]["text"]["columns"] == {"text": "words", "label": "second"}
    assert asked == [
        Question("--label-column", "which column of 'a.csv' holds the labels", ["first", "second", "words"], "first")
    ]


@pytest.mark.parametrize(
    ("arrays", "splits"),
    [
        ({"x": (20, 1, 9), "y": 20}, {"train": "[:60%]", "calibration": "[60%:80%]", "test": "[80%:]"}),
        (
            {"x_train": (20, 1, 9), "y_train": 20, "x_test": (8, 1, 9), "y_test": 8},
            {"train": "train", "calibration": "test[:50%]", "test": "test[50%:]"},
        ),
    ],
)
def test_arrays_are_found_with_and_without_splits(folder, arrays, splits):
    drawn = np.random.default_rng(0)
    values = {
        name: np.arange(size) % 4 if isinstance(size, int) else drawn.normal(size=size) for name, size in arrays.items()
    }
    np.savez(folder / "series.npz", **values)
    found = look("series.npz")
    assert "series (1 x 9, float64) of 4 classes" in found.data.described
    data = recipe_of(found, folder)["data"]
    assert (data["source"], data["splits"]) == ("npz", splits)


def test_a_folder_of_npz_files_has_a_split_a_file(folder):
    recipe = tiny.build(folder)
    data = recipe_of(look("data", weights="backbone.safetensors"), folder)["data"]
    assert data["splits"] == {"train": "train", "calibration": "calibration", "test": "test"}
    assert recipe.parent == folder


def test_weights_tell_how_many_classes_and_channels_a_model_of_timm_has(folder):
    model = nn.ModuleDict({"conv1": nn.Conv2d(1, 64, 7), "fc": nn.Linear(512, 3)})
    save_file(model.state_dict(), folder / "w.safetensors")
    torch.save({"state_dict": {f"module.{name}": each for name, each in model.state_dict().items()}}, folder / "w.pth")
    pictures(folder / "p", "abc")
    for weights in ("w.safetensors", "w.pth"):
        found = look("p", "timm/resnet18", weights=weights)
        assert found.model.stanza["arguments"] == {"num_classes": 3, "in_chans": 1}
        assert recipe_of(found, folder)["model"]["preprocessing"] == {"from_model": True}
    assert look("p", "resnet18", weights="w.pth").model.stanza["name"] == "resnet18"


def test_a_saved_model_of_transformers_is_named_as_a_folder(folder):
    (folder / "bert").mkdir()
    (folder / "bert" / "config.json").write_text(json.dumps({"model_type": "bert", "id2label": {0: "A", 1: "B"}}))
    write_rows(folder / "a.tsv", [f"it was {i} o'clock\t{'AB'[i % 2]}" for i in range(20)])
    (folder / "recipes").mkdir()
    found = look("a.tsv", "bert")
    assert recipe_of(found, folder)["model"] == {"source": "transformers", "name": "./bert"}
    assert recipe_of(found, folder / "recipes")["model"]["name"] == "../bert"


SCALE = {"preprocessing": {"scale": 0.00392157}}
OWN = {"preprocessing": {"from_model": True}}
ONNX, FUNCTION = {"source": "onnx", "name": "small.onnx"}, {"source": "python", "name": "models.py:small"}
WEIGHTS = {"weights": "w.safetensors"}


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_of_images_are_those_of_the_first_convolution_wherever_its_weights_stand(folder, channels):
    """Files sort weights by name: `body` stands before `stem`."""
    model = nn.ModuleDict({"body": nn.Conv2d(8, 8, 3), "stem": nn.Conv2d(channels, 8, 3)})
    save_file(model.state_dict(), folder / "w.safetensors")
    pictures(folder / "p", "ab")
    found = look("p", weights="w.safetensors", pixels="-1-1")
    assert found.preprocessing == {"scale": 0.00392157, "mean": [0.5] * channels, "std": [0.5] * channels}


def test_labels_of_arrays_may_be_called_label(folder):
    labels = np.arange(30) % 3
    np.savez(folder / "a.npz", x=np.random.default_rng(0).normal(size=(30, 1, 5)).astype("float32"), label=labels)
    data = parse_recipe(recipe_of(look("a.npz"), folder), folder).data
    assert sorted(np.concatenate([each.labels for each in load_splits(data, 3).values()])) == sorted(labels)
    np.savez(folder / "a.npz", x=labels, classes=labels)
    with pytest.raises(
        DynamicExitError, match=r"no array of labels \(labels, label, y; or y_train and so on\); it has x"
    ):
        look("a.npz")


@pytest.mark.parametrize(
    ("size", "options", "noted"),
    [((8, 9), {}, True), ((8, 9), {"size": "8,9"}, False), ((300, 9), {}, False), ((8, 9), {"pixels": "0-1"}, False)],
    ids=["small images", "another size", "images of one large side", "pixels of the user's"],
)
def test_images_that_a_model_of_timm_has_enlarged_are_told(folder, size, options, noted):
    pictures(folder / "p", "ab", size=size)
    save_file({"fc.weight": torch.zeros(2, 512)}, folder / "w.safetensors")
    notes = look("p", "timm/resnet18", weights="w.safetensors", **options).notes
    said = "images of 8 x 9 at most are enlarged to the 224 x 224 that the model's configuration states; if it was"
    assert [note.startswith(said) for note in notes] == [True] * noted


TIMM = {"source": "timm", "name": "resnet10t", **WEIGHTS, "arguments": {}}


@pytest.mark.parametrize(
    ("options", "of_functions"),
    [({"pixels": "0-1"}, SCALE), ({"pixels": "0-255"}, {}), ({"model": "timm/resnet18"}, {})],
    ids=["0-1", "0-255", "a backbone that states its own"],
)
def test_candidates_get_the_pixels_that_they_were_trained_on(folder, options, of_functions):
    """A model of timm states its own; functions and files get those that the user names."""
    pictures(folder / "p", "ab")
    for name in ("small.onnx", "w.safetensors"):
        (folder / name).write_bytes(b"")
    given = ["small.onnx", "models.py:small=w.safetensors", "timm/resnet10t=w.safetensors"]
    model = {"weights": "w.safetensors"} if "model" in options else {}
    found = look("p", **options, **model, candidates=given)
    assert recipe_of(found, folder)["dynamic_exit"]["tiny_saver"]["candidates"] == [
        ONNX | of_functions,
        FUNCTION | WEIGHTS | of_functions | {"stage": "small_2"},
        TIMM | OWN,
    ]
    assert [line for line in found.lines if line.startswith("note: candidate ")] == [
        f"note: candidate '{name}' gets pixels of 0 to 255, as the files hold them; if it was trained on others, set "
        "its `preprocessing`"
        for name in ("small", "small")
        if "model" in options
    ]


def test_candidates_of_arrays_have_no_pixels(folder):
    np.savez(folder / "a.npz", x=np.random.default_rng(0).normal(size=(20, 1, 9)), y=np.arange(20) % 4)
    found = look("a.npz", candidates=["models.py:small"])
    assert recipe_of(found, folder)["dynamic_exit"]["tiny_saver"]["candidates"] == [FUNCTION]


REFUSED = [
    ("no data", {"data": "nowhere/"}, "data path 'nowhere/' does not exist; check the path"),
    ("no file", {"data": "nowhere.npz"}, "data path 'nowhere.npz' does not exist; check the path"),
    ("an empty folder", {"data": "empty"}, "'empty' is no data that is known: a folder of class folders"),
    ("one class", {"data": "one"}, "'one' holds one class, 'a'; a classifier needs samples of two classes at least"),
    (
        "a picture a class",
        {"data": "few"},
        "'few' holds 3 samples of 3 classes, too few to draw three splits from; give 5",
    ),
    (
        "loose pictures",
        {"data": "one/a"},
        "'one/a' holds 6 pictures that are in no folder of a class; put the pictures",
    ),
    (
        "a broken picture",
        {"data": "broken"},
        "cannot identify image file 'broken/b/x.webp'; repair or remove it",
    ),
    ("pixels", {}, "the range of pixels that the model was trained on cannot be known; give --pixels, one of 0-255, "),
    ("a wrong answer", {"pixels": "0..1"}, "--pixels cannot be '0..1'; known are: -1-1, 0-1, 0-255, imagenet"),
    ("sizes", {"data": "sizes", "pixels": "0-1"}, "pictures of several sizes are brought cannot be known; give --size"),
    ("a wrong size", {"size": "big", "pixels": "0-1"}, "--size takes a side in pixels, or height,width; got 'big'"),
    ("no weights", {"weights": "w.pt"}, "weights 'w.pt' do not exist; check the path"),
    ("no model file", {"model": "other.py:net"}, "model file 'other.py' does not exist; check the path"),
    ("no folder", {"model": "./net"}, "model folder './net' does not exist; check the path"),
    ("no such model", {"model": "timm/resnet19"}, "timm has no model 'resnet19'; did you mean 'resnet18'?"),
    (
        "other classes",
        {"model": "resnet18"},
        "the model has 1000 classes and the data have 2; give --weights that were",
    ),
    (
        "an ONNX file",
        {"model": "net.onnx"},
        "model 'net.onnx' is an ONNX file, which cannot be cut; give the model that",
    ),
    ("odd splits", {"splits": "train=a"}, "--splits takes train=NAME,calibration=NAME,test=NAME; got 'train=a'"),
]


@pytest.mark.parametrize(("options", "message"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
def test_what_cannot_work_is_told_in_a_sentence(folder, options, message):
    pictures(folder / "p", "ab")
    pictures(folder / "one", "a")
    pictures(folder / "few", "abc", count=1)
    pictures(folder / "sizes", "a", size=(9, 9))
    pictures(folder / "sizes", "b")
    pictures(folder / "broken", "ab")
    (folder / "broken" / "b" / "x.webp").write_bytes(b"nothing")
    (folder / "empty").mkdir()
    given = {"data": "p", "model": "models.py:net", **options}
    with pytest.raises(DynamicExitError) as raised:
        look(**given)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_stretch_of_a_drawn_order_holds_each_label_in_proportion():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [500, 50, 5]))
    order = draw_order(labels, 7)
    assert sorted(order) == list(range(555))
    for low, high in ((0, 0.6), (0.6, 0.8), (0.8, 1)):
        part = labels[order[int(low * 555) : int(high * 555)]]
        assert np.abs(np.bincount(part, minlength=3) - (high - low) * np.array([500, 50, 5])).max() <= 1
    assert (order != draw_order(labels, 8)).any()
    assert (draw_order(np.zeros(9, int), 4) == np.random.default_rng(4).permutation(9)).all()
