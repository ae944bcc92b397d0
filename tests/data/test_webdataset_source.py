"""Shards of webdataset are read as the same images in folders are."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from dynamic_exit.core import mapped_arrays
from dynamic_exit.core.cache import Cache
from dynamic_exit.data.loading import load_splits
from dynamic_exit.errors import DataError, RecipeError
from dynamic_exit.images import ImageFormat, ImageReading, Resizing
from dynamic_exit.recipe import DataSource, parse_recipe

SPLITS = ("train", "calibration", "test")


def image(seed, kind="PNG", size=(4, 5)):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def shard(path, files, mode="w"):
    """Write a tar file of contents by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def sample(name, seed, **others):
    """An image and further files, whose endings are the keywords."""
    return {f"{name}.png": image(seed), **{f"{name}.{ending}": text.encode() for ending, text in others.items()}}


@pytest.fixture
def folder(tmp_path):
    """Two shards a split, with two samples in each."""
    for number, split in enumerate(SPLITS):
        for part in range(2):
            first = 10 * number + 2 * part
            files = sample(f"{part}/000", first, cls="0") | sample(f"{part}/001", first + 1, cls="1")
            shard(tmp_path / f"{split}-{part:06}.tar", files)
    return tmp_path


def load(folder, notes=None, reading=None, **more):
    values = {"source": "webdataset", "path": str(folder), "splits": {key: key for key in SPLITS}, **more}
    return load_splits(parse_data(values, folder), 0, note=(notes if notes is not None else []).append, images=reading)


def parse_data(values, folder):
    recipe = {
        "model": {"source": "timm", "name": "test_resnet"},
        "data": values,
        "dynamic_exit": {"early_exit": {}},
        "export": {"directory": "out"},
    }
    return parse_recipe(recipe, base=folder).data


def decoded(seed):
    return np.asarray(Image.open(io.BytesIO(image(seed)))).transpose(2, 0, 1)


def test_samples_come_in_the_order_of_the_shards(folder):
    splits = load(folder)
    for number, split in enumerate(splits.values()):
        wanted = np.stack([decoded(10 * number + each) for each in range(4)])
        assert np.array_equal(split.inputs[""], wanted)
        assert split.labels.tolist() == [0, 1, 0, 1]
        assert split.class_names is None and split.image_format == ImageFormat()


