"""What `test_isolation` runs in fresh processes: `ours` imports this package first, `theirs` Neural Compressor.

Both print what they saw as JSON. The user's folder, where they run, holds modules called as onnxruntime calls its own.
"""

import contextlib
import csv
import importlib
import io
import json
import logging
import os
import sys
from pathlib import Path

import matplotlib
import numpy
import PIL.ImageFile
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "helpers"))
import surroundings

IMPORTED = "imported"  # on stderr, between what was said on import and afterwards
USERS = {"onnx_model.py": "OWNER = 'user'", "float16.py": "OWNER = 'user'", "metrics/mine.py": "OWNER = 'user'"}
THIRD = (csv, numpy, PIL.ImageFile)  # those whose state is looked at are there from the beginning


def linear():
    """A model that weight-only algorithms know, of the user's own randomness."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(32, 32), nn.Linear(32, 8)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return model


def plain(value):
    """Return a config's values as JSON knows them."""
    return json.loads(json.dumps(value, default=str))


def observe():
    """Return what Neural Compressor lists, expands and tries by default, and what comes of it."""
    from neural_compressor.common.base_config import config_registry
    from neural_compressor.common.base_tuning import ConfigSet
    from neural_compressor.torch.quantization import TuningConfig, autotune, get_all_config_set, quantize
    from neural_compressor.torch.utils import algos_mapping

    inputs, answers = torch.linspace(-1, 1, 40).reshape(2, 2, 10), []

    def score(model):
        answers.append(model(inputs).flatten().tolist())
        return 1.0 if len(answers) == 1 else 0.5 + 0.01 * (len(answers) % 5)

    listed = get_all_config_set()
    best = autotune(linear(), TuningConfig(config_set=get_all_config_set(), max_trials=6), eval_fn=score)
    weights = quantize(linear(), {"rtn": {"bits": 8, "use_layer_wise": False}})
    registered = config_registry.get_cls_configs()["torch"]
    return {
        "listed": [[type(each).__name__, plain(each.to_dict())] for each in listed],
        "expanded": [[each.name, plain(each.to_dict())] for each in ConfigSet.from_fwk_configs(listed).config_list],
        "others": len(importlib.import_module("neural_compressor.common.base_config")
                      .get_all_config_set_from_config_registry("tensorflow")),
        "trials": answers,
        "best": best(inputs).flatten().tolist(),
        "weights": weights(inputs).flatten().tolist(),
        "algorithms": [name for name in algos_mapping],
        "configs": {name: f"{kind.__module__}.{kind.__qualname__}" for name, kind in registered.items()},
        "level": logging.getLogger("neural_compressor").level,
        "filters": len(logging.getLogger("neural_compressor").filters),
    }  # fmt: skip


def heard(work):
    """Return what Neural Compressor says while something is done, at the level that it has."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("neural_compressor")
    logger.addHandler(handler)
    try:
        work()
    finally:
        logger.removeHandler(handler)
    return stream.getvalue().splitlines()


def users():
    """Return whose modules are found under names that onnxruntime's have, too."""
    import float16
    import metrics.mine
    import onnx_model

    return [module.OWNER for module in (onnx_model, float16, metrics.mine)]


