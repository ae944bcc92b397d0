"""Every block of docs/how-to/serve.md runs against a server that its own first command started on loopback."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess

import documents
import numpy as np
import pytest
from commands import begun
from PIL import Image

PAGE = "docs/how-to/serve.md"
TOKEN = "of the page"


@pytest.fixture(scope="module")
def world(demo, tmp_path_factory):
    """A folder with the demo and a picture, and the environment of its shell."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "build").mkdir()
    (folder / "build" / "quickstart").symlink_to(demo.folder)
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(folder / "digit.png")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("DYNAMIC_EXIT_TOKEN", TOKEN)
        yield folder


def started(arguments, folder):
    """Start the command of the page at a free port; returns it and its address."""
    command = begun(folder / "log.txt", *arguments[1:], "--port", "0", "--name", "quickstart")
    command.until(lambda: "serving" in command.said)
    return command, re.search(r"127\.0\.0\.1:\d+", command.said)[0]


def asked(line, address):
    """Send what a line sends with curl."""
    line = os.path.expandvars(line.replace("127.0.0.1:8000", address))
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True)
    return done.stdout


def test_every_command_of_the_page_runs(world):
    command, address, said, namespace = None, None, [], {}
    for block in documents.blocks(PAGE):
        if block.language == "sh":
            for line in block.code.splitlines():
                words = shlex.split(line)
                if words[0] == "dynamic-exit":
                    if command is not None:
                        assert command.signalled(signal.SIGTERM) == 143
                    command, address = started(words, world)
                else:
                    assert words[0] == "curl"
                    said.append(asked(line, address))
            continue
        assert block.language == "python"
        if "tritonclient" in block.code and not has_triton():
            continue
        exec(block.code.replace("127.0.0.1:8000", address), namespace)  # noqa: S102  the page's own code
    about, picture, points, switched, figures = said
    assert json.loads(about)["name"] == "quickstart"
    assert json.loads(picture)["predictions"][0]["stage"]
    assert {"backbone", "accuracy-drop-1%"} <= {*json.loads(points)["known"]}
    assert json.loads(switched)["operating_point"] == "accuracy-drop-1%"
    assert "dynamic_exit_server_requests_total" in figures and "dynamic_exit_evidence" in figures
    assert len(namespace["answer"]["confidence"]) == 2 and namespace["point"] == "accuracy-drop-0.5%"
    assert namespace["app"].routes
    assert not has_triton() or namespace["logits"].shape == (2, 10)
    assert command.signalled(signal.SIGTERM) == 143
    assert command.said.endswith("dynamic-exit: stopped; all requests that were accepted have been answered\n")


def has_triton():
    try:
        import tritonclient.http  # noqa: F401
    except ImportError:
        return False
    return True
