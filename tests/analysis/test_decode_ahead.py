"""Pictures are decoded by another process while this one imports torch: in a fresh process, as this one has torch."""

import json
import os
import subprocess
import sys

import pytest

from dynamic_exit.analysis import decode_ahead
from dynamic_exit.recipe.recipe import Recipe

PROGRAM = """
import json, logging, os, sys
from pathlib import Path

import numpy as np
from PIL import Image

from dynamic_exit.analysis import decode_ahead
from dynamic_exit.core import mapped_arrays
from dynamic_exit.data.imagefolder_source import ImageFolderReader
from dynamic_exit.images import ImageFormat, ImageReading
from dynamic_exit.recipe.recipe import Recipe
from dynamic_exit.sources.class_names import ClassNames

decode_ahead.MIN_FILES, mapped_arrays.MAX_BYTES_IN_MEMORY = 10, 0
os.cpu_count = lambda: 2
folder, lines = Path.cwd(), []
logging.basicConfig(level=logging.INFO)
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("dynamic_exit").addHandler(handler)


def recipe(path, classes=("b", "a")):
    return Recipe.model_validate({
        "model": {"source": "timm", "name": "resnet18"},
        "data": {"source": "imagefolder", "path": path, "classes": classes,
                 "splits": {"train": "[:50%]", "calibration": "[50%:75%]", "test": "[75%:]"}},
        "dynamic_exit": {"early_exit": {}, "cache": {"directory": "cache"}},
        "export": {"directory": "out"},
    })


def arrays():
    return sorted(str(each) for each in Path("cache").glob("*/*") if each.suffix == ".npy")


def children():
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None


found = {}
with decode_ahead.decoding_ahead(recipe("same")) as wait:
    wait()
    wait()
found["arrays"], found["children"] = len(arrays()), children()
reading = ImageReading(lambda size: ImageFormat(), recipe("same").dynamic_exit.cache.open())
reader = ImageFolderReader(folder / "same", [""], ClassNames(("b", "a")), print, reading)
pixels, labels = reader("")
files = [each for kind in "ba" for each in sorted((folder / "same" / kind).iterdir())]
found["same"] = bool((pixels == np.stack([np.asarray(Image.open(each)).transpose(2, 0, 1) for each in files])).all())
found["labels"], found["lines"] = labels.tolist(), lines

for path in ("sizes", "broken"):
    with decode_ahead.decoding_ahead(recipe(path)) as wait:
        wait()
found["arrays at last"] = len(arrays())
try:
    with decode_ahead.decoding_ahead(recipe("other")):
        raise ValueError
except ValueError:
    found["given up"] = children()
decode_ahead.os.fork = None  # none of the following forks
for each in (recipe("same"), recipe("same", classes=None), recipe("few")):
    with decode_ahead.decoding_ahead(each) as wait:
        wait()
found["torch"] = "torch" in sys.modules
print(json.dumps(found))
"""


def draw(folder, count, size=lambda number: (6, 4)):
    from PIL import Image

    for number in range(count):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size(number), (number, 2 * number, 7)).save(place / f"{number:02}.png")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems decode when it is time")
def test_pictures_are_in_the_cache_once_they_are_waited_for(tmp_path):
    draw(tmp_path / "same", 20)
    draw(tmp_path / "other", 20)
    draw(tmp_path / "sizes", 20, lambda number: (6, 4 + number % 3))
    draw(tmp_path / "broken", 20)
    (tmp_path / "broken" / "a" / "00.png").write_bytes(b"nothing")
    draw(tmp_path / "few", 4)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout) == {
        "arrays": 1,
        "children": None,
        "same": True,
        "labels": [0] * 10 + [1] * 10,
        "lines": [],
        "given up": None,
        "arrays at last": 1,
        "torch": False,
    }
    assert "20 are decoded once, into the cache" in done.stderr


def test_nothing_is_forked_once_torch_is_there(monkeypatch, tmp_path):
    import torch  # noqa: F401

    monkeypatch.setattr(decode_ahead, "MIN_FILES", 1)
    monkeypatch.delattr(os, "fork")
    draw(tmp_path, 4)
    recipe = Recipe.model_validate(
        {
            "model": {"source": "timm", "name": "resnet18"},
            "data": {
                "source": "imagefolder",
                "path": str(tmp_path),
                "classes": ["a", "b"],
                "splits": {"train": "x", "calibration": "y", "test": "z"},
            },
            "dynamic_exit": {"early_exit": {}},
            "export": {"directory": "out"},
        }
    )
    with decode_ahead.decoding_ahead(recipe) as wait:
        wait()