def work(folder):
    """Return, step by step, what has to leave the process as it was."""
    import tiny
    from neural_compressor.torch.quantization import quantize

    import dynamic_exit
    from dynamic_exit.cli.main import main
    from dynamic_exit.pipeline.run import run
    from dynamic_exit.recipe import read_recipe
    from dynamic_exit.targets import stage_costs

    stage_costs.TIME_LIMIT = 0.2
    # what trains, exports and quantizes here imports these; what they change is not ours
    for name in ("accelerate", "torchao", "torch_pruning", "sklearn.linear_model", "torch.onnx", "onnxscript"):
        importlib.import_module(name)
    exits = {"count": 1, "training": {"epochs": 1}}
    model, inputs = tiny.backbone(), torch.from_numpy(tiny.samples("train")[0])
    saver = {**tiny.recipe()["dynamic_exit"]["tiny_saver"], "max_savers": 1}
    saver["candidates"] = saver["candidates"][:1]
    recipe = tiny.build(folder / "tiny", dynamic_exit__early_exit=exits, dynamic_exit__tiny_saver=saver)
    plainer = {"dynamic_exit__tiny_saver": None, "quantization": None, "dynamic_exit__tuning__points": []}
    short = tiny.build(folder / "short", dynamic_exit__early_exit=exits, **plainer)
    torch.export.export(nn.Linear(1, 1), (torch.ones(1, 1),))

    def feed(made):
        made(inputs[:64])

    def command(*arguments):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            main([str(each) for each in arguments])

    def load():
        served = dynamic_exit.DynamicExitModelForImageClassification.from_pretrained(str(folder / "tiny" / "out"))
        served(inputs[:4])
        served.set_operating_point("frugal")
        served.save_pretrained(folder / "again")

    passes = [{"pruning": {"ratio": 0.3}}, {"early_exit": exits}]
    points, picture = folder / "points.json", folder / "front.png"
    records = folder / "tiny" / "out" / "records.npz"
    return {
        "run": lambda: run(read_recipe(recipe)),
        "run by command": lambda: command("run", short),
        "validate": lambda: command("validate", recipe),
        "refuse": lambda: command("run", folder / "nothing.yaml"),
        "tune with a picture": lambda: command("tune", records, "--output", points, "--plot", picture),
        "evaluate": lambda: command("evaluate", folder / "tiny" / "out", "--data", recipe),
        "load": load,
        "compress": lambda: dynamic_exit.compress(model, passes, run_fn=feed),
        "quantize by a pass": lambda: quantize(tiny.backbone(), {"early_exit": exits}, run_fn=feed),
        "quantize by Neural Compressor": lambda: dynamic_exit.compress(model, {"static_quant": {}}, run_fn=feed,
                                                              example_inputs=inputs[:2]),
    }  # fmt: skip


def ours(folder):
    """Import this project first."""
    found, before, known = {"changes": {}}, surroundings.snapshot(), set(sys.modules)
    import dynamic_exit.integrations.neural_compressor  # noqa: F401

    found["changes"]["import"] = surroundings.changes(before, surroundings.snapshot())
    found["modules"] = [name for name in sys.modules if name not in known and not name.startswith("dynamic_exit")]
    print(IMPORTED, file=sys.stderr)
    found["users"] = users()
    found["with"] = observe()
    with contextlib.redirect_stderr(io.StringIO()):
        for name, step in work(folder).items():
            before = surroundings.snapshot()
            found["heard"] = heard(step)
            found["changes"][name] = surroundings.changes(before, surroundings.snapshot())
    found["backend"] = [matplotlib.rcParams["backend"], "matplotlib.pyplot" in sys.modules]
    found["picture"] = (folder / "front.png").read_bytes()[1:4].decode()
    sys.path.remove(str(folder))
    for name in ("onnx_model", "float16", "metrics"):
        del sys.modules[name]  # with these beside it, onnxruntime's own package cannot be imported by anybody
    from onnxruntime.transformers import optimizer

    found["optimizer"] = callable(optimizer.optimize_model)
    return found


def theirs(folder):
    """Import all that this project imports, but not itself; then itself."""
    found, before = {"users": users()}, surroundings.snapshot()
    for name in json.loads((folder / "modules.json").read_text()):
        with contextlib.suppress(Exception):  # some can be imported from within their package alone
            if not name.startswith("onnxruntime.quantization"):
                importlib.import_module(name)
    found["changes"] = surroundings.changes(before, surroundings.snapshot())
    found["without"] = observe()
    before = surroundings.snapshot()
    import dynamic_exit  # noqa: F401

    found["imported"] = surroundings.changes(before, surroundings.snapshot())
    found["users"] += users()
    found["with"] = observe()
    found["heard"] = heard(observe)
    found["variable"] = os.environ.get("LOGLEVEL")
    return found


if __name__ == "__main__":
    matplotlib.use("svg")
    torch.set_num_threads(1)
    sys.path.insert(0, os.getcwd())
    print(json.dumps({"ours": ours, "theirs": theirs}[sys.argv[1]](Path.cwd())))
