import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from dynamic_exit.core.user_code import load_function
from dynamic_exit.data.checks import check_samples, resolve_overlaps
from dynamic_exit.data.loading import load_splits
from dynamic_exit.data.split import UNNAMED, Split
from dynamic_exit.errors import DataError
from dynamic_exit.passes import ModelSource
from dynamic_exit.recipe import DataSource
from dynamic_exit.recipe.data import DATA_SOURCES
from dynamic_exit.sources.models.loading import load_model


def data(folder, path="data.npz", source="npz", splits=("train", "calibration", "test"), **more):
    names = dict(zip(("train", "calibration", "test"), splits, strict=True))
    return DataSource.model_validate(
        {"source": source, "path": str(path), "splits": names, **more}, context={"base": folder}
    )


def numbered(count, start=0):
    """Samples that tell their own number."""
    inputs = np.arange(start, start + count, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    return inputs, np.arange(start, start + count) % 2


def rows(split):
    return split.inputs[UNNAMED].reshape(len(split), -1)[:, 0].astype(int).tolist()


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    """One file with 41 samples to slice and 5 others."""
    folder = tmp_path_factory.mktemp("dev")
    inputs, labels = numbered(41)
    more, their = numbered(5, 100)
    np.savez(folder / "data.npz", x_dev=inputs, y_dev=labels, x_train=more, y_train=their)
    return folder


@settings(max_examples=30, deadline=None)
@given(
    bounds=st.tuples(st.integers(3, 97), st.integers(3, 97))
    .filter(lambda pair: abs(pair[0] - pair[1]) > 3)
    .map(sorted),
    seed=st.integers(0, 50),
)
def test_slices_that_meet_part_the_samples(dev, bounds, seed):
    low, high = bounds
    names = [f"dev[:{low}%]", f"dev[{low}%:{high}%]", f"dev[{high}%:]"]
    splits = load_splits(data(dev, splits=names), seed)
    taken = [rows(split) for split in splits.values()]
    assert sorted(sum(taken, [])) == list(range(41))
    for part, share in zip(taken, (low, high - low, 100 - high), strict=True):
        assert abs(len(part) - 0.41 * share) <= 1
    for split in splits.values():
        assert split.labels.tolist() == [row % 2 for row in rows(split)]


def test_the_seed_decides_which_samples_a_slice_takes(dev):
    source = data(dev, splits=("train", "dev[:50%]", "dev[50%:]"))
    first, same, other = (rows(load_splits(source, seed)["calibration"]) for seed in (0, 0, 1))
    assert first == same
    assert sorted(first) != sorted(other)
    assert sorted(first) != list(range(20)), "a slice is not the file's own order, which may be by class"


def test_an_unsliced_split_keeps_its_order(dev):
    assert rows(load_splits(data(dev, splits=("train", "dev[:50%]", "dev[50%:]")), 7)["train"]) == [
        100,
        101,
        102,
        103,
        104,
    ]


def test_slices_of_fractions(dev):
    splits = load_splits(data(dev, splits=("dev[:12.5%]", "dev[12.5%:25%]", "dev[25%:]")), 0)
    assert [len(split) for split in splits.values()] == [5, 5, 31]


@pytest.mark.parametrize("names", [("inputs", "labels"), ("images", "labels"), ("x", "y"), ("x", "labels")])
def test_npz_files_of_a_folder(tmp_path, names):
    for start, key in enumerate(("train", "calibration", "test")):
        np.savez(tmp_path / f"{key}.npz", **dict(zip(names, numbered(4, 10 * start), strict=True)))
    splits = load_splits(data(tmp_path, "."), 0)
    assert [rows(split) for split in splits.values()] == [[0, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]]
    assert all(split.labels.dtype == np.int64 for split in splits.values())


def test_npz_with_all_splits_in_one_file(tmp_path):
    arrays = {}
    for start, key in enumerate(("a", "b", "c")):
        arrays[f"images_{key}"], arrays[f"y_{key}"] = numbered(4, 10 * start)
    np.savez(tmp_path / "data.npz", **arrays)
    splits = load_splits(data(tmp_path, splits=("c", "a", "b")), 0)
    assert [rows(split)[0] for split in splits.values()] == [20, 0, 10]


def test_float64_becomes_float32_and_bytes_stay():
    inputs, labels = check_samples(np.eye(2), np.array([0, 1], np.uint8), split="test")
    assert (inputs[UNNAMED].dtype, labels.dtype) == (np.float32, np.int64)
    assert check_samples(np.eye(2, dtype=np.uint8), [0, 1], split="test")[0][UNNAMED].dtype == np.uint8


def test_channels_last_is_turned(tmp_path):
    images = np.arange(3 * 2 * 4 * 3, dtype=np.float32).reshape(3, 2, 4, 3)
    arrays = {}
    for index, key in enumerate("abc"):
        arrays |= {f"x_{key}": images[index : index + 1], f"y_{key}": [0]}
    np.savez(tmp_path / "data.npz", **arrays)
    splits = load_splits(data(tmp_path, splits="abc", layout="channels_last"), 0)
    for index, split in enumerate(splits.values()):
        assert split.inputs[UNNAMED].shape == (1, 3, 2, 4)
        for channel in range(3):
            assert (split.inputs[UNNAMED][0, channel] == images[index, :, :, channel]).all()


def make(**numbers):
    """Splits of numbered samples."""
    return {
        key: Split(key, {UNNAMED: np.float32(values)[:, None] * np.ones(2, np.float32)}, np.arange(len(values)))
        for key, values in numbers.items()
    }


def test_drop_keeps_every_shared_sample_in_the_split_that_needs_it_most():
    splits = make(train=[1, 2, 3, 4, 9], calibration=[3, 4, 5, 6], test=[4, 6, 7])
    kept = resolve_overlaps(splits, "drop")
    assert {key: rows(split) for key, split in kept.items()} == {
        "train": [1, 2, 9],
        "calibration": [3, 5],
        "test": [4, 6, 7],
    }
    # labels go with their samples
    assert kept["train"].labels.tolist() == [0, 1, 4]
    assert kept["calibration"].labels.tolist() == [0, 2]


def test_drop_keeps_copies_within_one_split():
    assert rows(resolve_overlaps(make(train=[1, 1, 2], calibration=[3], test=[4, 4]), "drop")["train"]) == [1, 1, 2]


def test_drop_refuses_to_empty_a_split():
    with pytest.raises(DataError, match="split 'train' is empty once its copies of other splits are dropped"):
        resolve_overlaps(make(train=[1, 2], calibration=[3], test=[1, 2]), "drop")


def test_samples_that_differ_late_alone_are_no_copies():
    """Copies are looked for among samples whose beginnings and middles are alike, as white borders of images are."""
    images = np.zeros((6, 3, 40, 40), np.uint8)
    images[:, -1, -1, -1] = [1, 2, 3, 4, 1, 6]
    splits = {
        key: Split(key, {UNNAMED: images[rows]}, np.zeros(2, np.int64))
        for key, rows in (("train", slice(0, 2)), ("calibration", slice(2, 4)), ("test", slice(4, 6)))
    }
    kept = resolve_overlaps(splits, "drop")
    assert [kept[key].inputs[UNNAMED][:, -1, -1, -1].tolist() for key in splits] == [[2], [3, 4], [1, 6]]


@settings(max_examples=30, deadline=None)
@given(lists=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), min_size=3, max_size=3))
def test_overlaps_are_found_like_by_sets(lists):
    train, calibration, test = lists
    splits = make(train=train, calibration=calibration, test=test)
    disjoint = len({*train, *calibration, *test}) == len(train) + len(calibration) + len(test)
    if disjoint:
        assert resolve_overlaps(splits) is splits
    else:
        with pytest.raises(DataError, match="overlap"):
            resolve_overlaps(splits)


