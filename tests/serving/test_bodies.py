"""Pictures as bodies; texts are in integration_tests/test_text_served.py."""

import io
import shutil

import numpy as np
import pytest
from http_server import running
from PIL import Image

from dynamic_exit import load_runner
from dynamic_exit.artifact.image_processor import write_image_processor
from dynamic_exit.images import ImageFormat
from dynamic_exit.serving import ServedFolder

PIXELS = (np.arange(36) * 7).astype(np.uint8).reshape(6, 6)


def encoded(image, kind="PNG", **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.fixture(scope="module")
def served(ran, tmp_path_factory):
    """A server for a folder with an image processor, and its folder."""
    folder = tmp_path_factory.mktemp("pictures") / "tiny"
    shutil.copytree(ran.folder, folder)
    assert write_image_processor(folder, np.full((1, 1, 6, 6), 255, np.float32), None, ImageFormat(1))
    with running(ServedFolder(folder)) as server:
        yield server.client, load_runner(folder)


@pytest.mark.parametrize(
    "body",
    [
        encoded(Image.fromarray(PIXELS)),
        encoded(Image.fromarray(PIXELS).convert("RGB")),
        encoded(Image.fromarray(PIXELS.astype(np.uint16) * 257)),
    ],
    ids=["grayscale", "color", "16 bits"],
)
def test_a_picture_is_answered_as_its_pixels_are(served, body):
    client, alone = served
    reply = client.call("POST", "/classify", body, {"Content-Type": "image/png"})
    assert reply.status == 200, reply.body
    logits, exit_index, confidence = alone(PIXELS[None, None].astype(np.float32))
    index = int(logits.argmax())
    assert reply.json["operating_point"] == alone.operating_point.name
    (prediction,) = reply.json["predictions"]
    assert prediction.pop("confidence") == pytest.approx(float(confidence[0]))
    stages = (*alone.stages, "final")
    assert prediction == {"label": alone.labels[index], "index": index, "stage": stages[exit_index[0]]}
    assert alone.labels == ("left", "middle", "right")


def test_a_picture_that_lies_is_turned_upright(served):
    client, _ = served
    lying, exif = Image.fromarray(np.rot90(PIXELS).copy()), Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    bodies = (encoded(lying, exif=exif), encoded(Image.fromarray(PIXELS)))
    replies = [client.call("POST", "/classify", body, {"Content-Type": "image/png"}) for body in bodies]
    assert replies[0].json == replies[1].json


@pytest.mark.parametrize(
    ("kind", "body", "status", "message"),
    [
        (
            "text/plain",
            b"a film",
            415,
            "the body is of type 'text/plain'; this model takes a picture with a Content-Type",
        ),
        ("image/png", b"", 400, "the body is no picture that can be read; known are BMP, GIF, JPEG, PNG, TIFF, WEBP"),
        (
            "image/png",
            encoded(Image.fromarray(PIXELS))[:-30],
            400,
            "the body is no picture that can be read; known are",
        ),
        (
            "image/png",
            encoded(Image.new("1", (8000, 8000))),
            413,
            "the picture has 8000 x 8000 pixels; this server takes",
        ),
        (
            "image/tiff",
            encoded(Image.new("F", (6, 6)), "TIFF"),
            400,
            "the picture cannot be used: its pixels are floating",
        ),
    ],
    ids=["text", "empty", "cut", "huge", "float"],
)
def test_what_is_no_picture_is_refused(served, kind, body, status, message):
    reply = served[0].call("POST", "/classify", body, {"Content-Type": kind})
    assert reply.status == status and reply.json["error"].startswith(message)
