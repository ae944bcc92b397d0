"""Importing and using this project leaves Neural Compressor, and all that belongs to the process, as they were."""

import importlib
import json
import logging
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import surroundings
import tiny
import torch
from isolation_script import IMPORTED, USERS, linear
from neural_compressor.common.base_config import config_registry
from neural_compressor.common.base_tuning import ConfigSet
from neural_compressor.torch.quantization import RTNConfig, TuningConfig, autotune, get_all_config_set, quantize

from dynamic_exit.core.process_state import preserve_process_state
from dynamic_exit.errors import PassError
from dynamic_exit.integrations.neural_compressor.configs import EmptyTuningSet, PassConfig
from dynamic_exit.passes.quantization.neural_compressor import (
    LEVEL_VARIABLE,
    LOGGER_NAME,
    import_neural_compressor,
    suppress_messages,
)

SCRIPT = Path(__file__).parent / "isolation_script.py"
ORDERS = ["ours first", "Neural Compressor first"]
# what is asked of each step of a process's life
STEPS = [
    "run",
    "run by command",
    "validate",
    "refuse",
    "tune with a picture",
    "evaluate",
    "load",
    "compress",
    "quantize by a pass",
    "quantize by Neural Compressor",
]
PASSES = [name for name, kind in config_registry.get_cls_configs()["torch"].items() if issubclass(kind, PassConfig)]


