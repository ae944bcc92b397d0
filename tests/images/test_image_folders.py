"""Folders of images as users have them: odd files, several sizes, gray or color, and more than memory holds."""

import io
import json
import os
import shutil
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import AutoImageProcessor

from dynamic_exit.artifact.image_processor import read_resizing, write_image_processor
from dynamic_exit.core import mapped_arrays
from dynamic_exit.core.cache import Cache
from dynamic_exit.data.loading import load_splits
from dynamic_exit.errors import DataError
from dynamic_exit.images import ImageFormat, ImageReading, Resizing, decode_image, decoder, to_pixels
from dynamic_exit.passes import ModelSource
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.recipe import DataSource, parse_recipe
from dynamic_exit.sources.models.image_format import find_image_format
from dynamic_exit.sources.models.loading import load_model

SPLITS = ("train", "calibration", "test")
MODEL = """
from torch import nn
def make(channels=3):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""


def source(folder, **more):
    values = {"source": "imagefolder", "path": str(folder), "splits": {key: key for key in SPLITS}, **more}
    return DataSource.model_validate(values, context={"base": folder})


def draw(size=(6, 8), seed=0, mode="RGB"):
    """An image of random pixels; size is (height, width)."""
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.fixture
def folder(tmp_path):
    """Three splits of two classes with two images each, all different; the model's code beside them."""
    for index, (split, kind, name) in enumerate((s, k, n) for s in SPLITS for k in ("ant", "bee") for n in "ab"):
        place = tmp_path / split / kind
        place.mkdir(parents=True, exist_ok=True)
        draw(seed=index).save(place / f"{name}.png")
    (tmp_path / "m.py").write_text(MODEL)
    return tmp_path


def load(folder, notes=None, reading=None, **more):
    return load_splits(source(folder, **more), 0, note=(notes if notes is not None else []).append, images=reading)


def pixels(splits):
    return {key: split.inputs[""] for key, split in splits.items()}


def same(ours, theirs):
    return all(np.array_equal(ours[key], theirs[key]) for key in SPLITS)


# odd files


def png_with_text(length):
    """A PNG file with compressed text of this length, which Pillow refuses beyond a limit."""
    file = io.BytesIO()
    draw().save(file, "PNG")
    content, text = file.getvalue(), b"zTXt" + b"a\0\0" + zlib.compress(bytes(length))
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    return content[:33] + chunk + content[33:]


def whole_png():
    file = io.BytesIO()
    draw().save(file, "PNG")
    return file.getvalue()


BROKEN = {
    "zero bytes": (b"", "cannot identify image file"),
    "text": (b"no image", "cannot identify image file"),
    "cut short": (whole_png()[:-40], "truncated"),
    "cut within its head": (whole_png()[:20], "Truncated File Read"),
    "huge text in it": (png_with_text(2**21), "[Tt]oo large"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "pointer of Git LFS"),
    "floats of 32 bits": (None, "its pixels are floating point numbers of 32 bits"),
}


