import os
import subprocess
import sys

SCRIPT = """
import sys
from dynamic_exit.passes.quantization import int8_options

assert len(int8_options({"static_quant": {"act_algo": "kl"}, "rtn": {"bits": 8}})) == 2
assert "neural_compressor" not in sys.modules, "which takes seconds"

from dynamic_exit.passes.quantization.config import known_algorithms

assert "rtn" in known_algorithms()
from neural_compressor.torch.algorithms.weight_only import rtn

assert rtn.transformers
"""


def test_recipes_import_neural_compressor_if_need_be_after_transformers_and_without_its_messages():
    environment = {key: value for key, value in os.environ.items() if key != "LOGLEVEL"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