NAMES = {
    "a beginning": "train",
    "a pattern": "train-*.tar",
    "numbers": "train-{000000..000001}.tar",
    "a choice": "train-00000{0,1}.tar",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_shards_are_named_in_many_ways(folder, name):
    names = {"train": name, "calibration": "calibration", "test": "test"}
    assert np.array_equal(load(folder, splits=names)["train"].inputs[""][3], decoded(3))


def test_a_split_may_be_a_folder_a_file_or_a_slice_of_one(folder):
    for part in range(2):
        place = folder / "sub" / f"{part}.tar"
        place.parent.mkdir(exist_ok=True)
        (folder / f"test-{part:06}.tar").rename(place)
    splits = load(folder, splits={"train": "train-000000", "calibration": "calibration-000001.tar", "test": "sub"})
    assert [len(split) for split in splits.values()] == [2, 2, 4]
    names = {key: f"any[{low}%:{low + 25}%]" for key, low in zip(SPLITS, (0, 25, 50), strict=True)}
    shard(folder / "all.tar", {k: v for i in range(8) for k, v in sample(f"{i}", 50 + i, cls=str(i % 2)).items()})
    splits = load(folder / "all.tar", splits=names)
    assert [len(split) for split in splits.values()] == [2, 2, 2]


LABELS = {
    # further files of two samples, keys of the stanza, labels, names
    "numbers in cls": ([{"cls": "1"}, {"cls": " 0\n"}], {}, [1, 0], None),
    "names in txt": ([{"txt": "bee"}, {"txt": "ant\n"}], {}, [1, 0], ("ant", "bee")),
    "a key in json": ([{"json": '{"label": 1}'}, {"json": '{"label": 0}'}], {}, [1, 0], None),
    "another key": ([{"json": '{"c": "b"}'}, {"json": '{"c": "a"}'}], {"label_key": "c"}, [1, 0], ("a", "b")),
    "json alone": ([{"json": "1"}, {"json": "0"}], {}, [1, 0], None),
    "cls before txt": ([{"txt": "a cat", "cls": "1"}, {"txt": "a dog", "cls": "0"}], {}, [1, 0], None),
    "an ending": ([{"txt": "b", "cls": "0"}, {"txt": "a", "cls": "1"}], {"label": "txt"}, [1, 0], ("a", "b")),
    "of two parts": ([{"y.txt": "1"}, {"y.txt": "0"}], {"label": ".y.txt"}, [1, 0], None),
    "known names": ([{"txt": "b"}, {"txt": "a"}], {"classes": ["b", "a"]}, [0, 1], ("b", "a")),
}


@pytest.mark.parametrize("files, keys, labels, names", LABELS.values(), ids=LABELS)
def test_labels_are_read_from_files_beside_the_images(tmp_path, files, keys, labels, names):
    for number, split in enumerate(SPLITS):
        parts = [sample(f"s{i}", 10 * number + i, **each) for i, each in enumerate(files)]
        shard(tmp_path / f"{split}.tar", {**parts[0], **parts[1]})
    split = load(tmp_path, **keys)["test"]
    assert (split.labels.tolist(), split.class_names) == (labels, names)


def test_images_take_the_form_that_the_backbone_takes(folder):
    shard(folder / "test-000002.tar", {"a.jpg": image(9, "JPEG", (40, 60)), "a.cls": b"1"})
    form = ImageFormat(1, Resizing((4, 5), (4, 5)))
    notes = []
    splits = load(folder, notes, ImageReading(lambda size: form if size is None else ImageFormat()))
    assert splits["test"].inputs[""].shape == (5, 1, 4, 5)
    assert notes[-1] == "images have 2 sizes, such as (4, 5) and (40, 60): resized to (4, 5)"


def test_large_shards_are_decoded_once(folder, monkeypatch):
    small = load(folder)
    monkeypatch.setattr(mapped_arrays, "MAX_BYTES_IN_MEMORY", 0)
    reading = ImageReading(cache=Cache(folder / "cache"))
    for _ in range(2):
        found = load(folder, reading=reading)
        assert all(np.array_equal(found[key].inputs[""], small[key].inputs[""]) for key in SPLITS)
    entries = len(list((folder / "cache").rglob("*.npy")))
    shard(folder / "test-000001.tar", sample("0", 70, cls="1"))
    assert np.array_equal(load(folder, reading=reading)["test"].inputs[""][2], decoded(70))
    assert len(list((folder / "cache").rglob("*.npy"))) == entries + 1, "only the split that changed"


def test_hidden_files_and_samples_without_an_image_are_left_out(folder):
    files = {"._000.png": b"x", "__meta__.json": b"{}", "README": b"x", **sample("b", 80, cls="1")}
    shard(folder / "train-000002.tar", files)
    notes = []
    assert len(load(folder, notes)["train"]) == 5
    where = folder / "train-000002.tar" / "__meta__"
    assert notes == [f"left out of the shards of 'train': 1 without an image, such as '{where}'"]


def test_a_broken_image_is_named_with_its_shard(folder):
    shard(folder / "train-000002.tar", {"b.png": b"no image", "b.cls": b"1"})
    where = folder / "train-000002.tar" / "b.png"
    with pytest.raises(
        DataError,
        match=f"^image '{where}' cannot be read: it is no image; a recipe may leave some out by `data.max_bad`$",
    ):
        load(folder)
    assert len(load(folder, max_bad=1)["train"]) == 4


REFUSED = {
    # files of a further shard of `train`, keys, message
    "no label": ({"a.png": image(90), "a.xyz": b"1"}, {}, "sample '{}/a' has no label, which is a file that ends "
                 "in cls or json or txt; it has png, xyz; name the ending in `data.label`"),
    "another label": (sample("a", 90, cls="1"), {"label": "txt"}, "sample '.*/train-000000.tar/0/000' has no "
                      "label, which is a file that ends in txt; it has png, cls; name the ending in `data.label`"),
    "two images": ({**sample("a", 90, cls="1"), "a.seg.png": image(91)}, {},
                   "sample '{}/a' has several images, png, seg.png; name one of these endings in `data.image`"),
    "no such image": ({}, {"image": "webp"}, "split 'train' has no images in its shards; check their endings against "
                      "`data.image`"),
    "no such key": (sample("a", 90, json='{"y": 1}'), {"label": None}, "label '{}/a.json' has no key 'label' "
                    r"\(there: y\); name it in `data.label_key`"),
    "no JSON": (sample("a", 90, json="{"), {}, "label '{}/a.json' cannot be read: .*; repair it"),
    "several labels": (sample("a", 90, json="[1, 2]"), {}, "label '{}/a.json' must be one number or name; got "
                       r"\[1, 2\]"),
    "an empty label": (sample("a", 90, cls=""), {}, "label '{}/a.cls' must be one number or name; got ''"),
    "a name among numbers": (sample("a", 90, cls="cat"), {}, "shard '{}'.*'cat' of 'a'"),
}  # fmt: skip


@pytest.mark.parametrize("files, keys, message", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_named(folder, files, keys, message):
    shard(folder / "train-000002.tar", files)
    with pytest.raises(DataError, match=message.replace("{}", str(folder / "train-000002.tar"))):
        load(folder, **keys)


def test_a_file_that_is_there_twice_is_refused(folder):
    with tarfile.open(folder / "train-000002.tar", "w") as archive:
        for name, content in (("a.png", image(1)), ("a.png", image(2)), ("a.cls", b"1")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match="shard '.*' holds 'a.png' twice; write each file of a sample once"):
        load(folder)


@pytest.mark.parametrize("kind", ["gz", "text", "cut"])
def test_what_is_no_tar_file_is_named(folder, kind):
    path = folder / "train-000002.tar"
    shard(path, sample("a", 90, cls="1"), "w:gz" if kind == "gz" else "w")
    if kind != "gz":
        path.write_bytes(b"no archive" * 100 if kind == "text" else path.read_bytes()[:300])
    with pytest.raises(DataError, match=f"^shard '{path}' is no uncompressed tar file: .*; unpack it if it is comp"):
        load(folder)


def test_missing_shards_are_named(folder):
    names = {"train": "tarin", "calibration": "calibration", "test": "test"}
    with pytest.raises(DataError, match="has no shards of split 'tarin', such as 'tarin-000000.tar'; name a pattern"):
        load(folder, splits=names)
    names["train"] = "train-{000000..000003}.tar"
    with pytest.raises(DataError, match="^shard '.*/train-000002.tar' does not exist; check the pattern 'train-{"):
        load(folder, splits=names)


def test_keys_are_those_of_this_source_alone(tmp_path):
    values = {"source": "imagefolder", "path": ".", "splits": {key: key for key in SPLITS}, "label_key": "y"}
    with pytest.raises(RecipeError, match="^unknown key 'data.label_key'"):
        parse_data(values, tmp_path)
    source = parse_data({**values, "source": "webdataset"}, tmp_path)
    assert isinstance(source, DataSource) and json.loads(source.model_dump_json())["label_key"] == "y"
