"""Whatever a function of the user's returns: read where its meaning is plain, else refused in one sentence."""

import textwrap

import numpy as np
import pytest
import torch

from dynamic_exit.data.loading import load_splits
from dynamic_exit.data.split import UNNAMED
from dynamic_exit.errors import DataError
from dynamic_exit.passes import ModelSource
from dynamic_exit.recipe import DataSource

SPLITS = ("train", "calibration", "test")
# what the functions below work on: four samples of each split, by number
HEAD = """
import numpy as np
import torch
from PIL import Image
from torch.utils.data import (
    DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler, TensorDataset, WeightedRandomSampler
)

def arrays(name):
    start = 10 * ["train", "calibration", "test"].index(name)
    rows = np.arange(start, start + 4, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    return rows, np.array([0, 1, 1, 0])

def tensors(name):
    return tuple(map(torch.from_numpy, arrays(name)))

class Own(Dataset):
    def __init__(self, name, make=lambda x, y: (x, y)):
        self.x, self.y = arrays(name)
        self.make = make
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return self.make(self.x[index], int(self.y[index]))

class Stream(IterableDataset):
    def __init__(self, name):
        self.samples = list(zip(*arrays(name)))
    def __iter__(self):
        return iter(self.samples)
"""


def source(folder, body, kind=SPLITS, **more):
    (folder / "own.py").write_text(
        HEAD + "\ndef load(name):\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ")
    )
    values = {"source": "python", "path": "own.py:load", "splits": dict(zip(SPLITS, kind, strict=True)), **more}
    return DataSource.model_validate(values, context={"base": folder})


TAKEN = {
    "arrays": "return arrays(name)",
    "a list of two": "return list(arrays(name))",
    "tensors that need gradients": "x, y = tensors(name); return x.requires_grad_(), y",
    "bfloat16": "x, y = tensors(name); return x.bfloat16(), y",
    "sparse": "x, y = tensors(name); return x.to_sparse(), y",
    "nested": "x, y = tensors(name); return torch.nested.nested_tensor(list(x)), y",
    "half": "x, y = tensors(name); return x.half(), y",
    "half labels": "x, y = tensors(name); return x, y.half()",
    "double": "x, y = tensors(name); return x.double(), y.to(torch.uint8)",
    "labels of one column": "x, y = tensors(name); return x, y[:, None]",
    "labels of one column in numpy": "x, y = arrays(name); return x, y[:, None].astype(np.float64)",
    "lists of numbers": "x, y = arrays(name); return x.tolist(), y.tolist()",
    "lists of arrays": "x, y = arrays(name); return list(x), list(y)",
    "lists of tensors": "x, y = tensors(name); return [each.clone().requires_grad_() for each in x], list(y)",
    "an array of arrays": (
        "x, y = arrays(name)\nrows = np.empty(4, object)\nfor i in range(4): rows[i] = x[i]\nreturn rows, y"
    ),
    "another byte order": "x, y = arrays(name); return x.astype('>f4'), y.astype('>i2')",
    "long doubles": "x, y = arrays(name); return x.astype(np.longdouble), y",
    "rows backwards": "x, y = arrays(name); return x[::-1].copy()[::-1], y",
    "a mask that hides nothing": "x, y = arrays(name); return np.ma.masked_greater(x, 99), y",
    "a dict": "x, y = arrays(name); return {'x': x, 'y': y}",
    "a dict of other names": "x, y = arrays(name); return {'inputs': x, 'labels': list(y)}",
    "pairs": "return [(x, y) for x, y in zip(*arrays(name))]",
    "dicts": "return [{'x': x, 'label': y} for x, y in zip(*arrays(name))]",
    "a generator": "yield from zip(*arrays(name))",
    "a TensorDataset": "return TensorDataset(*tensors(name))",
    "a dataset": "return Own(name)",
    "a dataset of tensors": "return Own(name, lambda x, y: (torch.tensor(x, requires_grad=True), torch.tensor(y)))",
    "a dataset of one-column labels": "return Own(name, lambda x, y: (x, [y]))",
    "a dataset of dicts": "return Own(name, lambda x, y: {'x': x, 'target': y})",
    "a subset": "return Subset(Own(name), [0, 1, 2, 3])",
    "a stream": "return Stream(name)",
    "a loader": "return DataLoader(Own(name), batch_size=3)",
    "a loader that drops the rest": "return DataLoader(Own(name), batch_size=3, drop_last=True)",
    "a shuffling loader": "return DataLoader(Own(name), batch_size=3, shuffle=True)",
    "a loader of some": "return DataLoader(Own(name), batch_size=3, sampler=SubsetRandomSampler([2, 0, 1, 3]))",
    "a loader of streams": "return DataLoader(Stream(name), batch_size=3)",
    "a loader of batches": "return DataLoader(Own(name), batch_sampler=[[0], [1, 2], [3]])",
    "a loader of its own collation": (
        "join = lambda rows: (torch.tensor(np.stack([x for x, _ in rows])), torch.tensor([y for _, y in rows]))\n"
        "return DataLoader(Own(name), batch_size=2, collate_fn=join)"
    ),
    "a loader of dicts": "return DataLoader(Own(name, lambda x, y: {'x': x, 'labels': y}), batch_size=2)",
    "a loader in processes": "return DataLoader(Own(name), batch_size=2, num_workers=2)",
}  # fmt: skip


