"""More refused input, from files, functions and models of the user's: one exact sentence, exit code 2, nothing written.

The table of `test_bad_input` goes on here with what users bring themselves; each row changes one thing of a recipe that
works.
"""

import gzip
import json
import shutil

import neural_compressor.torch.quantization  # noqa: F401  its import logs to stderr, which the tests compare
import numpy as np
import sentences
import tiny
import torch
from PIL import Image
from refusals import assert_refused, file, rows

SPLITS = {key: key for key in tiny.SIZES}


def npz(**arrays):
    """Rewrites the test split."""

    def change(folder):
        inputs, labels = tiny.samples("test")
        given = {"inputs": inputs, "labels": labels, **arrays}
        np.savez(folder / "data" / "test.npz", **{name: each for name, each in given.items() if each is not None})

    return change


def function(name, body):
    """A function that loads the splits; `x` and `y` are those that work."""

    def change(folder):
        head = "import numpy as np\nimport torch\n\ndef load(name):\n"
        found = f"    found = np.load({str(folder / 'data')!r} + f'/{{name}}.npz')\n"
        file("own.py", f"{head}{found}    x, y = found['inputs'], found['labels']\n    {body}\n")(folder)

    return name, {"data__source": "python", "data__path": "own.py:load"}, change


def texts(name, ending, content, **text):
    """Text files for the three splits, all alike, and the tokenizer of the tests."""

    def change(folder):
        sentences.tokenizer().save_pretrained(folder / "words")
        for split in SPLITS:
            file(f"texts/{split}{ending}", content)(folder)

    values = {"source": "text", "path": "texts", "splits": SPLITS, "text": {"tokenizer": "./words", **text}}
    return name, {"data": values}, change


def images(name, make, **data):
    def change(folder):
        for number, split in enumerate(SPLITS):
            for place, each in enumerate(("left", "middle", "right")):
                (folder / "images" / split / each).mkdir(parents=True)
                Image.new("RGB", (6, 6), (number, place, 9)).save(folder / "images" / split / each / "0.png")
        make(folder / "images")

    return name, {"data": {"source": "imagefolder", "path": "images", "splits": SPLITS, **data}}, change


def model(name, body, **changes):
    """The backbone's function; `Net` is the class, `self` in it."""
    code = (
        "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n    def __init__(self, n=3):\n"
        "        super().__init__()\n        self.layer = nn.Linear(36, n)\n\n    def forward(self, x):\n"
        "        return self.layer(x.flatten(1))\n\ndef make():\n    "
    )
    return name, {"model": {"source": "python", "name": "net.py:make", **changes}}, file("net.py", code + body + "\n")


