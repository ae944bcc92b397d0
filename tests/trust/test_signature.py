"""Signed folders: exactly what was signed, by the key that is asked for."""

import json
import pickle
import shutil

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from dynamic_exit import DynamicExitModelForImageClassification, load_runner
from dynamic_exit.errors import MissingFileError, SignatureError
from dynamic_exit.trust.signature import SIGNATURE_FILE, sign_folder, verify_folder


def write_keys(folder, private):
    (folder / "key.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(public)
    return folder / "key.pem", folder / "public.pem"


@pytest.fixture
def keys(tmp_path):
    return write_keys(tmp_path, ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


@pytest.fixture
def signed(ran, tmp_path, keys):
    folder = shutil.copytree(ran.folder, tmp_path / "signed")
    sign_folder(folder, keys[0])
    return folder


def test_a_signed_folder_loads_with_the_key_by_every_way_also_in_other_processes(signed, keys, command):
    public = keys[1]
    inputs = np.zeros((2, 1, 6, 6), np.float32)
    expected = load_runner(signed)(inputs).logits
    for key in (public, str(public), public.read_text(), public.read_bytes()):
        for model in (
            load_runner(signed, public_key=key),
            pickle.loads(pickle.dumps(load_runner(signed, public_key=key))),
        ):
            np.testing.assert_array_equal(model(inputs).logits, expected)
    DynamicExitModelForImageClassification.from_pretrained(signed, public_key=public)
    (signed / "run.log").unlink()
    (signed / ".gitattributes").write_text("hidden")
    count = len([each for each in signed.iterdir() if not each.name.startswith(".")]) - 1
    assert command("verify", signed, "--key", public) == (0, f"{signed} holds the {count} files that were signed\n", "")
    said = command("sign", signed, "--key", keys[0])
    assert said == (0, f"wrote {signed}/signature.json, which signs {count} files\n", "")


def change(folder):
    (folder / "README.md").write_text("another")


def add(folder):
    (folder / "stages").mkdir()
    (folder / "stages" / "more.onnx").write_bytes(b"")


def link(folder):
    (folder / "stages").symlink_to("..")


def edit_list(folder):
    values = json.loads((folder / SIGNATURE_FILE).read_text())
    values["files"].pop("README.md")
    (folder / SIGNATURE_FILE).write_text(json.dumps(values))


def broken(folder):
    (folder / SIGNATURE_FILE).write_text(
        '{"_type": "dynamic_exit.signature", "_version": 1, "files": [], "signature": 1}'
    )


CHANGES = {
    "changed": (change, "README.md' is not the file that was signed; get it anew$"),
    "less": (lambda folder: (folder / "README.md").unlink(), "lacks 'README.md', which is signed; get it anew$"),
    "more": (add, "holds 'stages/more.onnx', which is not signed; remove it, or sign the folder anew$"),
    "a linked folder": (link, "stages' cannot be signed or verified: "),
    "another list": (edit_list, "is not signed by this key: signature and list of files do not belong together"),
    "no signature": (lambda folder: (folder / SIGNATURE_FILE).unlink(), "is not signed: it has no signature.json"),
    "a broken one": (broken, "signature.json' cannot be read: "),
}


@pytest.mark.parametrize(("act", "message"), CHANGES.values(), ids=CHANGES)
def test_a_folder_that_is_not_what_was_signed_is_refused(signed, keys, act, message):
    act(signed)
    for load in (load_runner, DynamicExitModelForImageClassification.from_pretrained):
        with pytest.raises(SignatureError, match=message):
            load(signed, public_key=keys[1])
    load_runner(signed)  # who asks for no signature gets the folder as before


def test_other_keys_and_what_is_none_are_refused(signed, keys, tmp_path, command):
    (tmp_path / "other").mkdir()
    other = write_keys(tmp_path / "other", ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)))
    with pytest.raises(SignatureError, match="is not signed by this key"):
        verify_folder(signed, other[1])
    advice = "give an Ed25519 public key as a PEM file without a password"
    for key in (keys[0], tmp_path / "gone", b"-----BEGIN nonsense"):
        with pytest.raises(SignatureError, match=f"^the public key cannot be read from .*; {advice}$"):
            verify_folder(signed, key)
    code, out, err = command("verify", signed, "--key", other[1])
    assert (code, out) == (2, "") and "is not signed by this key" in err
    elliptic = write_keys(tmp_path / "other", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(SignatureError, match=f"^the key is a .*; {advice}$"):
        verify_folder(signed, elliptic[1])
    with pytest.raises(SignatureError, match="^the key is a .*; give an Ed25519 private key"):
        sign_folder(signed, elliptic[0])
    with pytest.raises(MissingFileError):
        verify_folder(tmp_path / "nowhere", keys[1])