@pytest.mark.parametrize("content, reason", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("large", [False, True], ids=["in memory", "in files"])
def test_a_broken_image_is_named_or_left_out(folder, monkeypatch, content, reason, large):
    monkeypatch.setattr(mapped_arrays, "MAX_BYTES_IN_MEMORY", 0 if large else 2**26)
    complete, broken = pixels(load(folder)), folder / "train" / "bee" / "aa.png"
    if content is None:
        Image.fromarray(np.zeros((6, 8), np.float32)).save(broken, "TIFF")
    else:
        broken.write_bytes(content)
    with pytest.raises(DataError, match=f"^image '{broken}' cannot be read: .*({reason})"):
        load(folder)
    for _ in range(2):  # the second time the cache knows
        notes = []
        splits = load(folder, notes, ImageReading(cache=Cache(folder / "cache")), max_bad=1)
        assert same(pixels(splits), complete)
        assert splits["train"].labels.tolist() == [0, 0, 1, 1]
        assert len(notes) == 1 and notes[0].startswith(f"1 of 13 images were left out: image '{broken}' cannot be read")


def test_more_broken_images_than_allowed_are_refused(folder):
    for name in ("c", "d"):
        (folder / "test" / "ant" / f"{name}.png").write_bytes(b"")
    last = folder / "test" / "ant" / "d.png"
    with pytest.raises(DataError, match=f"^image '{last}' cannot .*; it is one of more than `max_bad: 1`$"):
        load(folder, max_bad=1)
    for file in folder.glob("test/*/*.png"):
        file.write_bytes(whole_png()[:-40])
    with pytest.raises(DataError, match="^none of 6 images can be read, such as '.*/test/ant/a.png'; check the files$"):
        load(folder, max_bad=100)


@pytest.mark.parametrize("large", [False, True], ids=["in memory", "in files"])
def test_many_images_keep_their_order_and_labels_where_some_are_left_out(tmp_path, monkeypatch, large):
    monkeypatch.setattr(mapped_arrays, "MAX_BYTES_IN_MEMORY", 0 if large else 2**26)
    for count, split in enumerate(SPLITS):
        for kind in ("ant", "bee"):
            (tmp_path / split / kind).mkdir(parents=True)
        for number in range(70):
            gray = Image.new("L", (8, 6), 70 * count + number)
            gray.save(tmp_path / split / ("ant" if number < 30 else "bee") / f"{number:02}.png")
    bad = {65, *range(38, 57)}  # so many in a row that nothing is left of what a thread decodes at a time
    for number in bad:
        (tmp_path / "calibration" / "bee" / f"{number}.png").write_bytes(whole_png()[:-40])
    splits = load(tmp_path, max_bad=len(bad))
    for count, split in enumerate(SPLITS):
        numbers = [number for number in range(70) if split != "calibration" or number not in bad]
        assert splits[split].inputs[""][:, 1, 3, 4].tolist() == [70 * count + number for number in numbers]
        assert splits[split].labels.tolist() == [int(number >= 30) for number in numbers]


def test_a_scan_beyond_pillows_limit_is_a_broken_image(folder, monkeypatch):
    draw((40, 40)).save(folder / "train" / "ant" / "scan.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    with pytest.raises(DataError, match=r"scan.png' cannot be read: Image size \(1600 pixels\) exceeds limit"):
        load(folder)
    assert len(load(folder, max_bad=1)["train"]) == 4


def test_what_is_no_image_file_is_left_out_and_said_once(folder):
    complete = pixels(load(folder))
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.png", "notes.txt"):
        (folder / "train" / "ant" / name).write_bytes(b"something")
    shutil.copytree(folder / "train" / "bee", folder / "test" / "bee" / "nested")
    os.mkfifo(folder / "train" / "bee" / "pipe.png")
    (folder / "README.md").write_text("a file beside the splits")
    (folder / "train" / "list.csv").write_text("a file beside the classes")
    notes = []
    assert same(pixels(load(folder, notes)), complete)
    first = folder / "train" / "ant" / "Thumbs.db"
    assert notes == [f"left out of the class folders: 7 entries that are no image files, such as '{first}'"]


def test_a_class_of_foreign_files_alone_is_empty(folder):
    (folder / "train" / "cat").mkdir()
    (folder / "train" / "cat" / ".DS_Store").write_bytes(b"something")
    notes = []
    assert load(folder, notes)["train"].class_names == ("ant", "bee")
    assert notes[0] == "no classes are the folders cat, which are empty"


@pytest.mark.parametrize("name", ["a.PNG", "a.JPeG", "a", "a.webp"])
def test_image_files_may_be_called_in_many_ways(folder, name):
    kind = "WEBP" if name.endswith("webp") else "JPEG" if "J" in name else "PNG"
    draw(seed=99).save(folder / "train" / "ant" / f"{name}", kind)
    assert len(load(folder)["train"]) == 5 - (name == "a.png")


# sizes


def test_images_on_their_sides_are_of_one_size_once_upright(folder):
    tags = Image.Exif()
    tags[0x0112] = 6
    draw((8, 6)).save(folder / "train" / "ant" / "a.png", exif=tags)
    assert load(folder)["train"].inputs[""].shape == (4, 3, 6, 8)
    draw((8, 6)).save(folder / "train" / "ant" / "a.png")
    with pytest.raises(DataError, match=r"is \(6, 8\), others \(8, 6\); resize beforehand, or set `size`"):
        load(folder)


def test_splits_of_different_sizes_are_told_by_file(folder):
    for file in folder.glob("test/*/*.png"):
        draw((7, 7)).save(file)
    with pytest.raises(DataError, match=r"image '.*/test/ant/a.png' is \(7, 7\), others \(6, 8\); resize beforehand"):
        load(folder)


def recipe(folder, model=None, **more):
    return parse_recipe(
        {
            "model": {"source": "python", "name": "m.py:make", **(model or {})},
            "data": {"source": "imagefolder", "path": ".", "splits": {key: key for key in SPLITS}},
            "dynamic_exit": {"early_exit": {}, "cache": {"enabled": False}},
            "export": {"directory": "out"},
            **more,
        },
        base=folder,
    )


RESIZED = {
    # what `preprocessing` says, and how each image is resized
    "bilinear": ({"size": [4, 5]}, Resizing((4, 5), (4, 5), "bilinear")),
    "nearest": ({"size": [4, 5], "interpolation": "nearest"}, Resizing((4, 5), (4, 5), "nearest")),
    "bicubic": ({"size": [20, 20], "interpolation": "bicubic"}, Resizing((20, 20), (20, 20), "bicubic")),
}


@pytest.mark.parametrize("stanza, resizing", RESIZED.values(), ids=RESIZED)
def test_images_of_several_sizes_are_resized_and_served_so(folder, stanza, resizing):
    odd = draw((60, 90), seed=50)
    odd.save(folder / "train" / "ant" / "a.png")
    inputs = load_run_inputs(recipe(folder, {"preprocessing": stanza}))
    (found,) = inputs.splits["train"].inputs.values()
    height, width = resizing.size
    wanted = np.asarray(odd.resize((width, height), image_filter(resizing))).transpose(2, 0, 1)
    assert np.array_equal(found[0], wanted)
    assert inputs.notes[0] == f"images have 2 sizes, such as (60, 90) and (6, 8): resized to {resizing.size}"
    form = inputs.splits["calibration"].image_format
    assert form == ImageFormat(3, resizing)
    write_image_processor(folder / "served", found, stanza.get("interpolation"), form)
    processor = AutoImageProcessor.from_pretrained(folder / "served")
    assert np.array_equal(processor(images=odd, return_tensors="np")["pixel_values"][0], wanted)
    assert read_resizing(folder / "served") == resizing


def image_filter(resizing):
    return getattr(Image.Resampling, resizing.interpolation.upper())


def test_shrinking_averages_over_pixels():
    lines = Image.fromarray(np.tile(np.array([[0], [255]], np.uint8), (32, 64)))
    for interpolation in ("bilinear", "bicubic"):
        small = np.asarray(Resizing((8, 8), (8, 8), interpolation)(lines))
        assert np.abs(small.astype(int) - 128).max() < 12, "no line pattern survives"


CUT = {
    # image size, resizing, size before the cut
    "wide": ((30, 60), Resizing((8, 8), 10), (10, 20)),
    "high": ((61, 30), Resizing((8, 8), 10), (20, 10)),
    "both sides": ((31, 60), Resizing((8, 8), (12, 10)), (12, 10)),
    "nothing cut": ((31, 60), Resizing((8, 9), (8, 9)), (8, 9)),
}


@pytest.mark.parametrize("size, resizing, between", CUT.values(), ids=CUT)
def test_the_middle_is_cut_out(size, resizing, between):
    image = draw(size)
    whole = np.asarray(image.resize(between[::-1], Image.Resampling.BILINEAR))
    top, left = ((outer - inner) // 2 for outer, inner in zip(between, resizing.size, strict=True))
    height, width = resizing.size
    assert np.array_equal(np.asarray(resizing(image)), whole[top : top + height, left : left + width])
    assert Resizing.from_json(json.loads(json.dumps(resizing.to_json()))) == resizing


PROCESSORS = {
    # preprocessor_config.json, size, what is resized to
    "ViT": ({"size": {"height": 32, "width": 32}, "resample": 2}, (32, 32), (32, 32)),
    "shorter side, cut": ({"size": {"shortest_edge": 40}, "crop_size": 32, "do_center_crop": True}, (32, 32), 40),
    "both sides, cut": (
        {"size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True},
        (32, 32),
        (40, 40),
    ),
    "ConvNeXt, small": ({"size": {"shortest_edge": 28}, "crop_pct": 0.875}, (28, 28), 32),
    "ConvNeXt, large": ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384), (384, 384)),
    "a number": ({"size": 32}, (32, 32), (32, 32)),
}


@pytest.mark.parametrize("config, size, resized", PROCESSORS.values(), ids=PROCESSORS)
def test_a_models_own_processor_says_how(tmp_path, config, size, resized):
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", **config})
    )

    class Any(nn.Module):
        def forward(self, x):
            return x.float().mean((1, 2, 3))[:, None].repeat(1, 2)

    stanza = ModelSource.model_validate({"source": "transformers", "name": str(tmp_path)}, context={"base": tmp_path})
    form = find_image_format(stanza, load_model(stanza, model=Any()), None)
    assert form == ImageFormat(3, Resizing(size, resized, form.resizing.interpolation))
    assert find_image_format(stanza, load_model(stanza, model=Any()), (5, 5)) == ImageFormat()


def test_timm_says_how(tmp_path):
    stanza = ModelSource.model_validate({"source": "timm", "name": "test_resnet"}, context={"base": tmp_path})
    model = load_model(stanza, seed=0)
    config = model.model.pretrained_cfg
    side = config["input_size"][1]
    wanted = Resizing((side, side), int(side / config["crop_pct"]), config["interpolation"])
    assert find_image_format(stanza, model, None) == ImageFormat(3, wanted)


# channels


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "RGBA", "LA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_follow_the_backbone(folder, mode, channels):
    for file in folder.glob("*/*/*.png"):
        Image.open(file).convert(mode).save(file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inputs = load_run_inputs(recipe(folder, {"arguments": {"channels": channels}}))
    (found,) = inputs.splits["train"].inputs.values()
    first = Image.open(folder / "train" / "ant" / "a.png").convert({1: "L", 3: "RGB"}[channels])
    assert np.array_equal(found[0], np.asarray(first).reshape(6, 8, channels).transpose(2, 0, 1))
    said = "images are read in grayscale, as the model takes one channel"
    assert (said in inputs.notes) is (channels == 1)


# more than memory holds


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(mapped_arrays, "MAX_BYTES_IN_MEMORY", 100)


@pytest.mark.usefixtures("large")
def test_many_images_are_decoded_once(folder, monkeypatch):
    cache, notes = Cache(folder / "cache"), []
    Image.fromarray(np.full((6, 8), 40 * 257, np.uint16)).save(folder / "test" / "ant" / "a.png")
    monkeypatch.setattr(mapped_arrays, "MAX_BYTES_IN_MEMORY", 2**20)
    small = pixels(load(folder))
    monkeypatch.setattr(mapped_arrays, "MAX_BYTES_IN_MEMORY", 100)
    reading = ImageReading(cache=cache)
    first = load(folder, notes, reading)
    assert same(pixels(first), small)
    assert not any(array.flags.owndata for array in pixels(first).values())
    monkeypatch.setattr(decoder, "read_image", None)
    again = []
    assert same(pixels(load(folder, again, reading)), small)
    assert again == notes and "1 of 12 images have 16 bits" in notes[0]
    assert same(
        pixels(load(folder, reading=reading, splits={k: f"{k}[:100%]" for k in SPLITS})),
        {key: array[np.random.default_rng(0).permutation(4)] for key, array in small.items()},
    )


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("change", ["another image", "one more", "the form"])
def test_what_changed_is_decoded_anew(folder, change):
    reading = ImageReading(cache=Cache(folder / "cache"))
    load(folder, reading=reading)
    if change == "another image":
        draw(seed=77).save(folder / "train" / "ant" / "a.png")
    elif change == "one more":
        draw(seed=77).save(folder / "train" / "ant" / "c.png")
    else:
        reading = ImageReading(lambda size: ImageFormat(1), reading.cache)
    found = load(folder, reading=reading)["train"].inputs[""]
    file = folder / "train" / "ant" / ("c.png" if change == "one more" else "a.png")
    wanted = to_pixels(decode_image(Image.open(file)), ImageFormat(1 if change == "the form" else 3))
    assert np.array_equal(found[2 if change == "one more" else 0], wanted)


@pytest.mark.usefixtures("large")
def test_copies_are_dropped_from_files_too(folder):
    shutil.copy(folder / "test" / "bee" / "a.png", folder / "train" / "ant" / "a.png")
    with pytest.raises(DataError, match="overlap in 1 samples"):
        load(folder)
    assert load(folder, duplicates="drop")["train"].labels.tolist() == [0, 1, 1]


@pytest.mark.usefixtures("large")
def test_torch_reads_files_without_a_warning(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = load(folder)["train"].tensors[""]
    assert tensor[torch.tensor([3, 0])].shape == (2, 3, 6, 8)
