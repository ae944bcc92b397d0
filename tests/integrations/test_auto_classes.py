"""transformers' auto classes and pipelines take a folder after `import dynamic_exit`, in either order of imports."""

import json

import fork_server
import numpy as np
import pytest
import words

from dynamic_exit import DynamicExitModelForImageClassification as Model
from dynamic_exit.artifact.image_processor import write_image_processor

HEAVY = ("onnxruntime", "optimum", "torchvision")
ORDERS = {
    "this package first": "import dynamic_exit\nimport transformers",
    "transformers first": "import transformers\ntransformers.AutoModel, transformers.pipeline\nimport dynamic_exit",
}
SCRIPT = """
import json, logging, sys
assert "transformers" not in sys.modules
{imports}
images, texts = sys.argv[1:]
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("transformers").addHandler(handler)
from PIL import Image
image = Image.new("L", (6, 6), 77)
found = {{
    "config": type(transformers.AutoConfig.from_pretrained(images)).__name__,
    "image_processor": type(transformers.AutoImageProcessor.from_pretrained(images)).__name__,
}}
served = transformers.AutoModelForImageClassification.from_pretrained(images, operating_point="frugal")
found["images"] = [type(served).__name__, served.operating_point.name]
found["texts"] = type(transformers.AutoModelForSequenceClassification.from_pretrained(texts)).__name__
pipeline = transformers.pipeline
found["image"] = pipeline("image-classification", model=images, device="cpu")(image)
found["text"] = pipeline("text-classification", model=texts, device="cpu")(["good", "bad bad"])
found["said"] = [each for each in said if "not supported" in each]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folders(ran, tmp_path_factory):
    """A model of images 0..255 with its processor, and one of text with its tokenizer."""
    place = tmp_path_factory.mktemp("auto")
    Model.from_pretrained(ran.folder).save_pretrained(place / "images")
    pixels = np.random.default_rng(0).integers(0, 256, size=(20, 1, 6, 6)).astype(np.float32)
    assert write_image_processor(place / "images", pixels, None)
    words.tokenizer().save_pretrained(words.write_folder(place / "texts"))
    return place / "images", place / "texts"


@pytest.mark.parametrize("order", ORDERS)
def test_folders_load_by_transformers_own_names(folders, order):
    script = SCRIPT.format(imports=ORDERS[order])
    done = fork_server.run(script, *folders, imports=fork_server.TORCH)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["config"] == "DynamicExitModelConfig"
    assert found["image_processor"] == "DynamicExitImageProcessor"
    assert found["images"] == ["DynamicExitModelForImageClassification", "frugal"]
    assert found["texts"] == "DynamicExitModelForSequenceClassification"
    assert found["said"] == [], "pipelines log an error for a class that they do not know"
    answer = Model.from_pretrained(folders[0])(np.full((1, 1, 6, 6), 77, np.float32))
    assert found["image"][0]["label"] == ["left", "middle", "right"][int(answer.logits.argmax())]
    assert found["image"][0]["score"] == pytest.approx(float(answer.confidence[0]), abs=1e-5)
    expected = [(label, pytest.approx(score, abs=1e-5)) for _, label, score in words.by_hand(["good", "bad bad"])]
    assert [(each["label"], each["score"]) for each in found["text"]] == expected


def test_auto_classes_bring_nothing_heavy_until_they_load():
    script = f"""
import sys
assert not {{"transformers", *{HEAVY}}} & sys.modules.keys()
import dynamic_exit
assert "transformers" not in sys.modules
from transformers import AutoConfig, AutoModelForImageClassification
print(*(name for name in {HEAVY} if name in sys.modules))
from dynamic_exit.modeling import DynamicExitModelConfig
assert DynamicExitModelConfig in AutoModelForImageClassification._model_mapping
"""
    done = fork_server.run(script, imports=fork_server.TORCH)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr[-2000:]
