"""What a picture's file holds is what the model sees: upright, in its depth and range, in the recipe as when served."""

import io
import json
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, ViTImageProcessor
from transformers.image_utils import load_image

from dynamic_exit.analysis.samples import load_samples
from dynamic_exit.artifact.image_processor import write_image_processor
from dynamic_exit.artifact.model_config import DynamicExitModelConfig
from dynamic_exit.data.loading import load_splits
from dynamic_exit.errors import DataError
from dynamic_exit.images import ImageFormat, read_image
from dynamic_exit.passes import ModelSource
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.recipe import DataSource, parse_recipe
from dynamic_exit.sources.models.loading import load_model
from dynamic_exit.sources.models.preprocessing import make_preprocessing

SPLITS = ("train", "calibration", "test")
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
# what each EXIF orientation asks for, by hand: rows and columns of the file to rows and columns of the picture
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def pixels(file):
    """Pixels (H, W, 3) as a recipe reads them."""
    return np.asarray(read_image(file).image.convert("RGB"))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("ending", ["png", "webp", "tiff", "jpg"])
def test_pictures_are_turned_as_transformers_turns_them(tmp_path, ending, orientation):
    file = tmp_path / f"a.{ending}"
    how = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(ending, {})
    Image.fromarray(PIXELS).save(file, exif=exif(orientation), **how)
    wanted = TURNS[orientation](PIXELS).astype(int)
    assert np.abs(pixels(file) - wanted).max() <= (12 if ending == "jpg" else 0)
    assert np.array_equal(pixels(file), np.asarray(load_image(str(file))))
    assert read_image(file).rotated is (orientation > 1)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(colour, values):
    """A PNG file of one row of 16 bits a channel; colour 0 is grey, 2 RGB, 4 grey with alpha, 6 RGB with alpha."""
    values = np.asarray(values, ">u2")
    width = len(values)
    rows = zlib.compress(b"\0" + values.tobytes())
    head = struct.pack(">IIBBBBB", width, 1, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(values, bits, kind=1, order="<"):
    """A TIFF file of one row of grey; kind 1 is whole, 2 signed, 3 floating; 12 bits are packed."""
    if bits == 12:
        first, second = values
        content = bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    else:
        content = np.asarray(values, f"{order}{'_uif'[kind]}{bits // 8}").tobytes()
    tags = [(256, len(values)), (257, 1), (258, bits), (259, 1), (262, 1), (273, 134), (277, 1), (278, 1),
            (279, len(content)), (339, kind)]  # fmt: skip
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    file = mark + struct.pack(f"{order}I", 8) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return file.ljust(134, b"\0") + content


def saved(image, kind, **how):
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


WIDE = [0, 128, 129, 257, 32768, 65535]
NARROW = [0, 0, 1, 1, 128, 255]  # over 257, to the nearest
TWO = Image.fromarray(np.array([[10, 200]], np.uint8))
PALETTE = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
PALETTE.putpalette([10, 20, 30, 40, 50, 60])

DEPTHS = {
    # ending, content, the pixels: grey, or (W, 3)
    "16-bit grey PNG": ("png", png(0, WIDE), NARROW),
    "16-bit grey TIFF": ("tiff", tiff(WIDE, 16), NARROW),
    "16-bit grey TIFF, big endian": ("tiff", tiff(WIDE, 16, order=">"), NARROW),
    "16-bit PGM": ("pgm", saved(Image.fromarray(np.array([WIDE], np.uint16)), "PPM"), NARROW),
    "12-bit grey PGM": ("pgm", b"P5 3 1 4095 " + struct.pack(">3H", 0, 2048, 4095), [0, 128, 255]),
    "12-bit grey TIFF": ("tiff", tiff([4095, 2048], 12), [255, 128]),
    "16-bit RGB PNG": ("png", png(2, [[0, 300, 65535]]), [[0, 1, 255]]),
    "16-bit grey PNG with alpha": ("png", png(4, [[65535, 0], [512, 65535]]), [255, 2]),
    "1-bit PNG": ("png", saved(TWO.convert("1", dither=0), "PNG"), [0, 255]),
    "palette PNG": ("png", saved(PALETTE, "PNG"), [[10, 20, 30], [40, 50, 60]]),
    "palette PNG with a hole": ("png", saved(PALETTE, "PNG", transparency=0), [[10, 20, 30], [40, 50, 60]]),
    "grey PNG with alpha": ("png", saved(Image.merge("LA", [TWO, TWO]), "PNG"), [10, 200]),
    "CMYK TIFF": ("tiff", saved(Image.merge("CMYK", [TWO] * 4), "TIFF"), [235, 12]),
    "8-bit grey PNG": ("png", saved(TWO, "PNG"), [10, 200]),
}  # fmt: skip


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    """What a run on a folder of pictures writes."""
    folder = tmp_path_factory.mktemp("processor")
    assert write_image_processor(folder, np.zeros((2, 3, 4, 6), np.uint8), None, ImageFormat())
    return AutoImageProcessor.from_pretrained(folder)


@pytest.mark.parametrize("ending, content, values", DEPTHS.values(), ids=DEPTHS)
def test_pixels_of_every_depth_are_scaled_by_its_range(tmp_path, processor, ending, content, values):
    file = tmp_path / f"a.{ending}"
    file.write_bytes(content)
    values = np.asarray(values)
    wanted = np.stack([values] * 3, axis=1) if values.ndim == 1 else values
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as Pillow's on transparent palettes
        assert pixels(file).tolist() == [wanted.tolist()]
        with Image.open(file) as image:
            served = processor(images=image, do_resize=False, return_tensors="np")["pixel_values"]
    assert np.array_equal(served[0], wanted.T[:, None])
    if not read_image(file).rescaled:
        # the way of transformers' pipelines
        served = processor(images=load_image(str(file)), do_resize=False, return_tensors="np")["pixel_values"]
        assert np.array_equal(served[0], wanted.T[:, None])


REFUSED = {
    "32-bit whole TIFF": (tiff([0, 70000], 32, 2), "whole numbers"),
    "32-bit floating TIFF": (tiff([0, 1], 32, 3), "floating point numbers"),
    "16-bit signed TIFF": (tiff([-5, 70], 16, 2), "whole numbers"),
}


@pytest.mark.parametrize("content, kind", REFUSED.values(), ids=REFUSED)
def test_depths_without_a_known_range_are_refused_by_name(tmp_path, processor, content, kind):
    file = tmp_path / "a.tiff"
    file.write_bytes(content)
    reason = f"its pixels are {kind} of 32 bits, whose range is not known; save it with 8 or 16 bits"
    with pytest.raises(DataError) as refused:
        read_image(file)
    assert str(refused.value) == f"image '{file}' cannot be read: {reason}"
    with pytest.raises(DataError, match=f"^{reason}$"):
        processor(images=Image.open(file), return_tensors="np")


def test_deep_pictures_are_turned_too(tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 65535, 257]], np.uint16)).save(file, exif=exif(6))
    picture = read_image(file)
    assert (picture.rotated, picture.rescaled) == (True, True)
    assert np.asarray(picture.image).tolist() == [[0], [255], [1]]


