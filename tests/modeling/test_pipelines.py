"""transformers' pipelines on images, with the image processor that a run writes."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from transformers import AutoImageProcessor, pipeline

from dynamic_exit import DynamicExitModelForImageClassification as Model
from dynamic_exit.artifact.image_processor import write_image_processor
from dynamic_exit.errors import ExportError

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, size=(20, 1, 6, 6)).astype(np.uint8)


@pytest.fixture(params=["pixels", "shares"])
def folder(request, ran, tmp_path):
    """The tiny model, as if its samples were pixels 0..255, or pixels over 255."""
    samples = PIXELS.astype(np.float32) / (255 if request.param == "shares" else 1)
    Model.from_pretrained(ran.folder).save_pretrained(tmp_path / request.param)
    assert write_image_processor(tmp_path / request.param, samples, None)
    return tmp_path / request.param


def test_an_image_gives_what_its_array_gives(folder, caplog, monkeypatch):
    samples = PIXELS.astype(np.float32) / (255 if folder.name == "shares" else 1)
    model = Model.from_pretrained(folder)
    answer = model(samples)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.ERROR):
        classify = pipeline("image-classification", model=model, image_processor=str(folder), device="cpu")
        found = classify([Image.fromarray(row[0]) for row in PIXELS], top_k=3)
    assert not caplog.records, "such as that the pipeline does not know the class"
    shares = torch.from_numpy(answer.logits).softmax(1)
    for each, row in zip(found, shares, strict=True):
        assert {one["label"]: one["score"] for one in each} == pytest.approx(
            {model.config.id2label[label]: float(share) for label, share in enumerate(row)}, abs=1e-5
        )
    assert classify.model is model


@pytest.mark.parametrize("folder", ["pixels"], indirect=True)  # which of them it is, no import hangs on
def test_image_processors_are_imported_with_the_first_one(folder):
    script = """
import sys
from dynamic_exit import DynamicExitModelForImageClassification as Model
Model.from_pretrained(sys.argv[1])
assert [name for name in ("torchvision", "torch._dynamo") if name in sys.modules] == []
from transformers import AutoImageProcessor
print(type(AutoImageProcessor.from_pretrained(sys.argv[1])).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False)
    assert done.stdout == "DynamicExitImageProcessor\n", done.stderr[-2000:]


def test_images_of_another_size_are_brought_to_the_files(folder):
    processor = AutoImageProcessor.from_pretrained(folder)
    plain = processor(images=Image.new("L", (30, 50), 102), return_tensors="pt")["pixel_values"]
    assert plain.shape == (1, 1, 6, 6)
    torch.testing.assert_close(plain.float(), torch.full((1, 1, 6, 6), 0.4 if folder.name == "shares" else 102.0))


def test_colours_and_greys(tmp_path):
    """Three channels: grey images become grey colours. One channel: the model says what it wants."""
    assert write_image_processor(tmp_path, RANDOM.integers(0, 256, size=(4, 3, 5, 7), dtype=np.uint8), "nearest")
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    pixels = RANDOM.integers(0, 256, size=(5, 7), dtype=np.uint8)
    (grey,) = processor(images=Image.fromarray(pixels), return_tensors="np")["pixel_values"]
    assert np.array_equal(grey, np.stack([pixels] * 3))
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["resample"] == 0


def test_a_model_of_one_channel_sees_colours_in_grey(folder):
    processor = AutoImageProcessor.from_pretrained(folder)
    red, grey = (Image.new("RGB", (6, 6), colour) for colour in ((255, 0, 0), (76, 76, 76)))  # 0.299 of 255
    one, other = (processor(images=image, return_tensors="pt")["pixel_values"] for image in (red, grey))
    assert one.shape == (1, 1, 6, 6)
    assert torch.equal(one, other)


def test_an_array_of_colours_for_a_model_of_one_channel_is_refused(folder):
    model = Model.from_pretrained(folder)
    classify = pipeline("image-classification", model=model, image_processor=str(folder), device="cpu")
    with pytest.raises(ExportError, match=r"must be of shape \(batch, 1, 6, 6\); got \(1, 3, 6, 6\)$"):
        classify(np.zeros((3, 6, 6), np.uint8))


def test_where_samples_are_no_pixels_none_is_written(ran, tmp_path):
    assert tiny.samples("calibration")[0].min() < 0
    assert not (ran.folder / "preprocessor_config.json").exists()
    for samples in (-PIXELS.astype(np.float32), PIXELS * 2.0, PIXELS[:, 0], np.repeat(PIXELS, 2, axis=1)):
        assert not write_image_processor(tmp_path, samples, None)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("given", ["folder", "pipeline"])
def test_the_evaluator_of_evaluate_takes_a_model(folder, monkeypatch, tmp_path, given):
    """Accuracy as counted from the model's own answers. Objects that are no PreTrainedModel it takes for pipelines."""
    evaluate = pytest.importorskip("evaluate", reason="needs evaluate, of the extra dev")
    import datasets
    import transformers

    class Accuracy(evaluate.Metric):
        """That of the hub needs a connection."""

        def _info(self):
            kinds = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            return evaluate.MetricInfo("", "", features=datasets.Features(kinds))

        def _compute(self, predictions, references):
            return {"accuracy": float(np.mean(np.asarray(predictions) == np.asarray(references)))}

    if not hasattr(transformers, "TFPreTrainedModel"):  # evaluate asks for it, transformers 5 has it no more
        monkeypatch.setattr(transformers, "TFPreTrainedModel", transformers.PreTrainedModel, raising=False)
    model = Model.from_pretrained(folder)
    samples = PIXELS.astype(np.float32) / (255 if folder.name == "shares" else 1)
    labels = np.arange(len(PIXELS)) % 3
    answers = model(samples).logits.argmax(1)
    data = datasets.Dataset.from_dict({"image": [Image.fromarray(row[0]) for row in PIXELS], "label": labels})
    data = data.cast_column("image", datasets.Image())
    classify = pipeline("image-classification", model=model, image_processor=str(folder), device="cpu")
    found = evaluate.evaluator("image-classification").compute(
        model_or_pipeline=str(folder) if given == "folder" else classify,
        data=data,
        metric=Accuracy(cache_dir=str(tmp_path / "metrics")),
        label_mapping={name: index for index, name in model.config.id2label.items()},
        device=-1,
    )
    assert found["accuracy"] == np.mean(answers == labels)
    assert found["latency_in_seconds"] > 0