def test_imagefolder_reads_classes_by_name_and_pixels_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 4, 5, 3), np.uint8)
    for split, name in enumerate(("train", "val", "test")):
        for label, kind in enumerate(("ant", "bee")):
            folder = tmp_path / name / kind
            folder.mkdir(parents=True)
            for number in range(2):
                Image.fromarray(pixels[split, label, number]).save(folder / f"{number}.png")
    splits = load_splits(data(tmp_path, ".", "imagefolder", ("train", "val", "test")), 0)
    for index, split in enumerate(splits.values()):
        assert split.labels.tolist() == [0, 0, 1, 1]
        assert (split.inputs[UNNAMED] == pixels[index].reshape(4, 4, 5, 3).transpose(0, 3, 1, 2)).all()


def test_imagefolder_refuses_what_it_cannot_stack(tmp_path):
    (tmp_path / "train" / "ant").mkdir(parents=True)
    with pytest.raises(DataError, match=r"image folder '.*/val' has no folders of classes"):
        load_splits(data(tmp_path, ".", "imagefolder", ("val", "train", "train")), 0)
    Image.new("RGB", (3, 3)).save(tmp_path / "train" / "ant" / "a.png")
    Image.new("RGB", (3, 4)).save(tmp_path / "train" / "ant" / "b.png")
    with pytest.raises(DataError, match=r"image '.*b.png' is \(4, 3\), others \(3, 3\); resize beforehand"):
        load_splits(data(tmp_path, ".", "imagefolder", ("train", "train", "train")), 0)