TABLE = [
    ("a label beyond 63 bits", {}, npz(labels=np.full(150, 2**63 + 1, np.uint64)),
     "split 'test' has label 9223372036854775807 of sample 0, the model only classes 0 to 2; map the labels"),
    # what YAML reads otherwise than it was meant
    ("names that are truth values", {"data__classes": [False, True, "maybe"]}, None,
     "key 'data.classes.0' must be a valid string; got False; put quotes around it"),
    ("names that are numbers", {"data__classes": [1, 2, 3]}, None,
     "key 'data.classes.0' must be a valid string; got 1; put quotes around it"),
    ("a name that is null", {"data__classes": ["left", None, "right"]}, None,
     "key 'data.classes.1' must be a valid string; got None"),
    ("names in a mapping", {"data__classes": {0: "left", 1: "middle", 2: "right"}}, None,
     "key 'data.classes' must be a valid list; got {0: 'left', 1: 'middle', 2: 'right'}"),
    ("labels that are truth values", {"model__labels": [False, True, "maybe"]}, None,
     "key 'model.labels.0' must be a valid string; got False; put quotes around it"),
    ("labels of a model, too few", {"model__labels": ["left", "right"]}, None,
     "key 'model.labels' names 2 classes, the model has 3; name each once"),
    ("labels of a model in no file", {"model__labels": "labels.txt"}, None,
     "labels '{w}/labels.txt' do not exist; check the path"),
    ("labels of a model in a broken file", {"model__labels": "labels.json"}, file("labels.json", "{"),
     "labels '{w}/labels.json' cannot be read: Expecting property name enclosed in double quotes: line 1 column "
     "2 (char 1)"),
    ("labels of a model with a gap", {"model__labels": "l.json"}, file("l.json", '{"0": "a", "2": "b"}'),
     "labels '{w}/l.json' have no class 1; number them from 0 without a gap"),
    ("labels of a model in another file", {"model__labels": "labels.csv"}, file("labels.csv", "a,b"),
     "labels '{w}/labels.csv' must be a .json or .txt file, or a list in the recipe"),
    ("a seed in words", {"seed": "three"}, None,
     "key 'seed' must be a valid integer, unable to parse string as an integer; got 'three'"),
    ("a seed of two numbers", {"seed": [1, 2]}, None,
     "key 'seed' must be a valid integer; got [1, 2]"),
    ("a split that is a number", {"data__splits__test": 2020}, None,
     "key 'data.splits.test' must be a valid string; got 2020; put quotes around it"),
    ("a split without a name", {"data__splits__test": ""}, None,
     "data file '{w}/data/.npz' does not exist; check the path and the names of the splits"),
    ("splits in a list", {"data__splits": ["train", "calibration", "test"]}, None,
     "key 'data.splits' must be a valid dictionary or instance of Splits; got ['train', 'calibration', 'test']"),
    ("a split left out", {"data__splits__calibration": None}, None,
     "key 'data.splits.calibration' is missing; add it to the recipe"),
    ("a slice by number", {"data__splits__test": "test[:100]"}, None,
     "split 'test[:100]' has a slice that cannot be read; write it as name[0%:50%]"),
    ("a layout of others", {"data__layout": "NHWC"}, None,
     "key 'data.layout' must be 'channels_first' or 'channels_last'; got 'NHWC'"),
    ("duplicates kept", {"data__duplicates": "keep"}, None,
     "key 'data.duplicates' must be 'refuse' or 'drop'; got 'keep'"),
    ("text for arrays", {"data__text": {"max_length": 8}}, None,
     "key 'data' holds `text`, which is for `source: text`, not for `source: npz`; remove it"),
    ("a budget of percents", {"dynamic_exit__tuning__points": [{"budget": 40}]}, None,
     "key 'dynamic_exit.tuning.points.0.budget' is 40, which is 4000 % of the backbone's cost; did you mean 0.4?"),
    ("a drop of percents", {"dynamic_exit__tuning__max_accuracy_drop": 1}, None,
     "key 'dynamic_exit.tuning.max_accuracy_drop' is 1, which allows a loss of 100 points; did you mean 0.01?"),
    ("points in a mapping", {"dynamic_exit__tuning__points": {"budget": 0.4}}, None,
     "key 'dynamic_exit.tuning.points' must be a valid list; got {'budget': 0.4}"),
    ("epochs below one", {"dynamic_exit__early_exit__training__epochs": 0}, None,
     "key 'dynamic_exit.early_exit.training.epochs' must be greater than or equal to 1; got 0"),
    ("a recipe of bytes", {}, file("recipe.yaml", b"\xff\xfe\x00"),
     "recipe '{w}/recipe.yaml' is not valid YAML: 'utf-8' codec can't decode byte 0xff in position 0: invalid "
     "start byte"),
    ("a recipe with tabs", {}, file("recipe.yaml", "model:\n\tsource: timm\n"),
     "recipe '{w}/recipe.yaml' is not valid YAML: while scanning for the next token found character '\\t' that "
     'cannot start any token in "<unicode string>", line 2, column 1: source: timm ^'),
    ("a recipe with a Python object", {}, file("recipe.yaml", "model: !!python/object:os.system {}\n"),
     "recipe '{w}/recipe.yaml' is not valid YAML: could not determine a constructor for the tag "
     "'tag:yaml.org,2002:python/object:os.system' in \"<unicode string>\", line 1, column 8: model: "
     "!!python/object:os.system {} ^"),
    ("a recipe of two documents", {}, file("recipe.yaml", "a: 1\n---\nb: 2\n"),
     "recipe '{w}/recipe.yaml' is not valid YAML: expected a single document in the stream in \"<unicode "
     'string>", line 1, column 1: a: 1 ^ but found another document in "<unicode string>", line 2, column 1: --- '
     "^"),
    ("an alias to nowhere", {}, file("recipe.yaml", "model: *other\n"),
     "recipe '{w}/recipe.yaml' is not valid YAML: found undefined alias 'other' in \"<unicode string>\", line 1, "
     "column 8: model: *other ^"),
    ("a key that is a list", {}, file("recipe.yaml", "? [a, b]\n: 1\n"),
     "line 1 holds a list or a mapping as a key; write a name"),
    ("a key that is a number", {}, file("recipe.yaml", "1: 2\n"),
     "unknown key '1'; known are: data, dynamic_exit, export, model, pruning, quantization, report, seed, upgrade"),
    ("a date that is none", {}, file("recipe.yaml", "seed: 2020-13-45\n"),
     "recipe '{w}/recipe.yaml' is not valid YAML: month must be in 1..12"),
    ("a recipe that is nested too deeply", {}, file("recipe.yaml", "a: " + "[" * 2000),
     "recipe '{w}/recipe.yaml' is not valid YAML: it is nested too deeply"),
    # arrays
    ("complex numbers", {}, npz(inputs=np.ones((4, 1, 6, 6), np.complex64), labels=np.arange(4) % 3),
     "split 'test' must hold numbers of shape (N, ...); got complex64 [4, 1, 6, 6]"),
    ("dates", {}, npz(inputs=np.zeros((4, 36), "timedelta64[s]"), labels=np.arange(4) % 3),
     "split 'test' must hold numbers of shape (N, ...); got timedelta64[s] [4, 36]"),
    ("words", {}, npz(inputs=np.full((4, 36), "a"), labels=np.arange(4) % 3),
     "split 'test' must hold numbers of shape (N, ...); got <U1 [4, 36]"),
    ("a structured array", {}, npz(inputs=np.zeros((4, 2), [("a", "f4"), ("b", "f4")]), labels=np.arange(4) % 3),
     "split 'test' must hold numbers of shape (N, ...); got [('a', '<f4'), ('b', '<f4')] [4, 2]"),
    ("one axis", {}, npz(inputs=np.arange(4.0), labels=np.arange(4) % 3),
     "split 'test' must hold numbers of shape (N, ...); got float32 [4]"),
    ("a single number", {}, npz(inputs=np.float32(3), labels=np.arange(4) % 3),
     "split 'test' must hold numbers of shape (N, ...); got float32 []"),
    ("fewer labels", {}, npz(labels=np.arange(9) % 3),
     "split 'test' must have one whole number as label for each sample; got int64 [9] for 150 samples"),
    ("one-hot labels", {}, npz(labels=np.eye(3)[np.arange(150) % 3]),
     "split 'test' must have one whole number as label for each sample; got float64 [150, 3] for 150 samples; "
     "rows of several labels are for multi-label classification, which is not supported"),
    ("a label for all", {}, npz(labels=np.int64(1)),
     "split 'test' must have one whole number as label for each sample; got int64 [] for 150 samples"),
    ("labels of NaN", {}, npz(labels=np.full(150, np.nan)),
     "split 'test' must have one whole number as label for each sample; got float64 [150] for 150 samples"),
    ("labels of dates", {}, npz(labels=np.zeros(150, "datetime64[D]")),
     "split 'test' must have one whole number as label for each sample; got datetime64[D] [150] for 150 samples"),
    ("labels from one", {}, npz(labels=np.arange(150) % 3 + 1),
     "split 'test' has label 3 of sample 2, the model only classes 0 to 2; map the labels"),
    ("names of other classes", {}, npz(labels=np.full(150, "up")),
     "split 'test' has the label 'up' in sample 0, which is no class; known are: left, middle, right"),
    ("names that are no text", {}, npz(labels=np.full(150, b"\xff")),
     "split 'test' has the label '\\xff' in sample 0, which is no class; known are: left, middle, right"),
    ("names in one split and numbers in another", {}, npz(labels=np.full(150, "left")),
     "split 'train' has the label '2' in sample 0, a number, and the label 'left' elsewhere, which is the name "
     "of a class; give names alone or numbers alone"),
    ("a reserved name", {}, npz(inputs=None, logits=np.ones((150, 1, 6, 6), np.float32)),
     "split 'test', input 'logits', has a name that no input may have; call it as the model's forward does"),
    ("an input that the model does not take", {}, lambda f: [
        np.savez(f / "data" / f"{s}.npz", image=images, site=labels[:, None], labels=labels)
        for s in SPLITS for images, labels in [tiny.samples(s)]],
     "model '{w}/models.py:backbone' needs the input 'input'; the data hold image, site; rename one of them, and "
     "leave out what is no input"),
    ("larger images", {}, lambda f: [
        np.savez(f / "data" / f"{s}.npz", inputs=np.random.default_rng(i).random((9, 3, 6, 6)), labels=np.arange(9) % 3)
        for i, s in enumerate(SPLITS)],
     "the backbone refuses inputs of shape [2, 3, 6, 6]: Given groups=1, weight of size [2, 1, 3, 3], expected "
     "input[2, 3, 6, 6] to have 1 channels, but got 3 channels instead; set its `preprocessing`"),
    ("no samples", {}, npz(inputs=np.zeros((0, 1, 6, 6), np.float32), labels=np.zeros(0, int)),
     "split 'test' is empty ('test'); give it at least one sample"),
    ("a folder in place of a file", {"data__path": "here"}, lambda f: (f / "here" / "train.npz").mkdir(parents=True),
     "data file '{w}/here/train.npz' does not exist; check the path and the names of the splits"),
    # functions
    function("a function that returns nothing", "pass") + (
        "'{w}/own.py:load' must return inputs and labels; got nothing for split 'train'; return (inputs, "
        "labels), a dict that has 'labels', or a dataset of such samples",
    ),
    function("a function that returns three values", "return x, y, y") + (
        "'{w}/own.py:load' must return inputs and labels; got 3 values for split 'train'; return (inputs, "
        "labels), a dict that has 'labels', or a dataset of such samples",
    ),
    function("a function that raises", "raise KeyError('label')") + (
        "'{w}/own.py:load' cannot load split 'train': 'label'",
    ),
    function("a function that exits", "raise SystemExit(3)") + (
        "'{w}/own.py:load' cannot load split 'train': 3",
    ),
    function("a dataset that exits", "return (exit('no disk') for _ in range(3))") + (
        "'{w}/own.py:load' cannot load split 'train': no disk",
    ),
    function("rows of several lengths", "return [[1.0, 2.0], [1.0]], [0, 1]") + (
        "the input of split 'train' of '{w}/own.py:load' holds samples of different lengths, 2 and, in sample 1, "
        "1; give all one length",
    ),
    function("tensors of several shapes", "return [torch.ones(3, 4), torch.ones(3, 5)], [0, 1]") + (
        "the input of split 'train' of '{w}/own.py:load' holds samples of different shapes, [3, 4] and, in "
        "sample 1, [3, 5]; give all one shape",
    ),
    function("masked values", "return np.ma.masked_less(x, 0.5), y") + (
        "the input of split 'train' of '{w}/own.py:load' has 3398 masked values; fill them in, or leave the "
        "samples out",
    ),
    function("a list of inputs", "return [x, x], y") + (
        "split 'train' of '{w}/own.py:load' has 2 inputs without names; return them in a dict, by the names in "
        "the model's forward",
    ),
    function("a label of another type", "return x, [None] * len(y)") + (
        "split 'train' has the label 'None' in sample 0, which is no class; known are: left, middle, right",
    ),
    function("fewer labels from a function", "return x, y[1:]") + (
        "split 'train' must have one whole number as label for each sample; got int64 [191] for 192 samples",
    ),
    # text
    texts("a csv of semicolons", ".csv", "text;label\nfilm;1\n") + (
        "text file '{w}/texts/train.csv' has ';' between its columns in line 1, and a .csv file has commas; save "
        "it with commas",
    ),
    texts("a text without a column", ".csv", "review,label\nfilm,1\n") + (
        "text file '{w}/texts/train.csv' has no column 'text' in line 2 (there: review, label); set "
        "`data.text.columns`",
    ),
    texts("a row that is too wide", ".csv", "text,label\nfilm, good,1\n") + (
        "text file '{w}/texts/train.csv' has 3 columns in line 2 and 2 in line 1; a text with a comma in it "
        "needs quotes",
    ),
    texts("an open quote", ".csv", 'text,label\n"film,1\n') + (
        "text file '{w}/texts/train.csv' cannot be read: unexpected end of data in the row that begins in line "
        "2; repair it",
    ),
    texts("a null character", ".csv", "text,label\nfi\0lm,1\n") + (
        "text file '{w}/texts/train.csv' has a null character in line 2; save it as text in UTF-8",
    ),
    texts("another encoding", ".csv", "text,label\ncafé,1\n".encode("latin-1")) + (
        "text file '{w}/texts/train.csv' cannot be read: 'utf-8' codec can't decode byte 0xe9 in position 14: "
        "invalid continuation byte; save it as UTF-8",
    ),
    texts("a missing label", ".jsonl", '{"text": "film", "label": null}\n') + (
        "text file '{w}/texts/train.jsonl' has no label in line 1; leave the line out",
    ),
    texts("a missing text", ".jsonl", '{"text": null, "label": 1}\n') + (
        "text file '{w}/texts/train.jsonl' has null as 'text' in line 1, which is no text; leave the line out",
    ),
    texts("a fraction", ".jsonl", '{"text": "film", "label": 0.5}\n') + (
        "text file '{w}/texts/train.jsonl' has the label 0.5 in line 1: regression is not supported; give each "
        "text the number or the name of a class",
    ),
    texts("several labels", ".jsonl", '{"text": "film", "label": [0, 2]}\n') + (
        "text file '{w}/texts/train.jsonl' has the labels [0, 2] in line 1: multi-label classification is not "
        "supported; give each text one class",
    ),
    texts("a list in place of an object", ".jsonl", '["film", 1]\n') + (
        "text file '{w}/texts/train.jsonl' has no column 'text' in line 1 (there: 2 columns); set "
        "`data.text.columns`",
    ),
    texts("a key twice in an object", ".jsonl", '{"text": "a", "text": "b", "label": 1}\n') + (
        "text file '{w}/texts/train.jsonl' has the key 'text' twice in line 1; keep one, or rename the other",
    ),
    texts("a packed file that is none", ".csv.gz", "text,label\nfilm,1\n") + (
        "text file '{w}/texts/train.csv.gz' cannot be read: Not a gzipped file (b'te'); repair it",
    ),
    texts("a packed file that is cut", ".csv.gz", gzip.compress(b"text,label\n" + b"film,1\n" * 99, mtime=0)[:40]) + (
        "text file '{w}/texts/train.csv.gz' cannot be read: Compressed file ended before the end-of-stream "
        "marker was reached; repair it",
    ),
    texts("no rows", ".csv", "text,label\n") + (
        "text file '{w}/texts/train.csv' holds no samples",
    ),
    texts("no text files", ".txt", "film\n") + (
        "data folder '{w}/texts' has no text file 'train'; nothing is known here",
    ),
    texts("a negative column", ".csv", "film,1\n", columns={"text": 0, "label": -1}) + (
        "key 'data.text.columns' must count columns from 0; got -1",
    ),
    texts("one column twice", ".csv", "text,label\nfilm,1\n", columns={"text": "text", "label": "text"}) + (
        "key 'data.text.columns' names one column twice; text, pair and label need columns of their own",
    ),
    texts("columns by name and by number", ".csv", "text,label\nfilm,1\n", columns={"text": "text", "label": 1}) + (
        "key 'data.text.columns' must hold names alone or numbers alone; got 'text', 1",
    ),
    texts("a length of one", ".csv", "text,label\nfilm,1\n", max_length=1) + (
        "key 'data.text.max_length' must be greater than or equal to 2; got 1",
    ),
    texts("padding to no length", ".csv", "text,label\nfilm,1\n", padding="max_length") + (
        "key 'data.text' fills up to `max_length`, which it does not hold; add it",
    ),
    texts("no such tokenizer", ".csv", "text,label\nfilm,1\n", tokenizer="./nowhere") + (
        "folder '{w}/nowhere' holds no tokenizer; save one there, or name another in `data.text.tokenizer`",
    ),
    # images
    images("a broken image", lambda f: (f / "test" / "left" / "0.png").write_bytes(b"no image")) + (
        "image '{w}/images/test/left/0.png' cannot be read: cannot identify image file "
        "'{w}/images/test/left/0.png'; a recipe may leave some out by `data.max_bad`",
    ),
    images("an image of 32 bits", lambda f: Image.new("F", (6, 6)).save(f / "test" / "left" / "1.tif")) + (
        "image '{w}/images/test/left/1.tif' cannot be read: its pixels are floating point numbers of 32 bits, "
        "whose range is not known; save it with 8 or 16 bits; a recipe may leave some out by `data.max_bad`",
    ),
    images("an image in Lab", lambda f: Image.new("LAB", (6, 6)).save(f / "test" / "left" / "1.tif")) + (
        "image '{w}/images/test/left/1.tif' cannot be read: its colors are those of CIE Lab; save it as RGB; a "
        "recipe may leave some out by `data.max_bad`",
    ),
    images("a class in one split alone", lambda f: (f / "test" / "left").rename(f / "test" / "lefd")) + (
        "class folder '{w}/images/test/lefd' is in no other split (did you mean 'left'?); rename it, remove it, "
        "or name all classes in `data.classes`",
    ),
    images("no class folders", lambda f: shutil.rmtree(f / "train")) + (
        "image folder '{w}/images/train' has no folders of classes; put the images of each class into one",
    ),
    images("other class folders", lambda f: None, classes=["up", "middle", "right"]) + (
        "class folder 'left' is no class of `data.classes`; known are: middle, right, up",
    ),
    # datasets
    ("a folder that is no dataset", {"data__source": "datasets"}, None,
     "data folder '{w}/data' holds neither a dataset that `save_to_disk` wrote nor parquet files; check the path"),
    ("a dataset of no such split", {"data__source": "datasets"},
     file("data/dataset_dict.json", '{"splits": ["trian"]}'),
     "data folder '{w}/data' has no split 'train'; did you mean 'trian'?"),
    ("a broken dataset", {"data__source": "datasets"}, file("data/dataset_dict.json", "{"),
     "data file '{w}/data/dataset_dict.json' cannot be read: Expecting property name enclosed in double quotes: "
     "line 1 column 2 (char 1); save the dataset anew"),
    ("an incomplete dataset", {"data__source": "datasets"}, lambda f: [
        file("data/dataset_dict.json", json.dumps({"splits": [*SPLITS]}))(f),
        *(file(f"data/{s}/state.json", json.dumps({"_data_files": [{"filename": "d.arrow"}]}))(f) for s in SPLITS)],
     "dataset '{w}/data/train' is incomplete, 'd.arrow' is missing; copy or save it anew"),
    ("a misspelt key of one source", {"data__source": "datasets", "data__lable": "a"}, None,
     "unknown key 'data.lable'; did you mean 'label'?"),
    # models
    model("a function that gives no module", "return 3") + (
        "model '{w}/net.py:make' must be a torch.nn.Module; got int",
    ),
    model("a function that gives a class", "return Net") + (
        "model '{w}/net.py:make' must be a torch.nn.Module; got type",
    ),
    model("a function that gives weights", "return Net().state_dict()") + (
        "model '{w}/net.py:make' must be a torch.nn.Module; got OrderedDict",
    ),
    model("a model that raises", "raise ValueError('no such width')") + (
        "model '{w}/net.py:make' cannot be built: no such width; check its `arguments`",
    ),
    model("a model that exits", "raise SystemExit('no weights')") + (
        "model '{w}/net.py:make' cannot be built: no weights; check its `arguments`",
    ),
    model("a model of one logit", "return Net(1)") + (
        "key 'data.classes' names 3 classes, the model has 2; name each once",
    ),
    model("a model with a sigmoid", "return nn.Sequential(Net(), nn.Sigmoid())") + (
        "the backbone ends in a sigmoid, as models for multi-label classification do, and early exits answer "
        "with one class a sample; give a single-label classifier",
    ),
    model("a model of one class too many", "return Net(4)") + (
        "key 'data.classes' names 3 classes, the model has 4; name each once",
    ),
    model("a model of no classes", "return nn.Flatten(0)") + (
        "the output must be floating logits (N, C); got torch.float32 of 1 dimensions",
    ),
    model("a model that answers NaN", "net = Net(); nn.init.constant_(net.layer.bias, torch.nan); return net") + (
        "the backbone gives NaN or infinite logits; check its weights and preprocessing",
    ),
    model("weights that are no file", "return Net()", weights="no") + (
        "weights '{w}/no' do not exist; check the path",
    ),
    model("a model that answers one row for all", "return nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (1, -1)))") + (
        "the backbone must give a row of logits for each sample; got 1 for 2",
    ),
    model("a model for two samples", "net = Net(); net.forward = lambda x: x.reshape(2, 36)[:, :3]; return net") + (
        "the backbone takes 2 samples, but not 8: shape '[2, 36]' is invalid for input of size 288; let it take "
        "any number, or repair line 13 of 'net.py'",
    ),
    model("a model with a softmax", "return nn.Sequential(Net(), nn.Softmax(1))") + (
        "the backbone gives probabilities where logits are wanted; leave its softmax out",
    ),
    *(
        model(name, f"net = Net(); old = net.forward; net.forward = lambda x: old({body}); return net") + (
            "the backbone answers the same samples otherwise when asked again; keep dropout, random numbers and "
            "counters out of its evaluation mode",
        )
        for name, body in {
            "a model that drops out in use": "nn.functional.dropout(x, 0.3)",
            "a model of random numbers": "x + torch.rand_like(x)",
            "a model that counts": "setattr(net, 'calls', vars(net).get('calls', 0) + 1) or net.calls * x",
        }.items()
    ),
    model("a model in TorchScript", "return torch.jit.trace(Net(), torch.ones(2, 1, 6, 6))") + (
        "model '{w}/net.py:make' is TorchScript, which cannot be exported; give the module that it was made of",
    ),
    ("weights that are a pointer", {"model__weights": "w.safetensors"},
     file("w.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
     "weights '{w}/w.safetensors' cannot be read: it is a pointer of Git LFS, not the file itself; run `git lfs pull`"),
    ("weights without values", {"model__weights": "w.pt"},
     lambda folder: torch.save({name: each.to("meta") for name, each in tiny.backbone().state_dict().items()},
                               folder / "w.pt"),
     "weights '{w}/w.pt' do not fit model '{w}/models.py:backbone': 'block1.0.weight' holds no values; save the "
     "weights of a model in use"),
    ("weights of complex numbers", {"model__weights": "w.pt"},
     lambda folder: torch.save({name: each.to(torch.complex64) for name, each in tiny.backbone().state_dict().items()},
                               folder / "w.pt"),
     "weights '{w}/w.pt' do not fit model '{w}/models.py:backbone': 'block1.0.weight' holds complex numbers; save the "
     "weights of a model in use"),
    ("a model source that is none", {"model__source": "tensorflow"}, None,
     "key 'model.source' must be 'timm', 'transformers', 'python' or 'onnx'; got 'tensorflow'"),
    ("a model without a function", {"model__name": "models.py"}, None,
     "'{w}/models.py' must name a function as file.py:function"),
    ("a module that is not there", {"model__name": "nowhere_at_all.models:make"}, None,
     "'nowhere_at_all.models' cannot be imported: No module named 'nowhere_at_all'; repair it"),
    ("a module that imports what is not there", {"model": {"source": "python", "name": "m.py:f"}},
     file("m.py", "import nowhere_at_all\n"),
     "'{w}/m.py' cannot be imported: No module named 'nowhere_at_all'; repair it"),
]  # fmt: skip


@rows(TABLE)
def test_refused(built, tmp_path, command, changes, change, message):
    assert_refused(command, "validate", shutil.copytree(built, tmp_path / "world"), changes, change, message)
