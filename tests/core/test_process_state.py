import json
import subprocess
import sys

SCRIPT = """
import json, random, sys

from dynamic_exit.core.process_state import preserve_process_state

found, before = {"light": "torch" not in sys.modules and "numpy" not in sys.modules}, random.getstate()
with preserve_process_state():
    import torch

    random.random(), torch.rand(3)
    sys.excepthook = print
found["random"] = random.getstate() == before
found["hook"] = sys.excepthook is sys.__excepthook__
found["imported"] = torch.equal(torch.get_rng_state(), torch.Generator().get_state())
before = torch.manual_seed(5).get_state()
with preserve_process_state():
    torch.rand(3)
found["given"] = torch.equal(torch.get_rng_state(), before)
print(json.dumps(found))
"""


def test_random_numbers_and_hooks_stay_whether_torch_is_imported_before_or_within():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 5 and all(found.values()), found
