"""All that a process holds for everybody in it, in plain values, so that what a piece of work changed can be told."""

import gc
import hashlib
import locale
import logging
import multiprocessing
import os
import pickle
import random
import resource
import signal
import socket
import sys
import threading
import warnings


def _sum(value) -> str:
    return hashlib.sha256(pickle.dumps(value)).hexdigest()[:12]


def _loggers() -> dict[str, str]:
    found = {"root": logging.getLogger(), **logging.root.manager.loggerDict}
    return {
        name: f"level {each.level}, handlers {[f'{type(h).__name__} {h.level}' for h in each.handlers]}, "
        f"filters {len(each.filters)}, propagate {each.propagate}, disabled {each.disabled}"
        for name, each in found.items()
        if isinstance(each, logging.Logger)
    }


def _finders() -> list[str]:
    """All but this package's own: of modules beside a recipe's files, and of Neural Compressor's until it is loaded."""
    own = ("dynamic_exit.core.user_modules", "dynamic_exit.integrations.import_hook")
    others = [each for each in sys.meta_path if type(each).__module__ not in own]
    return [getattr(each, "__name__", type(each).__name__) for each in others]


def _umask() -> int:
    now = os.umask(0o22)
    os.umask(now)
    return now


def _python() -> dict[str, dict]:
    hooks = ("excepthook", "displayhook", "unraisablehook", "stdout", "stderr", "stdin", "breakpointhook")
    return {
        "environment": dict(os.environ),
        "path": {str(place): entry for place, entry in enumerate(sys.path)},
        "logging": _loggers() | {"disabled": str(logging.root.manager.disable)},
        "warnings": {str(each): "there" for each in warnings.filters},
        "hooks": {name: id(getattr(sys, name)) for name in hooks}
        | {"thread": id(threading.excepthook), "showwarning": id(warnings.showwarning), "trace": repr(sys.gettrace())},
        "imports": {"finders": _finders(), "hooks": len(sys.path_hooks)},
        "signals": {str(each): repr(signal.getsignal(each)) for each in signal.valid_signals()},
        "limits": {
            "recursion": sys.getrecursionlimit(),
            "digits": sys.get_int_max_str_digits(),
            "switch": sys.getswitchinterval(),
            "socket": socket.getdefaulttimeout(),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "collector": (gc.isenabled(), gc.get_threshold()),
            "cores": sorted(os.sched_getaffinity(0)),
        },
        "process": {
            "folder": os.getcwd(),
            "umask": _umask(),
            "locale": locale.setlocale(locale.LC_ALL),
            "start method": multiprocessing.get_start_method(allow_none=True),
            "children": sorted(each.name for each in multiprocessing.active_children()),
            "threads": sorted(each.name for each in threading.enumerate() if not each.daemon),
        },
        "python's randomness": {"state": _sum(random.getstate())},
    }  # fmt: skip


def _modules() -> dict[str, dict]:
    """What third parties hold, of those that are imported."""
    found, there = {}, sys.modules.get
    if numpy := there("numpy"):
        found["numpy's randomness"] = {"state": _sum(numpy.random.get_state(legacy=False))}
        found["numpy"] = {"errors": numpy.geterr(), "printing": repr(numpy.get_printoptions())}
    if torch := there("torch"):
        found["torch's randomness"] = {"state": _sum(torch.get_rng_state().numpy().tobytes())}
        found["torch"] = _torch(torch)
    if csv := there("csv"):
        found["csv"] = {"field size": csv.field_size_limit()}
    if matplotlib := there("matplotlib"):
        settings = dict.items(matplotlib.rcParams)  # asking for the backend by its key would choose one
        found["matplotlib"] = {key: repr(value) for key, value in settings}
    if image := there("PIL.Image"):
        found["Pillow"] = {"pixels": image.MAX_IMAGE_PIXELS}
        if file := there("PIL.ImageFile"):
            found["Pillow"]["truncated"] = file.LOAD_TRUNCATED_IMAGES
    if there("transformers"):
        from transformers.utils import logging as said

        found["transformers"] = {"verbosity": said.get_verbosity(), "bars": said.is_progress_bar_enabled()}
    return found


def _torch(torch) -> dict:
    backends = torch.backends
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "type": str(torch.get_default_dtype()),
        "device": str(torch.get_default_device()),
        "determinism": (torch.are_deterministic_algorithms_enabled(), torch.get_deterministic_debug_mode()),
        "precision": torch.get_float32_matmul_precision(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()),
        "fused attention": backends.mha.get_fastpath_enabled(),
        "backends": (
            backends.mkldnn.enabled, backends.cudnn.enabled, backends.cudnn.benchmark, backends.cudnn.deterministic,
            backends.cuda.matmul.allow_tf32, backends.quantized.engine, backends.opt_einsum.enabled,
        ),
    }  # fmt: skip


def snapshot() -> dict[str, dict]:
    """Return what the process holds: part -> name -> plain value."""
    return _python() | _modules()


def changes(before: dict[str, dict], after: dict[str, dict]) -> dict[str, dict[str, list]]:
    """Return what differs: part -> name -> [value before, value after], None where there was or is none.

    Parts that were not there before, as their module was not imported, and new loggers are left out.
    """
    found = {}
    for part in before:
        names = before[part] if part == "logging" else before[part] | after[part]
        pairs = {name: [before[part].get(name), after[part].get(name)] for name in names}
        found[part] = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return {part: differing for part, differing in found.items() if differing}
