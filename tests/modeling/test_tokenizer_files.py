"""Files of a tokenizer that no list of usual names holds: saved, uploaded and downloaded with their model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import local_hub
import words

from dynamic_exit import DynamicExitModelForSequenceClassification

#: Run in a process of its own: huggingface_hub reads the hub's address on import.
SCRIPT = """
import sys
from dynamic_exit import DynamicExitModelForSequenceClassification as Model

folder, place, token = sys.argv[1:]
Model.from_pretrained(folder).save_pretrained(f"{place}/saved", push_to_hub=True, repository_id="me/words", token=token)
print(Model.from_pretrained("me/words", token=token, cache_dir=f"{place}/cache").folder)
"""
FILES = {"bpe.codes": "g o", "deep/er/chat.jinja": "{{ x }}"}


def write_folder(folder):
    words.write_folder(folder)
    for name, text in {**FILES, "diary.txt": "private"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tokenizer_files": [*FILES]}))
    return folder


def found(folder):
    return {name: (folder / name).read_text() for name in (*FILES, "diary.txt") if (folder / name).exists()}


def test_they_are_saved_with_the_model_and_again(tmp_path):
    folder = write_folder(tmp_path / "0")
    for number in (1, 2):
        DynamicExitModelForSequenceClassification.from_pretrained(folder).save_pretrained(tmp_path / str(number))
        folder = tmp_path / str(number)
        assert found(folder) == FILES
    DynamicExitModelForSequenceClassification.from_pretrained(folder).save_pretrained(folder)
    assert found(folder) == FILES


def test_they_are_uploaded_and_downloaded(tmp_path):
    folder = write_folder(tmp_path / "model")
    with local_hub.serve() as hub:
        settings = {
            "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, folder, tmp_path, local_hub.TOKEN],
            env={**os.environ, **settings, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    (_, _), (_, files) = hub.commits["me/words"]
    assert {name: files[name].decode() for name in files if name in FILES} == FILES and "diary.txt" not in files
    downloaded = done.stdout.splitlines()[-1]
    assert found(Path(downloaded)) == FILES
