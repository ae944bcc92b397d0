"""What was noticed in images is said once, in the log, in metrics.json, in the report and on the model card."""

import html
import shutil

import numpy as np
import pytest
from PIL import Image
from transformers import AutoImageProcessor

from dynamic_exit.analysis.evaluate import evaluate_folder
from dynamic_exit.data.loading import load_splits
from dynamic_exit.modeling.auto import AutoDynamicExitModel
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import parse_recipe, recipe_text
from dynamic_exit.report.metrics import Metrics

SIZES = {"train": 12, "calibration": 10, "test": 10}
MODEL = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3),
    )
"""


def draw(split, number, label, size=(12, 10)):
    random = np.random.default_rng([list(SIZES).index(split), number, label])
    return Image.fromarray(random.integers(80 * label, 80 * label + 90, size).astype(np.uint8))


@pytest.fixture(scope="module")
def noticed(tmp_path_factory):
    """The folder of a run on images in which there is something to notice, with its result."""
    folder = tmp_path_factory.mktemp("noticed")
    for split, count in SIZES.items():
        for label, kind in enumerate(("ant", "bee", "cow")):
            place = folder / "data" / split / kind
            place.mkdir(parents=True)
            for number in range(count if (split, kind) != ("test", "cow") else 0):
                draw(split, number, label).save(place / f"{number}.png")
    train = folder / "data" / "train"
    (train / "ant" / ".DS_Store").write_bytes(b"x")
    (train / "ant" / "Thumbs.db").write_bytes(b"x")
    (train / "@eaDir").mkdir()
    (train / "bee" / "broken.png").write_bytes(b"")
    tags = Image.Exif()
    tags[0x0112] = 6
    draw("train", 50, 0).save(train / "ant" / "lying.png", exif=tags)
    Image.fromarray(np.full((12, 10), 257 * 99, np.uint16)).save(train / "bee" / "deep.png")
    draw("train", 51, 2, (40, 30)).save(train / "cow" / "large.png")
    (folder / "m.py").write_text(MODEL)
    recipe = parse_recipe(
        {
            "model": {"source": "python", "name": "m.py:make", "preprocessing": {"size": [8, 8], "scale": 1 / 255}},
            "data": {
                "source": "imagefolder",
                "path": "data",
                "splits": {key: key for key in SIZES},
                "max_bad": 1,
                "duplicates": "drop",
            },
            "dynamic_exit": {"early_exit": {"training": {"epochs": 1}}, "cache": {"enabled": False}},
            "export": {"directory": "out"},
        },
        base=folder,
    )
    return folder, recipe, run(recipe)


NOTES = (
    "no classes are the folders @eaDir, which begin with . or @",
    "left out of the class folders: 2 entries that are no image files, such as '{}/train/ant/Thumbs.db'",
    "images are read in grayscale, as the model takes one channel",
    "images have 2 sizes, such as (12, 10) and (40, 30): resized to (8, 8)",
    "1 of 90 images were left out: image '{}/train/bee/broken.png' cannot be read: cannot identify image file "
    "'{}/train/bee/broken.png'",
    "1 of 90 images were turned upright, as their EXIF data tell",
    "1 of 90 images have 16 bits and were scaled to 8; transformers' pipelines clip such files at 255, so pass them "
    "images of 8 bits",
    "'test' holds no images of cow",
)


@pytest.mark.parametrize("note", NOTES)
def test_it_is_said_once_in_every_place(noticed, note):
    folder, _, result = noticed
    note = note.replace("{}", str(folder / "data"))
    assert result.metrics.notes.count(note) == 1
    out = folder / "out"
    assert Metrics.read(out / "metrics.json").notes.count(note) == 1
    for name in ("run.log", "report.html", "README.md"):
        assert html.unescape((out / name).read_text()).count(note) == 1, name


def test_the_folder_serves_images_as_they_were_read(noticed):
    folder, recipe, result = noticed
    (folder / "recipe.yaml").write_text(recipe_text(recipe, folder))
    rows = evaluate_folder(folder / "out", folder / "recipe.yaml", None, 8)
    measured = {row["name"]: row["accuracy"] for row in rows}
    model, processor = (each.from_pretrained(folder / "out") for each in (AutoDynamicExitModel, AutoImageProcessor))
    default = result.points.by_name(recipe.dynamic_exit.tuning.default_goal).name
    correct = []
    for label, kind in enumerate(("ant", "bee")):
        for file in sorted((folder / "data" / "test" / kind).iterdir()):
            pixels = processor(images=Image.open(file), return_tensors="np")["pixel_values"]
            correct.append(int(model(pixels).logits.argmax()) == label)
    assert np.mean(correct) == pytest.approx(measured[default])


def test_a_copy_without_anything_odd_says_nothing(noticed, tmp_path):
    folder, recipe, _ = noticed
    shutil.copytree(folder / "data" / "calibration", tmp_path / "data" / "calibration")
    notes = []
    names = dict(zip(SIZES, ("calibration[:30%]", "calibration[30%:60%]", "calibration[60%:]"), strict=True))
    values = {"source": "imagefolder", "path": str(tmp_path / "data"), "splits": names}
    load_splits(type(recipe.data).model_validate(values), 0, note=notes.append)
    assert notes == []