@pytest.mark.parametrize("body", TAKEN.values(), ids=TAKEN)
def test_what_is_plain_is_taken(tmp_path, body):
    for number, split in enumerate(load_splits(source(tmp_path, body), 0).values()):
        expected = np.arange(10 * number, 10 * number + 4, dtype=np.float32)[:, None] * np.ones(3, np.float32)
        assert split.inputs[UNNAMED].dtype == np.float32
        assert split.inputs[UNNAMED].tolist() == expected.tolist()
        assert split.labels.tolist() == [0, 1, 1, 0]
        torch.from_numpy(split.inputs[UNNAMED])  # it takes neither foreign byte orders nor negative strides


NAMED = {
    "a dict and labels": "x, y = tensors(name); return {'ids': x.long(), 'mask': x > 1}, y",
    "a dict": "x, y = tensors(name); return {'ids': x.long(), 'mask': x > 1, 'labels': y}",
    "dicts": "return [{'ids': x.astype(int), 'mask': x > 1, 'label': y} for x, y in zip(*arrays(name))]",
    "a dataset": "return Own(name, lambda x, y: ({'ids': x.astype(int), 'mask': x > 1}, y))",
    "a loader": (
        "make = lambda x, y: {'ids': torch.tensor(x).long(), 'mask': torch.tensor(x > 1), 'labels': y}\n"
        "return DataLoader(Own(name, make), batch_size=3)"
    ),
    "an archive of numpy": (
        "x, y = arrays(name)\nnp.savez(PATH, ids=x.astype(int), mask=x > 1, labels=y)\n"
        "return np.load(PATH)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("body", NAMED.values(), ids=NAMED)
def test_several_inputs_have_names(tmp_path, body):
    body = body.replace("PATH", repr(str(tmp_path / "a.npz")))
    split = load_splits(source(tmp_path, body), 0)["calibration"]
    assert {name: (array.dtype, array.shape) for name, array in split.inputs.items()} == {
        "ids": (np.int64, (4, 3)),
        "mask": (bool, (4, 3)),
    }
    assert split.labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("kind", ["list", "dataset"])
def test_images_are_read_as_from_files(tmp_path, kind, layout):
    """Upright, in RGB, channels first whatever the layout of arrays is."""
    body = """
        picture = Image.new("RGB", (5, 4), tuple(int(each) for each in arrays(name)[0][1]))
        picture.putpixel((0, 0), (200, 100, 50))
        picture.getexif()[274] = 6
        grey = Image.new("L", (4, 5), 7 + len(name))
        return PAIRS
        """
    pairs = {"list": "[picture, grey], ['cat', 'dog']", "dataset": "[(picture, 'cat'), (grey, 'dog'), (grey, 'dog')]"}
    splits = load_splits(source(tmp_path, body.replace("PAIRS", pairs[kind]), layout=layout), 0)
    images = splits["calibration"].inputs[UNNAMED]
    assert (images.dtype, images.shape[1:]) == (np.uint8, (3, 5, 4))
    assert images[0, :, 0, 3].tolist() == [200, 100, 50], "turned to the right"
    assert images[1].tolist() == np.full((3, 5, 4), 18).tolist()
    assert splits["test"].class_names == ("cat", "dog")


CLASSES = """
class Named(Own):
    def __init__(self, name, classes):
        super().__init__(name)
        self.classes = classes

"""


@pytest.mark.parametrize(
    ("classes", "known", "names", "labels", "said"),
    [
        ([["dog", "cat"]] * 3, None, ("dog", "cat"), [0, 1, 1, 0], []),
        ([["dog", "cat"]] * 3, ["cat", "dog"], ("cat", "dog"), [1, 0, 0, 1], []),
        ([["dog", "cat"]] * 3, ["cow", "cat", "dog"], ("cow", "cat", "dog"), [2, 1, 1, 2], []),
        ([["dog", "cat"], ["ant", "dog", "cat"], ["cat", "dog"]], None, ("ant", "cat", "dog"), [1, 2, 2, 1],
         ["the splits number their classes differently; they are matched by name", "'train' holds no samples of ant",
          "'calibration' holds no samples of cat", "'test' holds no samples of ant"]),
        ([["dog", "cat"]] * 3, "backbone", ("dog", "cat"), [0, 1, 1, 0],
         ["the data call no class as the backbone does: matched by order, class 'dog' is the backbone's 'LEFT' and "
          "'cat' its 'RIGHT'"]),
        ([["only one"]] * 3, None, None, [0, 1, 1, 0], []),
        ([[("dog", "hound"), ("cat",)]] * 3, None, None, [0, 1, 1, 0], []),
    ],
    ids=["its own order", "data.classes", "more classes", "each its own", "other names", "too few", "synonyms"],
)  # fmt: skip
@pytest.mark.parametrize("wrap", ["{}", "Subset({}, range(4))", "DataLoader({})"])
def test_classes_that_a_dataset_lists_are_matched_by_name(tmp_path, classes, known, names, labels, said, wrap):
    lists = dict(zip(SPLITS, classes, strict=True))
    made = wrap.format(f"Named(name, {lists}[name])")
    body = f"{textwrap.indent(CLASSES, '        ')}\n        return {made}"
    model = ModelSource(source="python", name="m.py:make", labels=["LEFT", "RIGHT"]) if known == "backbone" else None
    notes = []
    more = {"classes": known} if isinstance(known, list) else {}
    splits = load_splits(source(tmp_path, body, **more), 0, model, note=notes.append)
    assert splits["test"].class_names == names
    assert splits["test"].labels.tolist() == labels
    assert notes == said


LOAD = "'{w}/own.py:load'"
MUST = f"{LOAD} must return inputs and labels; got "
SPLIT = " for split 'train'; return (inputs, labels), a dict that has 'labels', or a dataset of such samples"
REFUSED = {
    "nothing": ("pass", f"{MUST}nothing{SPLIT}"),
    "three values": ("x, y = arrays(name); return x, x, y", f"{MUST}3 values{SPLIT}"),
    "an array": ("return arrays(name)[0]", f"{MUST}a ndarray{SPLIT}"),
    "a tensor": ("return tensors(name)[0]", f"{MUST}a Tensor{SPLIT}"),
    "a word": ("return name", f"{MUST}a str{SPLIT}"),
    "a number": ("return 1", f"{MUST}an int{SPLIT}"),
    "a dict without labels": ("return {'x': arrays(name)[0]}", f"{MUST}x and no 'labels'{SPLIT}"),
    "all splits": ("return {'train': arrays(name), 'test': arrays(name)}", f"{MUST}train, test and no 'labels'{SPLIT}"),
    "a list of inputs": ("return list(arrays(name)[0])", f"{MUST}samples of a ndarray{SPLIT}"),
    "samples of three values": ("return Own(name, lambda x, y: (x, y, y))", f"{MUST}samples of 3 values{SPLIT}"),
    "a tensor dataset of three": (
        "x, y = tensors(name); return TensorDataset(x, x, y)", f"{MUST}samples of 3 values{SPLIT}"
    ),
    "batches of three values": (
        "x, y = tensors(name); return DataLoader(TensorDataset(x, x, y), batch_sampler=[[0, 1], [2, 3]])",
        f"{MUST}batches of 3 values{SPLIT}",
    ),
    "a dataset that fails": (
        "return Own(name, lambda x, y: 1 / 0)", f"{LOAD} cannot load split 'train': division by zero"
    ),
    "a generator that fails": ("yield arrays(name); raise OSError('no disk')",
                               f"{LOAD} cannot load split 'train': no disk"),
    "a loader that repeats": (
        "return DataLoader(Own(name), sampler=WeightedRandomSampler([1.0, 9.0, 1.0, 1.0], 40))",
        f"{LOAD} returns a loader that draws samples more than once for split 'train'; return its dataset",
    ),
    "rows of several lengths": (
        "return [[1, 2], [1, 2, 3]] * 2, [0, 1, 0, 1]",
        f"the input of split 'train' of {LOAD} holds samples of different lengths, 2 and, in sample 1, 3; give all one "
        "length",
    ),
    "arrays of several shapes": (
        "return [np.ones((2, 3)), np.ones((2, 4))], [0, 1]",
        f"the input of split 'train' of {LOAD} holds samples of different shapes, [2, 3] and, in sample 1, [2, 4]; "
        "give all one shape",
    ),
    "images of several sizes": (
        "return [(Image.new('L', (4, 4)), 0)] * 2 + [(Image.new('L', (4, 5)), 0)]",
        f"the input of split 'train' of {LOAD} holds samples of different shapes, [3, 4, 4] and, in sample 2, "
        "[3, 5, 4]; give all one shape",
    ),
    "images of 32 bits": (
        "return [(Image.new('F', (4, 4)), 0)] * 3",
        f"the input of split 'train' of {LOAD} has an image that cannot be read: its pixels are floating point numbers "
        "of 32 bits, whose range is not known; save it with 8 or 16 bits",
    ),
    "batches of several shapes": (
        "x, y = tensors(name)\n"
        "rows = [(x[:2], y[:2]), (x[2:, :2], y[2:])]\n"
        "return DataLoader(rows, batch_size=None)",
        f"split 'train' of {LOAD} has batches of different names or shapes; give all one shape",
    ),
    "inputs without names": (
        "x, y = tensors(name); return [x, x], y",
        f"split 'train' of {LOAD} has 2 inputs without names; return them in a dict, by the names in the "
        "model's forward",
    ),
    "samples of inputs without names": (
        "return Own(name, lambda x, y: ((x, x, x), y))",
        f"split 'train' of {LOAD} has 3 inputs without names; return them in a dict, by the names in the "
        "model's forward",
    ),
    "a sample without an input": (
        "return [({'a': x, 'b': x}, y) for x, y in zip(*arrays(name))] + [({'a': arrays(name)[0][0]}, 0)]",
        f"split 'train' of {LOAD} has a sample without the input 'b'; give all inputs of every sample",
    ),
    "masked values": (
        "x, y = arrays(name); return np.ma.masked_equal(x, 2), y",
        f"the input of split 'train' of {LOAD} has 3 masked values; fill them in, or leave the samples out",
    ),
    "a tensor on no device": (
        "x, y = tensors(name); return x.to('meta'), y",
        f"the input of split 'train' of {LOAD} cannot be made an array: Cannot copy out of meta tensor; no data!; give "
        "it as one array",
    ),
    "complex numbers": (
        "x, y = arrays(name); return x * 1j, y",
        "split 'train' must hold numbers of shape (N, ...); got complex64 [4, 3]",
    ),
    "dates": (
        "x, y = arrays(name); return x.astype('timedelta64[s]'), y",
        "split 'train' must hold numbers of shape (N, ...); got timedelta64[s] [4, 3]",
    ),
    "words": (
        "x, y = arrays(name); return x.astype(str), y",
        "split 'train' must hold numbers of shape (N, ...); got <U32 [4, 3]",
    ),
    "one number a sample": (
        "x, y = arrays(name); return x[:, 0], y", "split 'train' must hold numbers of shape (N, ...); got float32 [4]"
    ),
    "one-hot labels": (
        "x, y = arrays(name); return x, np.eye(2)[y]",
        "split 'train' must have one whole number as label for each sample; got float64 [4, 2] for 4 samples; rows of "
        "several labels are for multi-label classification, which is not supported",
    ),
    "no samples": ("return []", "split 'train' is empty ('train'); give it at least one sample"),
    "names and numbers": (
        "x, y = arrays(name); return x, ['cat', 1, 1, 'cat']",
        "split 'train' has the label 'cat' in sample 0, which is no class; name the classes in `data.classes`",
    ),
    "a class twice": (
        f"{textwrap.indent(CLASSES, ' ').strip()}\nreturn Named(name, ['a', 'a'])",
        "the data call more than one class 'a'; give every class a name of its own",
    ),
}  # fmt: skip


@pytest.mark.parametrize("body, sentence", REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused_by_name_of_the_function(tmp_path, body, sentence):
    with pytest.raises(DataError) as refused:
        load_splits(source(tmp_path, body), 0)
    assert str(refused.value) == sentence.format(w=tmp_path)


TABLES = {
    "pandas": "import pandas\ntable = pandas.DataFrame({'a': x[:, 0], 'b': x[:, 1], 'c': x[:, 2], 'label': y})",
    "pyarrow": "import pyarrow\ntable = pyarrow.table({'a': x[:, 0], 'b': x[:, 1], 'c': x[:, 2], 'label': y})",
}


@pytest.mark.parametrize("package", TABLES)
@pytest.mark.parametrize("names", [False, True], ids=["numbers", "names"])
def test_tables_are_rows_of_numbers(tmp_path, package, names):
    pytest.importorskip(package, reason=f"needs {package}, of the extra dev")
    named = "y = np.array(['no', 'yes'])[y]" if names else ""
    body = f"x, y = arrays(name)\n{named}\n{TABLES[package]}\nreturn table"
    split = load_splits(source(tmp_path, body), 0)["train"]
    assert split.inputs[UNNAMED].tolist() == [[i] * 3 for i in range(4)]
    assert split.labels.tolist() == [0, 1, 1, 0]
    assert split.class_names == (("no", "yes") if names else None)


COLUMNS = {
    "pandas": [
        "import pandas\nframe = pandas.DataFrame(x)\nreturn frame, pandas.Series(y)",
        "import pandas\nreturn pandas.DataFrame(x), pandas.Categorical(np.array(['a', 'b'])[y])",
        "import pandas\nreturn pandas.Series(list(x)), pandas.Series(y, dtype='Int64')",
        "import pandas\nreturn pandas.DataFrame({'x': list(x), 'y': y})",
    ],
    "pyarrow": [
        "import pyarrow\nreturn pyarrow.array(list(x)), pyarrow.array(y)",
        "import pyarrow\nreturn pyarrow.table({'x': list(x), 'y': y})",
        "import pyarrow\nreturn x, pyarrow.chunked_array([y[:2], y[2:]])",
        "import pyarrow\nreturn x, pyarrow.array(np.array(['a', 'b'])[y].tolist()).dictionary_encode()",
    ],
}


@pytest.mark.parametrize(
    "package, number", [(package, number) for package, bodies in COLUMNS.items() for number in range(len(bodies))]
)
def test_columns_are_arrays(tmp_path, package, number):
    pytest.importorskip(package, reason=f"needs {package}, of the extra dev")
    split = load_splits(source(tmp_path, f"x, y = arrays(name)\n{COLUMNS[package][number]}"), 0)["train"]
    assert split.inputs[UNNAMED].tolist() == [[i] * 3 for i in range(4)]
    assert split.labels.tolist() == [0, 1, 1, 0]