@pytest.mark.parametrize(
    ("path", "package", "who"),
    [
        ("here", "pyarrow", "'{w}/here'"),
        ("stanfordnlp/sst2", "datasets", "'stanfordnlp/sst2', which is no folder beside the recipe,"),
    ],
    ids=["file", "name"],
)
def test_packages_that_are_missing_are_named(tmp_path, monkeypatch, path, package, who):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "train.parquet").write_bytes(b"")
    stanza = DATA_SOURCES.find("datasets").stanza
    values = {"source": "datasets", "path": path, "splits": {"train": "train", "calibration": "train", "test": "train"}}
    with pytest.raises(DataError) as refused:
        load_splits(stanza.model_validate(values, context={"base": tmp_path}), 0)
    assert str(refused.value) == (
        f"{who.format(w=tmp_path)} needs the package {package}, which cannot be imported; run `pip install {package}`"
    )


def test_python_source_is_called_with_the_name_of_the_split(tmp_path):
    (tmp_path / "own.py").write_text(
        "import numpy as np\n"
        "NAMES = ['one', 'two', 'three']\n"
        "def load(name):\n"
        "    number = NAMES.index(name)\n"
        "    return np.float32([[number], [number + 0.5]]), [0, 1]\n"
    )
    splits = load_splits(data(tmp_path, "own.py:load", "python", ("three", "one", "two")), 0)
    assert [split.inputs[UNNAMED].tolist() for split in splits.values()] == [[[2], [2.5]], [[0], [0.5]], [[1], [1.5]]]
    with pytest.raises(DataError, match=r"own.py:load' cannot load split 'tow': 'tow' is not in list"):
        load_splits(data(tmp_path, "own.py:load", "python", ("one", "three", "tow")), 0)


def test_python_files_of_one_name_do_not_meet(tmp_path):
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "own.py").write_text(f"def number(): return {number}\n")
    functions = [load_function(f"{tmp_path}/{number}/own.py:number") for number in (1, 2)]
    assert [function() for function in functions] == [1, 2]


@pytest.mark.parametrize("kind", ["safetensors", "pt", "checkpoint"])
def test_weights_are_loaded_from_every_kind_of_file(tmp_path, kind):
    (tmp_path / "m.py").write_text("from torch import nn\ndef make(): return nn.Linear(3, 2)\n")
    weights = nn.Linear(3, 2)
    path = tmp_path / f"w.{'safetensors' if kind == 'safetensors' else 'pt'}"
    state = weights.state_dict()
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "pt":
        torch.save(state, path)
    else:  # as training scripts leave it
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    model = load_model(ModelSource(source="python", name=f"{tmp_path}/m.py:make", weights=str(path)))
    x = torch.randn(4, 3)
    assert torch.equal(model(x), weights(x))


def test_preprocessing_stands_in_front_of_the_model(tmp_path):
    (tmp_path / "m.py").write_text("from torch import nn\ndef make(): return nn.Flatten()\n")
    steps = {"scale": 0.5, "mean": [1.0, 3.0], "std": [2.0, 4.0]}
    model = load_model(ModelSource(source="python", name=f"{tmp_path}/m.py:make", preprocessing=steps))
    x = torch.tensor([[[[4.0, 6.0]], [[10.0, 22.0]]]])
    # (4 / 2 - 1) / 2, (6 / 2 - 1) / 2, (10 / 2 - 3) / 4, (22 / 2 - 3) / 4
    assert model(x).tolist() == [[0.5, 1.0, 0.5, 2.0]]
