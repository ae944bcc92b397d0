"""Optimum's own class beside ours on one folder: `python optimum_contract.py --python OTHER [--folder DIR]`.

OTHER is the Python of another environment, with `pip install "optimum-onnx[onnxruntime]"`, which asks for other
versions than this package. `ORTModelForSequenceClassification` opens the `model.onnx` of the folder there (by default
one of a small text classifier, written for this), `DynamicExitModelForSequenceClassification` does here, and both
answer the same table of calls. Each line is a check with what both did: a result, or the built-in kind of the error.
Where they differ, REASONS says why; a difference without a reason, and a reason without a difference, end with 1.
"""

import argparse
import contextlib
import copy
import json
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
CPU = "CPUExecutionProvider"
IDS = torch.tensor([[2, 3, 0], [4, 4, 4]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])
INPUTS = {"input_ids": IDS, "attention_mask": MASK}
#: Errors by what they are to a caller who knows neither package.
BUILT_IN = (FileNotFoundError, TypeError, NotImplementedError, AttributeError, ValueError, OSError, RuntimeError)

Load = Callable[..., Any]

#: What differs, and why.
REASONS = {
    "load a subfolder that is not there": "Optimum looks the folder up on the hub; ours is a FileNotFoundError",
    "load a folder that is not there": "as a subfolder that is not there",
    "the type of the answer": "one class answers for images and texts, so it is both types of transformers",
    "an input of another type": "Optimum cuts fractions off token ids without a word",
    "eval()": "Optimum's classes have no such method, though pipelines of transformers call it",
    "train(False)": "as eval()",
    "to(an unknown device)": "Optimum hands on torch's RuntimeError",
    "main_input_name": "Optimum's classes lack it",
    "copy.deepcopy": "a session of onnxruntime cannot be copied; ours opens the folder anew",
    "pickle": "as copy.deepcopy",
}

LOADS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "provider=": {"provider": CPU},
    "providers=": {"providers": [CPU]},
    "providers= in a tuple": {"providers": (CPU,)},
    "an unknown provider": {"provider": "NoSuchProvider"},
    "a known and an unknown provider": {"providers": [CPU, "NoSuchProvider"]},
    "provider_options=": {"provider_options": {}},
    "provider_options= for one provider": {"providers": [CPU], "provider_options": [{}]},
    "use_io_binding=None": {"use_io_binding": None},
    "use_io_binding=False": {"use_io_binding": False},
    "use_io_binding=True": {"use_io_binding": True},
    "file_name=": {"file_name": "model.onnx"},
    "a file_name that is not there": {"file_name": "other.onnx"},
    "subfolder=''": {"subfolder": ""},
    "a subfolder that is not there": {"subfolder": "below"},
    "cache_dir=": {"cache_dir": "cache"},
    "local_files_only=": {"local_files_only": True},
    "trust_remote_code=": {"trust_remote_code": True},
    "model_save_dir=": {"model_save_dir": "elsewhere"},
    "dtype=": {"dtype": torch.float32},
    "dtype= by name": {"dtype": "float32"},
    "an unknown argument": {"provder": CPU},
}

CALLS: dict[str, Callable[[Any], Any]] = {
    "by name": lambda m: m(**INPUTS).logits,
    "by position": lambda m: m(IDS, MASK).logits,
    "in NumPy": lambda m: m(input_ids=IDS.numpy(), attention_mask=MASK.numpy()).logits,
    "return_dict=True": lambda m: m(**INPUTS, return_dict=True).logits,
    "return_dict=False": lambda m: m(**INPUTS, return_dict=False)[0],
    "the kind of answer without return_dict": lambda m: isinstance(m(**INPUTS, return_dict=False), tuple),
    "labels=None": lambda m: m(**INPUTS, labels=None).logits,
    "token_type_ids=None": lambda m: m(**INPUTS, token_type_ids=None).logits,
    "special_tokens_mask": lambda m: m(**INPUTS, special_tokens_mask=MASK).logits,
    "the type of the answer": lambda m: [
        each.__name__ for each in type(m(**INPUTS)).__mro__ if each.__module__ == "transformers.modeling_outputs"
    ],
    "loss": lambda m: m(**INPUTS).loss,
    "hidden_states": lambda m: m(**INPUTS).hidden_states,
    "attentions": lambda m: m(**INPUTS).attentions,
    "the first of the answer": lambda m: m(**INPUTS)[0],
    "the key of the answer": lambda m: m(**INPUTS)["logits"],
    "no input": lambda m: m(),
    "an input that is missing": lambda m: m(attention_mask=MASK),
    "an input of another type": lambda m: m(input_ids=IDS + 0.5, attention_mask=MASK),
    "eval()": lambda m: m.eval() is m,
    "train(False)": lambda m: m.train(False) is m,
    "to(cpu)": lambda m: m.to("cpu") is m,
    "to(device)": lambda m: m.to(torch.device("cpu")) is m,
    "to(dtype)": lambda m: m.to(torch.float32) is m,
    "to(cpu, dtype)": lambda m: m.to("cpu", torch.float32) is m,
    "to(cpu, non_blocking=)": lambda m: m.to("cpu", non_blocking=True) is m,
    "to(dtype=)": lambda m: m.to(dtype=torch.float32) is m,
    "to(an unknown device)": lambda m: m.to("cpus"),
    "device": lambda m: str(m.device),
    "dtype": lambda m: str(m.dtype),
    "providers": lambda m: list(m.providers),
    "provider": lambda m: m.provider,
    "provider_options": lambda m: dict(m.provider_options),
    "use_io_binding": lambda m: m.use_io_binding,
    "session": lambda m: type(m.session).__name__,
    "path": lambda m: Path(m.path).name,
    "model_save_dir": lambda m: isinstance(m.model_save_dir, Path),
    "input_names": lambda m: [name for name in m.input_names if name != "thresholds"],
    "output_names": lambda m: list(m.output_names)[:1],
    "input_shapes": lambda m: {name: list(m.input_shapes[name]) for name in INPUTS},
    "input_dtypes": lambda m: {name: m.input_dtypes[name] for name in INPUTS},
    "auto_model_class": lambda m: m.auto_model_class.__name__,
    "main_input_name": lambda m: m.main_input_name,
    "can_generate()": lambda m: m.can_generate(),
    "config": lambda m: sorted(m.config.id2label.items()),
    "copy.deepcopy": lambda m: copy.deepcopy(m)(**INPUTS).logits,
    "pickle": lambda m: pickle.loads(pickle.dumps(m))(**INPUTS).logits,
    "save_pretrained": lambda m: _saved(m),
}


