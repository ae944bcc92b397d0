"""Neural Compressor knows the passes whichever is imported first; each test runs in a process that knows neither."""

import subprocess
import sys

import fork_server
import pytest

HELPERS = """
import importlib.util, sys

def registered():
    from neural_compressor.common.base_config import config_registry
    from neural_compressor.torch.utils import algos_mapping
    names = ["pruning", "tiny_saver", "early_exit", "dynamic_exit"]
    known = config_registry.get_cls_configs()["torch"]
    return all(name in known and name in algos_mapping for name in names)

def finders():
    return [type(each).__module__ for each in sys.meta_path if "hook" in type(each).__module__]

def awaited():
    from dynamic_exit.integrations import import_hook
    return [name for name in import_hook._callbacks if name.startswith("neural_compressor")]
"""


def run(script, fails=False):
    """Run a script after `HELPERS` where libraries are imported; return what it printed, or its last error line."""
    done = fork_server.run(HELPERS + script, imports=fork_server.LIBRARIES)
    assert (done.returncode != 0) == fails, done.stderr[-3000:]
    return done.stderr.splitlines()[-1] if fails else done.stdout.strip()


def test_neither_imports_the_other_nor_torch():
    script = """
before = list(sys.meta_path)
import dynamic_exit
heavy = ("torch", "transformers", "numpy", "pydantic", "neural_compressor")
assert [name for name in heavy if name in sys.modules] == []
assert sys.meta_path[1:] == before
print(finders())
"""
    fresh = subprocess.run([sys.executable, "-c", HELPERS + script], capture_output=True, text=True, check=True)
    assert fresh.stdout.strip() == "['dynamic_exit.integrations.import_hook']"


@pytest.mark.parametrize(
    "statement",
    [
        "import neural_compressor.torch.quantization",
        "import dynamic_exit.integrations.neural_compressor",
    ],
)
def test_this_package_first(statement):
    script = f"""
before = list(sys.meta_path)
import dynamic_exit
dynamic_exit.hook.install()
assert len(sys.meta_path) == len(before) + 1, "one finder, however often it is installed"
{statement}
assert awaited() == []
print(registered())
"""
    assert run(script) == "True"


def test_neural_compressor_first():
    script = """
import neural_compressor.torch.quantization
import dynamic_exit
assert awaited() == []
print(registered())
"""
    assert run(script) == "True"


def test_the_module_keeps_its_own_loader():
    script = """
import neural_compressor.common  # registers no algorithms
import dynamic_exit
spec = importlib.util.find_spec("neural_compressor.torch.quantization")
assert "quantize" in spec.loader.get_source(spec.name), "found, but not imported"
from importlib.machinery import SourceFileLoader
from neural_compressor.torch.quantization.config import RTNConfig
module = sys.modules["neural_compressor.torch.quantization"]
assert type(module.__loader__) is type(module.__spec__.loader) is SourceFileLoader
print(registered())
"""
    assert run(script) == "True"


def test_an_error_of_the_registration_surfaces_at_every_import():
    script = """
import dynamic_exit
import neural_compressor.version
neural_compressor.version.__version__ = "3.9.1"
try:
    import neural_compressor.torch.quantization
except Exception as error:
    assert "3.9.1 is too old" in str(error) and "neural_compressor.torch.quantization" not in sys.modules
import neural_compressor.torch.quantization
"""
    expected = "dynamic_exit.errors.PassError: Neural Compressor 3.9.1 is too old; install 3.10 or newer"
    assert run(script, fails=True) == expected


def test_threads_that_import_either_end_with_the_passes_registered():
    script = """
import importlib, threading
import transformers  # Neural Compressor alone already fails where another thread is just importing it
import dynamic_exit
failures = []

def load(name):
    try:
        importlib.import_module(name)
    except BaseException as error:
        failures.append(error)

names = ["neural_compressor.torch.quantization", "dynamic_exit.integrations.neural_compressor"] * 2
threads = [threading.Thread(target=load, args=(name,)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
assert awaited() == []
print(registered())
"""
    assert run(script) == "True"