def run(folder, which, **variables):
    """Run one of the scripts in a fresh process, in the user's folder; return what it saw, and what it said."""
    environment = {key: value for key, value in os.environ.items() if key != LEVEL_VARIABLE}
    environment |= {"OMP_NUM_THREADS": "1", "DYNAMIC_EXIT_CACHE": str(folder / "cache"), **variables}
    done = subprocess.run(
        [sys.executable, SCRIPT, which], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("users")
    for name, text in USERS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def ours(folder):
    """What a process saw that imported this project first, and used it."""
    found, said = run(folder, "ours")
    (folder / "modules.json").write_text(json.dumps(found["modules"]))
    return found | {"said on import": said.partition(IMPORTED)[0]}


@pytest.fixture(scope="module")
def theirs(ours, folder):
    """What a process saw that imported Neural Compressor first, used it, and then imported this project."""
    return run(folder, "theirs", LOGLEVEL="WARNING")[0]


@pytest.fixture(params=ORDERS)
def observed(request, ours, theirs):
    """What Neural Compressor does with this project imported."""
    return (ours if request.param == "ours first" else theirs)["with"]


@pytest.mark.parametrize("what", ["listed", "expanded", "others", "trials", "best", "weights"])
def test_neural_compressor_does_what_it_does_without(observed, theirs, what):
    assert observed[what] == theirs["without"][what]


def test_its_default_set_is_not_empty(theirs):
    without = theirs["without"]
    assert [len(without[key]) for key in ("listed", "expanded", "trials")] == [13, 79, 7], (
        "another version, other numbers"
    )
    assert without["expanded"][0][0] == "rtn"


@pytest.mark.parametrize("what", ["algorithms", "configs"])
def test_its_algorithms_are_the_same_in_the_same_order(observed, theirs, what):
    before = list(theirs["without"][what])
    assert list(observed[what])[: len(before)] == before
    assert list(observed[what])[len(before) :] == ["pruning", "tiny_saver", "early_exit", "dynamic_exit"]
    if what == "configs":
        assert {name: observed[what][name] for name in before} == theirs["without"][what]


@pytest.mark.parametrize("name", ["rtn", "gptq", "teq"])
def test_what_was_used_before_transformers_came_works_on(monkeypatch, name):
    module = importlib.import_module(f"neural_compressor.torch.algorithms.weight_only.{name}")
    monkeypatch.delattr(module, "transformers")
    if name == "rtn":
        with pytest.raises(NameError):
            quantize(linear(), RTNConfig(use_layer_wise=False))
    import_neural_compressor()
    # the one there is now: what other tests run may have put another in its place
    assert module.transformers is sys.modules["transformers"]
    if name == "rtn":
        assert type(quantize(linear(), RTNConfig(use_layer_wise=False))[2]).__name__ == "INCWeightOnlyLinear"


def test_importing_changes_what_the_imported_packages_change(ours, theirs):
    assert ours["changes"]["import"] == theirs["changes"]
    assert set(theirs["changes"]) <= {"warnings", "imports"}, "and that is little"


def test_importing_beside_them_changes_nothing(theirs):
    assert theirs["imported"] == {}


@pytest.mark.parametrize("step", STEPS)
def test_nothing_changes_by(ours, step):
    assert ours["changes"][step] == {}


def test_every_step_is_known(ours):
    assert [*ours["changes"]] == ["import", *STEPS]


@pytest.mark.parametrize(("place", "module"), enumerate(USERS))
def test_a_module_of_the_users_is_found(ours, theirs, place, module):
    assert ours["users"][place] == theirs["users"][place] == theirs["users"][place + len(USERS)] == "user"


def test_onnxruntimes_optimizer_can_be_imported_afterwards(ours):
    assert ours["optimizer"]


def test_pictures_are_drawn_without_the_users_backend(ours):
    assert ours["backend"] == ["svg", False] and ours["picture"] == "PNG"


def test_nothing_is_said_on_import(ours):
    assert ours["said on import"] == ""


def test_neural_compressors_level_is_its_own(ours, theirs):
    assert ours["with"]["level"] == logging.INFO
    assert any(line == "Start to apply static_quant on the model." for line in ours["heard"])
    assert ours["with"]["filters"] == theirs["with"]["filters"] == 0


def test_a_level_of_the_users_is_kept(theirs):
    assert theirs["variable"] == "WARNING"
    assert theirs["with"]["level"] == theirs["without"]["level"] == logging.WARNING
    assert theirs["heard"] and not any(line.startswith("Quantization started") for line in theirs["heard"])


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_proposes_no_trials(name):
    proposed = config_registry.get_cls_configs()["torch"][name].get_config_set_for_tuning()
    assert isinstance(proposed, EmptyTuningSet) and proposed.name == name and proposed.to_dict() is not None
    assert ConfigSet.from_fwk_configs([proposed, *get_all_config_set()[:1], proposed]).config_list == (
        ConfigSet.from_fwk_configs(get_all_config_set()[:1]).config_list
    )
    assert autotune(tiny.backbone(), TuningConfig(config_set=[proposed]), eval_fn=lambda model: 1.0) is None
    with pytest.raises(PassError) as refused:
        quantize(tiny.backbone(), proposed)
    assert str(refused.value) == (
        f"pass '{name}' has no default config for tuning; give `config_set` the configs to try"
    )


@pytest.mark.parametrize(
    ("variable", "level", "elsewhere", "heard"),
    [
        (None, logging.INFO, False, False),
        (None, logging.WARNING, False, False),
        (None, logging.ERROR, False, True),
        (None, logging.CRITICAL, False, True),
        (None, logging.WARNING, True, True),
        ("DEBUG", logging.WARNING, False, True),
        ("ERROR", logging.WARNING, False, True),
    ],
)
def test_what_is_heard_while_neural_compressor_is_imported(monkeypatch, variable, level, elsewhere, heard):
    monkeypatch.delenv(LEVEL_VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(LEVEL_VARIABLE, variable)
    logger, records = logging.getLogger(LOGGER_NAME), []
    handler = logging.Handler()
    handler.emit = records.append

    def say():
        logger.log(level, "something")

    logger.addHandler(handler)
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger._cache.clear()  # of levels
    try:
        with suppress_messages():
            if elsewhere:
                other = threading.Thread(target=say)
                other.start()
                other.join()
            else:
                say()
        assert len(records) == heard
        say()
        assert len(records) == heard + 1 and not logger.filters
    finally:
        logger.removeHandler(handler)
        logger._cache.clear()


# what may be disturbed, how, and where it shows
DISTURBANCES = {
    "a variable": (lambda: os.environ.update(DISTURBED="1"), "environment"),
    "a folder": (lambda: sys.path.append("/nowhere"), "path"),
    "the root's level": (lambda: logging.getLogger().setLevel(1), "logging"),
    "a handler": (lambda: logging.getLogger("torch").addHandler(logging.NullHandler()), "logging"),
    "all loggers": (lambda: logging.disable(logging.ERROR), "logging"),
    "a filter": (lambda: warnings.filterwarnings("error", "disturbed"), "warnings"),
    "the hook": (lambda: setattr(sys, "excepthook", lambda *given: None), "hooks"),
    "plain numbers": (lambda: random.random(), "python's randomness"),
    "numpy's numbers": (lambda: np.random.rand(), "numpy's randomness"),
    "torch's numbers": (lambda: torch.rand(()), "torch's randomness"),
    "a seed": (lambda: torch.manual_seed(12345), "torch's randomness"),
    "gradients": (lambda: torch.set_grad_enabled(False), "torch"),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "torch"),
    "fused attention": (lambda: torch.backends.mha.set_fastpath_enabled(False), "torch"),
    "the backend": (lambda: matplotlib.rcParams.update({"backend": "pdf"}), "matplotlib"),
    "a folder to work in": (lambda: os.chdir("/"), "process"),
    "the mask of new files": (lambda: os.umask(0o77), "process"),
}


def restore(before_threads, folder, mask):
    sys.path[:] = [each for each in sys.path if each != "/nowhere"]
    logging.disable(logging.NOTSET)
    torch.set_grad_enabled(True)
    torch.set_num_threads(before_threads)
    torch.backends.mha.set_fastpath_enabled(True)
    os.chdir(folder)
    os.umask(mask)


@pytest.mark.parametrize("name", DISTURBANCES)
def test_a_disturbance_is_seen(name, monkeypatch):
    disturb, part = DISTURBANCES[name]
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("DISTURBED", "0")
    monkeypatch.setattr(logging.getLogger("torch"), "handlers", logging.getLogger("torch").handlers[:])
    kept = torch.get_num_threads(), os.getcwd(), os.umask(0o22)
    os.umask(kept[2])
    level, numbers = logging.getLogger().level, (random.getstate(), np.random.get_state(), torch.get_rng_state())
    try:
        with warnings.catch_warnings(), matplotlib.rc_context():
            before = surroundings.snapshot()
            disturb()
            assert [*surroundings.changes(before, surroundings.snapshot())] == [part]
    finally:
        restore(*kept)
        logging.getLogger().setLevel(level)
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])
        torch.set_rng_state(numbers[2])


@pytest.mark.parametrize("name", ["plain numbers", "numpy's numbers", "torch's numbers", "a seed", "the hook"])
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_given_back(name, fails):
    before = surroundings.snapshot()

    @preserve_process_state()
    def work():
        DISTURBANCES[name][0]()
        if fails:
            raise ValueError
        return surroundings.changes(before, surroundings.snapshot())

    if fails:
        with pytest.raises(ValueError):
            work()
    else:
        assert [*work()] == [DISTURBANCES[name][1]]
    assert surroundings.changes(before, surroundings.snapshot()) == {}


def test_how_processes_start_is_not_settled():
    settled = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(None, force=True)
    try:
        with preserve_process_state():
            multiprocessing.RLock()
            assert multiprocessing.get_start_method(allow_none=True) is not None
        assert multiprocessing.get_start_method(allow_none=True) is None
        multiprocessing.set_start_method("spawn")
        with preserve_process_state():
            multiprocessing.RLock()
        assert multiprocessing.get_start_method(allow_none=True) == "spawn"
    finally:
        multiprocessing.set_start_method(settled, force=True)
