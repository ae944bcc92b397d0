"""Datasets of Hugging Face: files that `save_to_disk` and `to_parquet` wrote, and names through its package."""

import io
import json

import numpy as np
import pytest
import sentences
import yaml
from PIL import Image
from transformers import AutoTokenizer

from dynamic_exit.artifact.manifest import read_manifest
from dynamic_exit.data.arrow_columns import list_images
from dynamic_exit.data.loading import load_splits
from dynamic_exit.data.reader import ReadRequest
from dynamic_exit.data.split import UNNAMED
from dynamic_exit.errors import DataError
from dynamic_exit.images import ImageFormat, ImageReading, Resizing
from dynamic_exit.images.files import file_stamps
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import DataSource, read_recipe
from dynamic_exit.recipe.data import DATA_SOURCES
from dynamic_exit.sources.class_names import ClassNames

arrow = pytest.importorskip("pyarrow", reason="needs pyarrow, of the extra dev")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow with parquet, of the extra dev")

SPLITS = ("train", "calibration", "test")
CLASSES = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def png(*tone, size=(5, 4), mode="RGB", **more):
    file = io.BytesIO()
    image = Image.new(mode, size, tone if len(tone) > 1 else tone[0])
    if more:
        image.getexif()[274] = more["orientation"]
    image.save(file, "PNG", exif=image.getexif())
    return file.getvalue()


