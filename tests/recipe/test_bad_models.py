"""Refused models: code of the user's whose `forward` fails, and files that hold no weights.

The table of `test_bad_files` goes on here: one exact sentence, exit code 2, nothing written.
"""

import io
import shutil
import zipfile

import numpy as np
import pytest
import safetensors.torch
import tiny
import torch
from refusals import assert_refused, file, rows

HEAD = """import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(36, 3), 0

    def forward(self, x):
"""


def forward(name, body):
    """A backbone whose `forward` begins with line 10 of its file."""
    lines = "".join(f"        {line}\n" for line in body.split("\n"))
    code = f"{HEAD}{lines}\ndef make():\n    return Net()\n"
    return name, {"model": {"source": "python", "name": "net.py:make"}}, file("net.py", code)


def factory(name, body):
    """A function that makes the backbone."""
    code = f"{HEAD}        return self.layer(x.flatten(1))\n\ndef make():\n    {body}\n"
    return name, {"model": {"source": "python", "name": "net.py:make"}}, file("net.py", code)


def weights(name, place, content):
    """Weights that are written by a function or given as bytes."""

    def change(folder):
        path = folder / place
        content(path) if callable(content) else path.write_bytes(content)

    return name, {"model__weights": place}, change


def changed(kind):
    """The backbone's weights, those that are numbers with a fraction as something else."""
    state = tiny.backbone().state_dict()
    return {name: kind(each) if each.is_floating_point() else each for name, each in state.items()}


def cut(write, size):
    def change(path):
        write(path)
        path.write_bytes(path.read_bytes()[:size])

    return change


def archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("notes.txt", "no weights")
    return buffer.getvalue()


REFUSES = "the backbone refuses inputs of shape [2, 1, 6, 6]: "
REPAIR = "; repair line 10 of 'net.py'"
SAVE = "save the model's state_dict with safetensors or torch.save"

TABLE = [
    # code that is at fault
    forward("an attribute that is not there", "return self.laier(x)")
    + (f"{REFUSES}AttributeError: 'Net' object has no attribute 'laier'{REPAIR}",),
    forward("a key that is not there", "return {}['logits']") + (f"{REFUSES}KeyError: 'logits'{REPAIR}",),
    forward("a name that is not there", "return y") + (f"{REFUSES}NameError: name 'y' is not defined{REPAIR}",),
    forward("a file that is not there", "return open('/nowhere')")
    + (f"{REFUSES}FileNotFoundError: [Errno 2] No such file or directory: '/nowhere'{REPAIR}",),
    forward("an error of the user's own", "raise type('TooDark', (Exception,), {})('no light')")
    + (f"{REFUSES}TooDark: no light{REPAIR}",),
    forward("an exit", "raise SystemExit(3)") + (f"{REFUSES}SystemExit: 3{REPAIR}",),
    forward("an iterator at its end", "return next(iter(()))") + (f"{REFUSES}StopIteration{REPAIR}",),
    forward("nothing yet", "raise NotImplementedError") + (f"{REFUSES}NotImplementedError{REPAIR}",),
    forward(
        "an error at the second call",
        "self.calls += 1\nreturn self.layer(x.flatten(1)) if self.calls < 3 else {}[3]")
    + (f"{REFUSES}KeyError: 3; repair line 11 of 'net.py'",),
    forward("an error for more samples", "return self.layer(x.flatten(1)) if len(x) < 3 else {}['large']")
    + (f"the backbone takes 2 samples, but not 8: KeyError: 'large'{REPAIR}",),
    # code or data
    forward("images of another size", "return self.layer(x.reshape(-1, 49))")
    + (f"{REFUSES}shape '[-1, 49]' is invalid for input of size 72; set its `preprocessing`, or{REPAIR[1:]}",),
    factory("two inputs", "net = Net(); net.forward = lambda x, y: x; return net")
    + (
        f"{REFUSES}TypeError: make.<locals>.<lambda>() missing 1 required positional argument: 'y'; repair its "
        "`forward`",
    ),
    # modules that are none of the user's
    factory("no evaluation mode", "net = Net(); net.eval = lambda: exec('raise NotImplementedError()'); return net")
    + (
        "model '{w}/net.py:make' refuses evaluation mode: NotImplementedError; give the module that it was made of",
    ),
    factory("no class", "return nn.Sequential(nn.Flatten(), nn.Linear(36, 0))")
    + ("the backbone must give logits (N, C); got none for any class",),
    # files that hold no weights of the model
    weights("arrays of numpy", "w.npz", lambda path: np.savez(path, a=np.ones(3)))
    + (f"weights '{{w}}/w.npz' cannot be read: it is an archive that torch did not write; {SAVE}",),
    weights("an archive", "w.zip", archive())
    + (f"weights '{{w}}/w.zip' cannot be read: it is an archive that torch did not write; {SAVE}",),
    weights("a file of llama.cpp", "w.gguf", b"GGUF\3\0\0\0")
    + (f"weights '{{w}}/w.gguf' cannot be read: it is cut short, or no file of torch; {SAVE}",),
    weights("an empty file", "w.pt", b"") + (f"weights '{{w}}/w.pt' cannot be read: it is empty; {SAVE}",),
    weights("a file that is cut short", "w.pt", cut(lambda path: torch.save(changed(torch.clone), path), 900))
    + (f"weights '{{w}}/w.pt' cannot be read: it is cut short, or no file of torch; {SAVE}",),
    weights("safetensors that are cut short", "w.safetensors",
            cut(lambda path: safetensors.torch.save_file(changed(torch.clone), path), 900))
    + ("weights '{w}/w.safetensors' cannot be read: Error while deserializing header: invalid header length; copy or "
       "save it anew",),
    weights("quantized numbers", "w.pt", lambda path: torch.save(
        changed(lambda each: torch.quantize_per_tensor(each, 0.1, 0, torch.qint8)), path))
    + ("weights '{w}/w.pt' do not fit model '{w}/models.py:backbone': 'block1.0.weight' holds quantized numbers; save "
       "the weights of a model in use",),
    weights("whole numbers", "w.pt", lambda path: torch.save(changed(lambda each: each.round().long()), path))
    + ("weights '{w}/w.pt' do not fit model '{w}/models.py:backbone': 'block1.0.weight' holds whole numbers; save the "
       "weights of a model in use",),
]  # fmt: skip


@rows(TABLE)
def test_refused(built, tmp_path, command, changes, change, message):
    assert_refused(command, "validate", shutil.copytree(built, tmp_path / "world"), changes, change, message)


@pytest.mark.parametrize("key", ["model__weights", "data__path", "data__splits__test"])
def test_a_name_that_no_file_can_have_is_no_traceback(built, command, tmp_path, key):
    folder = shutil.copytree(built, tmp_path / "world")
    code, out, err = command("validate", tiny.write(folder, tiny.recipe(**{key: "a" * 300})))
    assert (code, out) == (2, "")
    place = {"data__splits__test": f"data/{'a' * 300}.npz"}.get(key, "a" * 300)
    assert err == f"dynamic-exit: '{folder}/{place}' cannot be used: File name too long; check the path\n"