def _saved(model: Any) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return sorted(path.name for path in Path(folder).iterdir() if path.name in ("config.json", "model.onnx"))


def seen(check: Callable[[], Any]) -> str:
    """What a check gives: a value, or the built-in kind of its error."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        try:
            value = check()
        except Exception as error:
            return next((kind.__name__ for kind in BUILT_IN if isinstance(error, kind)), "another error")
    if isinstance(value, torch.Tensor):
        return f"tensor {np.round(value.numpy(), 4).tolist()}"
    return f"array {np.round(value, 4).tolist()}" if isinstance(value, np.ndarray) else repr(value)


def observe(load: Load) -> dict[str, str]:
    """Run all checks."""
    found = {}
    for name, arguments in LOADS.items():
        found[f"load {name}"] = seen(lambda arguments=arguments: load(**arguments)(**INPUTS).logits)
    for name, call in CALLS.items():
        found[name] = seen(lambda call=call: call(load()))
    found["load a folder that is not there"] = seen(lambda: load(folder="/nowhere/at/all"))
    return found


def optimum(folder: str) -> Load:
    """Optimum's class on the folder's file, whose thresholds are those of the default point."""
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import BertConfig

    labels = json.loads((Path(folder) / "config.json").read_text())["id2label"]
    names = {int(key): name for key, name in labels.items()}
    config = BertConfig(id2label=names, label2id={name: key for key, name in names.items()})

    def load(folder: str = folder, **arguments: Any) -> Any:
        return ORTModelForSequenceClassification.from_pretrained(folder, config=config, **arguments)

    return load


def ours(folder: str) -> Load:
    """The class of this package."""
    from dynamic_exit import DynamicExitModelForSequenceClassification

    def load(folder: str = folder, **arguments: Any) -> Any:
        return DynamicExitModelForSequenceClassification.from_pretrained(folder, **arguments)

    return load


@contextlib.contextmanager
def some_folder() -> Iterator[str]:
    """A folder with a small text classifier."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    import words

    with tempfile.TemporaryDirectory() as place:
        yield str(words.write_folder(Path(place) / "model"))


def main() -> None:
    """Compare, or observe Optimum where this script is started by itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="of the environment with optimum-onnx")
    parser.add_argument("--folder", help="of a text classifier with the inputs input_ids and attention_mask")
    parser.add_argument("--observe", action="store_true", help="print what Optimum does, as JSON")
    arguments = parser.parse_args()
    if arguments.observe:
        print(json.dumps(observe(optimum(arguments.folder))))
        return
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or stack.enter_context(some_folder())
        work = stack.enter_context(tempfile.TemporaryDirectory())
        command = [arguments.python, str(Path(__file__).resolve()), "--observe", "--folder", folder]
        outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=work, env=outside)
        if done.returncode:
            sys.exit(f"the other environment failed: {done.stderr}")
        theirs = json.loads(done.stdout)
        with contextlib.chdir(work):
            mine = observe(ours(folder))
    differing = {name for name in theirs if theirs[name] != mine[name]}
    for name in theirs:
        print(f"{'differs' if name in differing else 'alike  '}  {name}: {theirs[name]}", end="")
        print(f" | {mine[name]}  ({REASONS.get(name, 'NO REASON')})" if name in differing else "")
    print(f"{len(theirs)} checks, {len(differing)} differ, {len(differing - set(REASONS))} of them without a reason")
    sys.exit(differing != set(REASONS))


if __name__ == "__main__":
    main()