def test_what_is_no_picture_is_refused_by_name(tmp_path):
    file = tmp_path / "a.png"
    for content in (b"", b"text", png(0, WIDE)[:45]):
        file.write_bytes(content)
        with pytest.raises(DataError, match=f"^image '{file}' cannot be read: "):
            read_image(file)


def data(folder, **more):
    values = {"source": "imagefolder", "path": str(folder), "splits": {key: key for key in SPLITS}, **more}
    return DataSource.model_validate(values, context={"base": folder})


@pytest.fixture
def folder(tmp_path):
    """Two classes; of the pictures of `train` one lies on its side, and in `test` one has 16 bits."""
    for index, (split, kind) in enumerate((split, kind) for split in SPLITS for kind in ("ant", "bee")):
        (tmp_path / split / kind).mkdir(parents=True)
        values = np.full((4, 4, 3), 20 * index, np.uint8)
        values[0] = 255
        turn = {"exif": exif(3)} if (split, kind) == ("train", "bee") else {}
        Image.fromarray(values).save(tmp_path / split / kind / "a.png", **turn)
    deep = np.full((4, 4), 40 * 257, np.uint16)
    Image.fromarray(deep).save(tmp_path / "test" / "bee" / "a.png")
    return tmp_path


def test_what_was_turned_and_scaled_is_said_once_with_its_count(folder):
    said = []
    splits = load_splits(data(folder), 0, note=said.append)
    assert said == [
        "1 of 6 images were turned upright, as their EXIF data tell",
        "1 of 6 images have 16 bits and were scaled to 8; transformers' pipelines clip such files at 255, so pass "
        "them images of 8 bits",
    ]
    bee = splits["train"].inputs[""][1]
    assert (bee[:, 3] == 255).all() and (bee[:, :3] == 20).all()
    assert (splits["test"].inputs[""][1] == 40).all()