def table(columns, features=None):
    """A table as Hugging Face writes it; what it says of columns goes into the schema."""
    made = arrow.table(columns)
    if features is None:
        return made
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def save_to_disk(folder, made, split="train", parts=1):
    """What `Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    size, files = -(-made.num_rows // parts), []
    for part in range(parts):
        files.append({"filename": f"data-{part:05}-of-{parts:05}.arrow"})
        with arrow.ipc.new_stream(str(folder / files[-1]["filename"]), made.schema) as writer:
            writer.write_table(made.slice(part * size, size))
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": split}))


def write(folder, tables, kind="saved"):
    """The tables of all splits, in one of the layouts that are read."""
    folder.mkdir(exist_ok=True)
    if kind == "saved":
        (folder / "dataset_dict.json").write_text(json.dumps({"splits": [*tables]}))
    for name, made in tables.items():
        if kind in ("saved", "folders of saved"):
            save_to_disk(folder / name, made, name, parts=2)
            continue
        places = {
            "files": f"{name}.parquet",
            "hub": f"data/{name}-00000-of-00001.parquet",
            "folders": f"{name}/0.parquet",
        }
        path = folder / places[kind]
        path.parent.mkdir(exist_ok=True)
        parquet.write_table(made, path)
    return folder


def source(path, base=None, splits=SPLITS, **more):
    values = {"source": "datasets", "path": str(path), "splits": dict(zip(SPLITS, splits, strict=True)), **more}
    stanza = DATA_SOURCES.find("datasets").stanza
    return stanza.model_validate(values, context={"base": base or path})


def numbers(start=0, **more):
    rows = [[float(start + i), 0.5] for i in range(4)]
    return table({"signal": rows, "label": [0, 1, 1, 0], **more})


def three(make):
    return {name: make(10 * number) for number, name in enumerate(SPLITS)}


LAYOUTS = ["saved", "folders of saved", "files", "hub", "folders"]


@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_layout_on_disk_is_read(tmp_path, kind):
    for number, split in enumerate(load_splits(source(write(tmp_path / "d", three(numbers), kind)), 0).values()):
        assert split.inputs[UNNAMED].tolist() == [[10 * number + i, 0.5] for i in range(4)]
        assert split.inputs[UNNAMED].dtype == np.float32
        assert split.labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_one_dataset_is_sliced(tmp_path, kind):
    made, path = numbers(), tmp_path / ("one" if kind == "saved" else "one.parquet")
    save_to_disk(path, made) if kind == "saved" else parquet.write_table(made, path)
    splits = load_splits(source(path, tmp_path, ("train[:50%]", "train[50%:75%]", "train[75%:]")), 0)
    assert [len(split) for split in splits.values()] == [2, 1, 1]
    assert sorted(row[0] for split in splits.values() for row in split.inputs[UNNAMED].tolist()) == [0, 1, 2, 3]


def test_a_name_that_exists_beside_the_recipe_is_a_folder(tmp_path):
    write(tmp_path / "mine", three(numbers))
    assert source("mine", tmp_path).path == str(tmp_path / "mine")
    assert source("user/mine", tmp_path).path == "user/mine"
    assert source("./user", tmp_path).path == str(tmp_path / "user")
    assert source("a.parquet", tmp_path).path == str(tmp_path / "a.parquet")


# columns: what is in the table, keys of the stanza, inputs (shape of a sample by name)
X = [[1.0, 2.0]] * 3
INPUTS = {
    "one of arrays": ({"signal": X}, {}, {UNNAMED: (2,)}),
    "arrays of arrays": ({"signal": [X] * 3}, {}, {UNNAMED: (3, 2)}),
    "integers": ({"signal": arrow.array([[1, 2]] * 3, arrow.list_(arrow.int64(), 2))}, {}, {UNNAMED: (2,)}),
    "large lists": ({"signal": arrow.array(X, arrow.large_list(arrow.float64()))}, {}, {UNNAMED: (2,)}),
    "half floats": ({"signal": arrow.array(X, arrow.list_(arrow.float16()))}, {}, {UNNAMED: (2,)}),
    "numbers beside": ({"signal": X, "idx": [1, 2, 3]}, {}, {UNNAMED: (2,)}),
    "texts beside": ({"signal": X, "file": [*"abc"]}, {}, {UNNAMED: (2,)}),
    "tokens": (
        {"input_ids": [[1, 2]] * 3, "attention_mask": [[1, 1]] * 3}, {}, {"input_ids": (2,), "attention_mask": (2,)}
    ),
    "tokens alone": ({"input_ids": [[1, 2]] * 3}, {}, {"input_ids": (2,)}),
    "numbers alone": ({"a": [1, 2, 3], "b": [0.5, 1, 2], "__index_level_0__": [4, 5, 6]}, {}, {UNNAMED: (2,)}),
    "named": ({"a": [1, 2, 3], "b": [0.5, 1, 2], "c": [4, 5, 6]}, {"inputs": ["c", "a"]}, {UNNAMED: (2,)}),
    "one of several": ({"a": X, "b": X}, {"inputs": ["b"]}, {UNNAMED: (2,)}),
    "images": ({"image": [{"bytes": png(1, 2, 3), "path": None}] * 3, "idx": [1, 2, 3]}, {}, {UNNAMED: (3, 4, 5)}),
    "bytes": ({"img": [png(1, 2, 3)] * 3, "name": [*"abc"]}, {}, {UNNAMED: (3, 4, 5)}),
    "images named": (
        {"left": [png(1, 2, 3)] * 3, "right": [png(1, 2, 3)] * 3}, {"inputs": ["left"]}, {UNNAMED: (3, 4, 5)}
    ),
}  # fmt: skip


def read(path, note=lambda line: None, known=None, model=None, **keys):
    """Inputs and labels by split, and the class names."""
    reader = DATA_SOURCES.find("datasets").make(source(path, **keys), ReadRequest(SPLITS, model, lambda: known, note))
    return {name: reader(name) for name in SPLITS}, reader.class_names


@pytest.mark.parametrize("kind", ["saved", "files"])
@pytest.mark.parametrize("columns, keys, shapes", INPUTS.values(), ids=INPUTS)
def test_columns_become_inputs(tmp_path, columns, keys, shapes, kind):
    write(tmp_path / "d", dict.fromkeys(SPLITS, table({**columns, "label": [0, 1, 0]})), kind)
    inputs, labels = read(tmp_path / "d", **keys)[0]["test"]
    inputs = inputs if isinstance(inputs, dict) else {UNNAMED: inputs}
    assert {name: array.shape for name, array in inputs.items()} == {k: (3, *shape) for k, shape in shapes.items()}
    assert labels.tolist() == [0, 1, 0]


def test_values_are_those_of_the_columns(tmp_path):
    made = table({"a": [1, 2], "m": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "b": [True, False], "label": [1, 0]})
    write(tmp_path / "d", dict.fromkeys(SPLITS, made))
    assert read(tmp_path / "d")[0]["test"][0][UNNAMED].tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert read(tmp_path / "d", inputs=["b", "a"])[0]["test"][0][UNNAMED].tolist() == [[1, 1], [0, 2]]
    found = read(tmp_path / "d", inputs=["m"], label="b")[0]["test"]
    assert found[1].tolist() == [True, False]


def test_images_are_read_as_from_folders(tmp_path):
    """Upright, from bytes or from files beside the dataset; channels first whatever `layout` says of arrays."""
    deep = io.BytesIO()
    Image.fromarray(np.full((5, 4), 65535, np.uint16)).save(deep, "PNG")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.png").write_bytes(png(7, 8, 9, size=(4, 5)))
    images = [
        {"bytes": png(10, 20, 30, orientation=6), "path": "x.png"},
        {"bytes": None, "path": "a.png"},
        {"bytes": deep.getvalue(), "path": None},
    ]
    features = {"image": {"_type": "Image"}, "label": CLASSES}
    write(tmp_path / "d", dict.fromkeys(SPLITS, table({"image": images, "label": [0, 1, 1]}, features)))
    notes = []
    pixels = read(tmp_path / "d", notes.append)[0]["test"][0]
    assert (pixels.dtype, pixels.shape) == (np.uint8, (3, 3, 5, 4))
    assert [image[:, 0, 0].tolist() for image in pixels] == [[10, 20, 30], [7, 8, 9], [255, 255, 255]]
    assert notes == [
        "3 of 9 images were turned upright, as their EXIF data tell",
        "3 of 9 images have 16 bits and were scaled to 8; transformers' pipelines clip such files at 255, so pass them "
        "images of 8 bits",
    ]
    with pytest.raises(DataError, match="overlap"):
        load_splits(source(tmp_path / "d"), 0)
    last = load_splits(source(tmp_path / "d", splits=("train[:34%]", "train[34%:67%]", "train[67%:]"),
                              layout="channels_last"), 0)  # fmt: skip
    assert last["test"].inputs[UNNAMED].shape[1:] == (3, 5, 4)


def test_images_take_the_form_of_the_model_and_broken_ones_may_be_left_out(tmp_path):
    images = [png(10, 20, 30), b"no image", png(90, 90, 90, size=(9, 8))]
    write(tmp_path / "d", dict.fromkeys(SPLITS, table({"image": images, "label": [0, 1, 1]})))
    form = ImageFormat(1, Resizing((2, 3), (2, 3)))
    notes, stanza = [], source(tmp_path / "d", max_bad=3)
    request = ReadRequest(SPLITS, None, lambda: None, notes.append, ImageReading(lambda size: form))
    reader = DATA_SOURCES.find("datasets").make(stanza, request)
    pixels, labels = [reader(name) for name in SPLITS][-1]
    assert (pixels.shape, labels.tolist(), reader.image_format) == ((2, 1, 2, 3), [0, 1], form)
    assert notes[-1] == (
        f"3 of 9 images were left out: image '{tmp_path}/d/train, row 1' cannot be read: it is no image"
    )


def test_what_tells_images_of_rows_apart_is_their_content(tmp_path):
    columns = [arrow.chunked_array([[png(1, 2, 3), None], [png(each, 2, 3)]]) for each in (4, 4, 5)]
    stamps = [file_stamps(list_images(column, tmp_path, "test", tmp_path)) for column in columns]
    assert stamps[0] == stamps[1] != stamps[2]


@pytest.mark.parametrize(
    ("names", "known", "expected", "labels"),
    [
        ([CLASSES] * 3, None, ["cat", "dog"], [0, 1, 1, 0]),
        ([CLASSES] * 3, ["dog", "cat"], ["dog", "cat"], [1, 0, 0, 1]),
        ([CLASSES, CLASSES, {"names": ["dog", "cat"], "_type": "ClassLabel"}], None, ["cat", "dog"], [1, 0, 0, 1]),
        ([{"dtype": "int64", "_type": "Value"}] * 3, ["a", "b"], None, [0, 1, 1, 0]),
    ],
    ids=["its own", "known", "each its own", "numbers"],
)
def test_class_labels_bring_names(tmp_path, names, known, expected, labels):
    made = {
        name: table({"signal": [[i, 1.0] for i in range(4)], "label": [0, 1, 1, 0]}, {"label": each})
        for name, each in zip(SPLITS, names, strict=True)
    }
    write(tmp_path / "d", made)
    found, classes = read(tmp_path / "d", known=known and ClassNames(tuple(known)))
    assert (classes, found["test"][1].tolist()) == (expected, labels)


LABELS = {
    "words": (["no", "yes", "no"], ("no", "yes"), [0, 1, 0]),
    "a dictionary of words": (arrow.array(["no", "yes", "no"]).dictionary_encode(), ("no", "yes"), [0, 1, 0]),
    "truth values": ([False, True, False], None, [0, 1, 0]),
    "whole floats": ([0.0, 1.0, 0.0], None, [0, 1, 0]),
    "bytes of size": (arrow.array([0, 1, 0], arrow.uint8()), None, [0, 1, 0]),
}


@pytest.mark.parametrize("values, names, labels", LABELS.values(), ids=LABELS)
def test_labels_of_every_type(tmp_path, values, names, labels):
    made = {name: table({"x": [[10.0 * i + j] for j in range(3)], "y": values}) for i, name in enumerate(SPLITS)}
    split = load_splits(source(write(tmp_path / "d", made)), 0)["test"]
    assert (split.class_names, split.labels.tolist()) == (names, labels)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    sentences.tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("inputs", [None, ["text"], ["text", "more"]], ids=["found", "named", "pairs"])
def test_texts_are_tokenized_as_files_are(tmp_path, tokenizer, inputs):
    """Token for token what `source: text` makes of the same rows."""
    texts = {name: ["film " * (3 * number + i) for i in (1, 2, 3)] for number, name in enumerate(SPLITS)}
    more = {} if inputs is None else {"more": ["a b c", "the end", "so"]}
    write(tmp_path / "d", {name: table({"text": each, **more, "label": [1, 0, 1]}) for name, each in texts.items()})
    text = {"tokenizer": tokenizer, "max_length": 14}
    for name, each in texts.items():
        rows = [dict(zip(["text", *more, "label"], row, strict=True))
                for row in zip(each, *more.values(), [1, 0, 1], strict=True)]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pair = {"columns": {"pair": "more"}} if inputs and len(inputs) > 1 else {}
    files = DataSource(source="text", path=str(tmp_path), splits=dict(zip(SPLITS, SPLITS, strict=True)),
                       text={**text, **pair})  # fmt: skip
    expected = load_splits(files, 0)
    found = load_splits(source(tmp_path / "d", text=text, **({"inputs": inputs} if inputs else {})), 0)
    for name in SPLITS:
        assert found[name].inputs.keys() == expected[name].inputs.keys()
        assert all(np.array_equal(found[name].inputs[key], each) for key, each in expected[name].inputs.items())
        assert found[name].labels.tolist() == [1, 0, 1]


def test_rows_without_a_text_or_a_label_are_left_out_on_request(tmp_path, tokenizer):
    made = table(
        {"text": ["film", None, " ", "film film", "was"], "label": [1, 0, 1, None, 0], "idx": [1, 2, 3, 4, None]}
    )
    notes, text = [], {"tokenizer": tokenizer, "missing": "drop"}
    found = read(write(tmp_path / "d", dict.fromkeys(SPLITS, made)), notes.append, text=text)[0]["test"]
    assert (len(found[0]["input_ids"]), found[1].tolist()) == (2, [1, 0])
    assert notes[0] == f"3 of 5 rows of split 'train' of '{tmp_path}/d' hold no text or no label and are left out"


WHAT = "split 'train' of '{w}/d'"
MUST = f"{WHAT} must have a column of images, or columns of numbers, as inputs; got "
REFUSED = {
    "no label": ({"x": X}, {}, f"{WHAT} has no column 'label' (there: x); name that of the labels in `data.label`"),
    "another label": (
        {"x": X, "fine": [0] * 3}, {"label": "fin"}, f"{WHAT} has no column 'fin' (there: x, fine); did you "
        "mean 'fine'?"
    ),
    "another input": (
        {"signal": X, "label": [0] * 3}, {"inputs": ["signl"]},
        f"{WHAT} has no column 'signl' of inputs; did you mean 'signal'?",
    ),
    "texts": (
        {"text": [*"abc"], "label": [0] * 3}, {},
        f"{MUST}text; write `text: {{}}` in the stanza `data` for texts, or name columns of numbers in `data.inputs`",
    ),
    "texts and numbers": (
        {"text": [*"abc"], "idx": [1, 2, 3], "label": [0] * 3}, {},
        f"{MUST}text, idx; write `text: {{}}` in the stanza `data` for texts, or name columns of numbers in "
        "`data.inputs`",
    ),
    "nothing": ({"label": [0] * 3}, {}, f"{MUST}none; name others in `data.inputs`"),
    "structs": (
        {"boxes": [{"a": 1}] * 3, "label": [0] * 3}, {}, f"{MUST}boxes; name others in `data.inputs`"
    ),
    "images and numbers": (
        {"img": [png(1, 2, 3)] * 3, "x": X, "label": [0] * 3}, {"inputs": ["img", "x"]},
        f"{MUST}img, x; name others in `data.inputs`",
    ),
    "several images": (
        {"a": [png(1, 2, 3)] * 3, "b": [png(1, 2, 3)] * 3, "label": [0] * 3}, {},
        f"{WHAT} has several columns of inputs, a, b; name one in `data.inputs`",
    ),
    "several texts": (
        {"a": [*"abc"], "b": [*"abc"], "label": [0] * 3}, {"text": {}},
        f"{WHAT} has several columns of inputs, a, b; name one in `data.inputs`",
    ),
    "numbers for texts": (
        {"a": X, "label": [0] * 3}, {"text": {}},
        f"{WHAT} must have columns of text as inputs; got a; name others in `data.inputs`",
    ),
    "null label": ({"x": X, "label": [0, None, 1]}, {}, f"{WHAT} has no label in row 1; leave the row out"),
    "several labels": (
        {"x": X, "label": [[0, 1]] * 3}, {},
        f"{WHAT} has lists as labels: multi-label classification is not supported; give each row the number or the "
        "name of a class",
    ),
    "null input": (
        {"x": [[1.0], [2.0], None], "label": [0] * 3}, {}, f"{WHAT} has null as 'x' in row 2; leave the row out"
    ),
    "null number": (
        {"x": [1.0, None, 2.0], "z": [1, 2, 3], "label": [0] * 3}, {},
        f"{WHAT} has null as 'x' in row 1; leave the row out",
    ),
    "null text": (
        {"a": ["a", "b", None], "label": [0] * 3}, {"text": {}},
        f"{WHAT} has null as 'a' in row 2; leave the row out",
    ),
    "null image": (
        {"img": [{"bytes": png(1, 2, 3), "path": None}, {"bytes": None, "path": None}, None], "label": [0] * 3}, {},
        "image '{w}/d/train, row 1' cannot be read: its row is null; a recipe may leave some out by `data.max_bad`",
    ),
    "broken image": (
        {"img": [png(1, 2, 3), b"no", b""], "label": [0] * 3}, {},
        "image '{w}/d/train, row 1' cannot be read: it is no image; a recipe may leave some out by `data.max_bad`",
    ),
    "sizes": (
        {"img": [png(1, 2, 3), png(1, 2, 3, size=(6, 4))], "label": [0] * 2}, {},
        "image '{w}/d/train, row 1' is (4, 6), others (4, 5); resize beforehand, or set `size` in the model's "
        "`preprocessing`",
    ),
    "lengths": (
        {"x": [[1.0, 2.0], [1.0, 2.0], [1.0]], "label": [0] * 3}, {},
        f"column 'x' of {WHAT} holds samples of different lengths, 2 and, in row 2, 1; give all one length",
    ),
    "lengths within": (
        {"x": [[[1.0], [2.0]], [[1.0], [2.0, 3.0]]], "label": [0] * 2}, {},
        f"column 'x' of {WHAT} holds samples of different lengths, 1 and, in row 1, 2; give all one length",
    ),
    "a class twice": (
        table({"x": X, "label": [0] * 3}, {"label": {"names": ["a", "a"], "_type": "ClassLabel"}}), {},
        "the data call more than one class 'a'; give every class a name of its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("columns, keys, sentence", REFUSED.values(), ids=REFUSED)
def test_rows_and_columns_that_fit_nowhere_are_refused(tmp_path, tokenizer, columns, keys, sentence):
    if "text" in keys:
        keys = {**keys, "text": {"tokenizer": tokenizer}}
    made = table(columns) if isinstance(columns, dict) else columns
    with pytest.raises(DataError) as refused:
        read(write(tmp_path / "d", dict.fromkeys(SPLITS, made), "files"), **keys)
    assert str(refused.value) == sentence.replace("{w}", str(tmp_path))


def test_the_label_of_a_split_without_labels_is_no_class(tmp_path):
    """Test splits of benchmarks hold -1: never the last class."""
    features = {"label": CLASSES}
    made = {name: table({"x": [[i, 1.0], [i, 2.0]], "label": [0, 1]}, features) for i, name in enumerate(SPLITS)}
    made["test"] = table({"x": [[9.0, 9.0], [9.0, 8.0]], "label": [-1, -1]}, features)
    found, _ = read(write(tmp_path / "d", made), known=ClassNames(("dog", "cat")))
    assert [labels.tolist() for _, labels in found.values()] == [[1, 0], [1, 0], [-1, -1]]


FILES = {
    "no such path": (lambda d: None, "data path '{w}/d' does not exist; check the path"),
    "no dataset": (
        lambda d: d.mkdir(),
        "data folder '{w}/d' holds neither a dataset that `save_to_disk` wrote nor parquet files; check the path",
    ),
    "no such split": (
        lambda d: write(d, {"trian": numbers(), "test": numbers()}),
        "data folder '{w}/d' has no split 'train'; did you mean 'trian'?",
    ),
    "no such file": (
        lambda d: write(d, {"validation": numbers(), "test": numbers()}, "hub"),
        "data folder '{w}/d' has no split 'train'; known are: test, validation",
    ),
    "another split": (
        lambda d: save_to_disk(d, numbers(), "test"), "data folder '{w}/d' has no split 'train'; known are: test"
    ),
    "a part is missing": (
        lambda d: (write(d, three(numbers)), (d / "train" / "data-00001-of-00002.arrow").unlink()),
        "dataset '{w}/d/train' is incomplete, 'data-00001-of-00002.arrow' is missing; copy or save it anew",
    ),
    "a broken list of splits": (
        lambda d: (write(d, three(numbers)), (d / "dataset_dict.json").write_text("{")),
        "data file '{w}/d/dataset_dict.json' cannot be read: Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1); save the dataset anew",
    ),
    "a broken state": (
        lambda d: (write(d, three(numbers)), (d / "train" / "state.json").write_text("[]")),
        "data file '{w}/d/train/state.json' cannot be read: list indices must be integers or slices, not str; save the "
        "dataset anew",
    ),
    "no parquet": (
        lambda d: (write(d, three(numbers), "files"), (d / "train.parquet").write_bytes(b"no parquet at all")),
        "data file '{w}/d/train.parquet' cannot be read: Parquet magic bytes not found in footer. Either the file is "
        "corrupted or this is not a parquet file; give .parquet files, or what `save_to_disk` wrote",
    ),
    "several configurations": (
        lambda d: (d.mkdir(), [write(d / each, three(numbers), "files") for each in ("cola", "sst2")]),
        "data folder '{w}/d' has split 'train' in several folders, cola, sst2; name one in `data.config`",
    ),
    "different columns": (
        lambda d: (write(d, three(numbers), "folders"),
                   parquet.write_table(table({"other": [1]}), d / "train" / "1.parquet")),
        "the files of split 'train' in '{w}/d' hold different columns; write them anew",
    ),
}  # fmt: skip


@pytest.mark.parametrize("make, sentence", FILES.values(), ids=FILES)
def test_files_that_cannot_be_read_are_refused(tmp_path, make, sentence):
    make(tmp_path / "d")
    with pytest.raises(DataError) as refused:
        read(f"{tmp_path}/d")
    assert str(refused.value) == sentence.replace("{w}", str(tmp_path))


def test_a_configuration_is_a_folder(tmp_path):
    for number, name in enumerate(("cola", "sst2")):
        write(tmp_path / name, three(lambda start, number=number: numbers(start + 100 * number)), "files")
    assert read(tmp_path, config="sst2")[0]["train"][0][UNNAMED][0].tolist() == [100, 0.5]


def test_columns_of_text_files_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"holds `text.columns`, which is for text files; name the columns in `inputs`"
    ):
        source(tmp_path, text={"columns": {"text": "sentence"}})


@pytest.mark.slow
def test_a_run_on_texts_of_a_dataset(tmp_path):
    """The tokenizer is in the folder, the names of the classes are served, and what was written can be read again."""
    path = sentences.build(tmp_path, dynamic_exit__early_exit=None, quantization=None)
    recipe, splits = yaml.safe_load(path.read_text()), {}
    for name in sentences.SIZES:
        texts, labels = zip(*sentences.lines(name), strict=True)
        numbers = [sentences.LABELS.index(label) for label in labels]
        features = {"label": {"names": sentences.LABELS, "_type": "ClassLabel"}}
        splits[name] = table({"sentence": list(texts), "label": numbers}, features)
    write(tmp_path / "saved", splits)
    recipe["data"] |= {"source": "datasets", "path": "saved", "text": {}}
    path.write_text(yaml.safe_dump(recipe))
    folder = run(read_recipe(path)).folder
    assert AutoTokenizer.from_pretrained(folder)("fine").input_ids
    assert read_manifest(folder).labels == tuple(sentences.LABELS)
    again = read_recipe(folder / "recipe.yaml")
    assert load_splits(again.data, again.seed, again.model)["test"].class_names == tuple(sentences.LABELS)


# with the package datasets


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    package = pytest.importorskip("datasets", reason="needs datasets, of the extra dev")
    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(package.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return package


@pytest.mark.parametrize("kind", ["saved", "parquet", "by name"])
def test_what_the_package_wrote_is_read(tmp_path, monkeypatch, datasets, kind):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["dog", "cat"]),
            "matrix": datasets.Array2D((2, 3), "float32"),
            "note": datasets.Value("string"),
        }
    )
    made = datasets.DatasetDict()
    names = ("train", "validation", "test")
    for number, name in enumerate(names):
        rows = {
            "image": [Image.new("RGB", (4, 5), (number, i, 9)) for i in range(4)],
            "label": [0, 1, 1, 0],
            "matrix": np.arange(24, dtype=np.float32).reshape(4, 2, 3) + number,
            "note": [*"abcd"],
        }
        made[name] = datasets.Dataset.from_dict(rows, features=features, split=name).select([3, 1, 0, 2])
    path = tmp_path / "here" / "mine"
    if kind == "saved":
        made.save_to_disk(path)
    else:
        path.mkdir(parents=True)
        for name, each in made.items():
            each.to_parquet(path / f"{name}-00000-of-00001.parquet")
    if kind == "by name":
        monkeypatch.chdir(path.parent)
        path = "mine"
    for number, split in enumerate(load_splits(source(path, tmp_path, names), 0).values()):
        assert split.inputs[UNNAMED][:, :, 0, 0].tolist() == [[number, i, 9] for i in (3, 1, 0, 2)]
        assert (split.labels.tolist(), split.class_names) == ([0, 1, 0, 1], ("dog", "cat"))
    found = load_splits(source(path, tmp_path, names, inputs=["matrix"]), 0)["test"].inputs[UNNAMED]
    assert found.tolist() == (np.arange(24).reshape(4, 2, 3) + 2)[[3, 1, 0, 2]].tolist()


def test_a_name_that_nobody_has_is_refused(tmp_path, datasets):
    with pytest.raises(DataError, match=r"^split 'train' of dataset 'nowhere_at_all' cannot be loaded: .*check `path`"):
        load_splits(source("nowhere_at_all", tmp_path), 0)


def test_a_function_may_return_a_dataset(tmp_path, datasets):
    (tmp_path / "own.py").write_text(
        "import datasets\n"
        "def load(name):\n"
        "    start = len(name)\n"
        "    features = datasets.Features({'x': datasets.List(datasets.Value('float32')),\n"
        "                                  'label': datasets.ClassLabel(names=['dog', 'cat'])})\n"
        "    rows = {'x': [[start, i] for i in range(3)], 'label': [0, 1, 1]}\n"
        "    return datasets.Dataset.from_dict(rows, features=features)\n"
    )
    values = {"source": "python", "path": "own.py:load", "splits": dict(zip(SPLITS, SPLITS, strict=True))}
    split = load_splits(DataSource.model_validate(values, context={"base": tmp_path}), 0)["test"]
    assert split.inputs[UNNAMED].tolist() == [[4, 0], [4, 1], [4, 2]]
    assert (split.labels.tolist(), split.class_names) == ([0, 1, 1], ("dog", "cat"))
