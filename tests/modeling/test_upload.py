"""Uploading to a hub and loading from it, over HTTP, with huggingface_hub as it is."""

import json
import os
import shutil
import subprocess
import sys

import local_hub
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from dynamic_exit.trust.signature import sign_folder

#: Run in a process of its own: huggingface_hub reads the hub's address on import.
SCRIPT = """
import json, sys
import numpy as np
from dynamic_exit import DynamicExitModelForImageClassification as Model
from dynamic_exit.errors import ExportError, OutputError

folder, place, token = sys.argv[1:]
images = np.random.default_rng(0).normal(size=(20, 1, 6, 6)).astype(np.float32)
model = Model.from_pretrained(folder)
there = {"token": token, "cache_dir": f"{place}/cache"}
model.save_pretrained(f"{place}/saved", push_to_hub=True, repository_id="me/tiny", private=True, token=token)
first = Model.from_pretrained("me/tiny", operating_point="frugal", **there)
model.set_operating_point("frugal")
said = {"same": bool(np.array_equal(first(images).logits, model(images).logits)), "stages": list(first.stages)}

points = json.load(open(f"{place}/saved/operating_points.json"))
points["points"][-1]["name"] = "thrifty"
json.dump(points, open(f"{place}/saved/operating_points.json", "w"))
open(f"{place}/saved/diary.txt", "w").write("private")
said["address"] = model.push_to_hub(f"{place}/saved", "me/tiny", token=token, commit_message="other names")
said["names"] = list(Model.from_pretrained("me/tiny", **there).operating_points.names)
revision = first.folder.name
said["names before"] = list(Model.from_pretrained("me/tiny", revision=revision, **there).operating_points.names)
offline = {"local_files_only": True, "cache_dir": f"{place}/cache"}
said["names offline"] = list(Model.from_pretrained("me/tiny", **offline).operating_points.names)

def refused(*arguments, **options):
    try:
        Model.from_pretrained(*arguments, **options)
    except ExportError as error:
        return str(error)
    return "not refused"

said["without token"] = refused("me/tiny", cache_dir=f"{place}/other", token=False)
said["never downloaded"] = refused("me/other", **offline)
said["no such subfolder"] = refused("me/tiny", subfolder="nowhere", **there)
try:
    model.push_to_hub(f"{place}/saved", "me/tiny", token="hf_of_somebody_else")
except OutputError as error:
    said["not allowed"] = str(error)
signed = {"subfolder": "v1", "public_key": f"{place}/public.pem", **there}
ours = Model.from_pretrained("me/signed", **signed)
said["signed"] = bool(np.array_equal(ours(images).logits, Model.from_pretrained(folder)(images).logits))
said["changed"] = refused("me/changed", **signed)
said["configured from above"] = refused("me/above", **signed)
print(json.dumps(said))
"""


def signed_repositories(folder, key):
    """Repositories with a signed subfolder: as it is, with another file, and with its configuration above it."""
    sign_folder(folder, key)
    whole = below(folder)
    changed = {**whole, "v1/operating_points.json": whole["v1/operating_points.json"] + b" "}
    config = (folder / "config.json").read_bytes()
    (folder / "config.json").unlink()
    sign_folder(folder, key)
    files = {"me/signed": whole, "me/changed": changed, "me/above": {**below(folder), "config.json": config}}
    return {name: [(str(place) * 40, content)] for place, (name, content) in enumerate(files.items(), 1)}


def below(folder):
    return {f"v1/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def story(ran, tmp_path_factory):
    """What the script saw, and the hub afterwards."""
    place = tmp_path_factory.mktemp("upload")
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (place / "public.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with local_hub.serve() as hub:
        hub.commits |= signed_repositories(shutil.copytree(ran.folder, place / "signed"), secret)
        settings = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(place), "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, ran.folder, place, local_hub.TOKEN],
            env={**os.environ, **settings, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1]), hub, place


def test_what_was_uploaded_loads_and_answers_the_same(story):
    said, _, _ = story
    assert said["same"]
    assert said["stages"] == ["saver2", "block1:linear", "block3:linear"]


def test_an_upload_is_one_commit_of_the_models_own_files(story, ran):
    said, hub, _ = story
    assert said["address"] == f"{hub.address}/me/tiny/commit/{hub.commits['me/tiny'][-1][0]}"
    _, first, second = hub.commits["me/tiny"]
    names = {path.name for path in ran.folder.iterdir()} - {"run.log"}  # it names local folders
    assert set(first[1]) == names == set(second[1])
    assert first[1]["model.onnx"] == (ran.folder / "model.onnx").read_bytes()


def test_revisions_and_the_cache(story):
    said, _, _ = story
    assert said["names before"] == ["accuracy-drop-1%", "accuracy-drop-10%", "frugal"]
    assert said["names"] == said["names offline"] == ["accuracy-drop-1%", "accuracy-drop-10%", "thrifty"]


def test_what_is_refused_is_one_sentence(story):
    said, _, place = story
    for key, name in (("without token", "me/tiny"), ("never downloaded", "me/other")):
        assert said[key].startswith(f"'{name}' cannot be had from the hub: ")
        assert "\n" not in said[key]
    assert "/nowhere' has no config.json; it is no complete dynamic model, export it" in said["no such subfolder"]
    assert said["not allowed"].startswith(f"'{place}/saved' cannot be uploaded to 'me/tiny': ")
    assert "\n" not in said["not allowed"]


def test_a_signed_subfolder_loads_and_nothing_above_it_takes_part(story):
    said, _, _ = story
    assert said["signed"]
    assert "operating_points.json' is not the file that was signed; get it anew" in said["changed"]
    assert "/v1' has no config.json; it is no complete dynamic model" in said["configured from above"]