def test_evaluation_reads_the_same_pixels(folder):
    recipe = {
        "model": {"source": "python", "name": "m.py:make"},
        "data": {"source": "imagefolder", "path": ".", "splits": {key: key for key in SPLITS}},
        "dynamic_exit": {"early_exit": {}},
        "export": {"directory": "out"},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    DynamicExitModelConfig(id2label={0: "ant", 1: "bee"}).save_pretrained(folder / "served")
    found, own = load_samples(folder / "recipe.yaml", folder / "served"), load_splits(data(folder), 0)["test"]
    assert np.array_equal(found.inputs[""], own.inputs[""])
    assert found.labels.tolist() == own.labels.tolist()


# the range that statistics of a model are for

STATISTICS = {
    # what the image processor says, mean, std, and the scale of bytes and of floats
    "timm": ({}, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 1 / 255, 1.0),
    "transformers": ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5] * 3}, [0.1, 0.2, 0.3], [0.5], 1 / 255, 1.0),
    "transformers without statistics": ({"do_normalize": False}, [0.0], [1.0], 1 / 255, 1.0),
    "transformers on bytes": (
        {"do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3}, [120.0], [60.0], 1.0, 1.0
    ),
    "transformers with a factor": (
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, [1.0], [1.0], 1 / 127.5, 2.0
    ),
}  # fmt: skip


def made_for(folder, kind, own):
    if kind == "timm":
        source = ModelSource(source="timm", name="test_vit", preprocessing={"from_model": True})
        return source, type("Model", (torch.nn.Module,), {"pretrained_cfg": {
            "input_size": (3, 6, 6), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}})()  # fmt: skip
    ViTImageProcessor(**{"size": {"height": 6, "width": 6}, **own}).save_pretrained(folder)
    return ModelSource(source="transformers", name=str(folder), preprocessing={"from_model": True}), torch.nn.Identity()


@pytest.mark.parametrize("own, mean, std, of_bytes, of_floats", STATISTICS.values(), ids=STATISTICS)
@pytest.mark.parametrize("as_bytes", [True, False], ids=["bytes", "floats"])
def test_bytes_reach_the_range_of_a_models_statistics(tmp_path, request, own, mean, std, of_bytes, of_floats, as_bytes):
    kind = request.node.callspec.id.split("-")[-1].split()[0]
    source, model = made_for(tmp_path, kind, own)
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 6, 6)).astype(np.uint8)
    given = torch.from_numpy(images if as_bytes else images.astype(np.float32))
    found = make_preprocessing(source, model, from_bytes=as_bytes)(given)
    scale = of_bytes if as_bytes else of_floats
    expected = (images * np.float64(scale) - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)
    if as_bytes and kind == "transformers":
        theirs = ViTImageProcessor.from_pretrained(tmp_path)(images=images, return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(found.numpy(), theirs, rtol=1e-4, atol=1e-4)


def test_a_scale_that_is_written_counts():
    source, model = made_for(None, "timm", {})
    written = source.model_copy(update={"preprocessing": source.preprocessing.model_copy(update={"scale": 0.5})})
    assert make_preprocessing(written, model, from_bytes=True).scale == 0.5
    assert ModelSource(source="timm", name="a").preprocessing.scale is None


@pytest.mark.parametrize(
    "dtype, factor, scale, note",
    [
        (np.uint8, 1, 1 / 255, None),
        (np.float32, 1 / 255, 1.0, None),
        (np.float32, 1, 1.0, "pixels lie in 0 to 255 and the model expects 0 to 1; set `scale: 0.00392157` in its "
                             "`preprocessing`"),
        (np.int64, 1, 1.0, "pixels lie in 0 to 255 and the model expects 0 to 1; set `scale: 0.00392157` in its "
                           "`preprocessing`"),
    ],
    ids=["bytes", "over 255", "floats of 0..255", "whole numbers of 64 bits"],
)  # fmt: skip
def test_a_recipe_with_from_model(tmp_path, dtype, factor, scale, note):
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32))
    images[:, 0, 0, :2] = 0, 255
    for start, split in enumerate(SPLITS):
        np.savez(tmp_path / f"{split}.npz", inputs=(images[start::3] * factor).astype(dtype), labels=np.arange(10) % 3)
    recipe = parse_recipe(
        {
            "model": {
                "source": "timm",
                "name": "test_resnet",
                "arguments": {"num_classes": 3},
                "preprocessing": {"from_model": True, "size": [32, 32]},
            },
            "data": {"source": "npz", "path": ".", "splits": {key: key for key in SPLITS}},
            "dynamic_exit": {"early_exit": {}},
            "export": {"directory": "out"},
        },
        tmp_path,
    )
    found = load_run_inputs(recipe)
    assert found.backbone.preprocessing.scale == pytest.approx(scale)
    assert [each for each in found.notes if "pixels" in each] == ([note] if note else [])


@pytest.mark.parametrize("steps, scale", [({"scale": 0.25}, 0.25), ({}, None)], ids=["asked", "not asked"])
def test_preprocessing_counts_for_a_model_in_memory(steps, scale):
    source = ModelSource(source="python", name="m.py:make", preprocessing=steps)
    found = load_model(source, None, torch.nn.Flatten()).preprocessing
    assert (None if found is None else found.scale) == scale
