"""The pass of docs/how-to/static-pass.md, word for word, in a distribution of its own."""

import os
import sys
from pathlib import Path

import pytest
import torch

from dynamic_exit import DynamicExitModelForImageClassification

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "helpers"))
import fork_server  # noqa: E402
import tiny  # noqa: E402  (the tiny world lies beside the other tests)
from distributions import install_pages  # noqa: E402

SCRIPT = """
import dynamic_exit, tiny, torch
from neural_compressor.torch.quantization import quantize
from dynamic_exit.errors import PassError

inputs, model = torch.from_numpy(tiny.samples("train")[0]), tiny.backbone()
expected = [value.round(decimals=1) for value in model.parameters()]
feed = lambda model: model(inputs)
for made in (quantize(model, {"rounding": {"digits": 1}}, run_fn=feed),
             dynamic_exit.compress(model, {"rounding": {"digits": 1}}, run_fn=feed)):
    assert all(torch.equal(one, two) for one, two in zip(made.parameters(), expected, strict=True))
assert all(torch.equal(one, two) for one, two in zip(model.parameters(), tiny.backbone().parameters(), strict=True))
try:
    quantize(model, {"rounding": {"digts": 1}}, run_fn=feed)
except PassError as error:
    assert str(error) == "unknown key 'rounding.digts'; did you mean 'digits'?", error
else:
    raise SystemExit("a misspelt parameter was taken")
print("done")
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Where the distribution of the page is installed."""
    site = tmp_path_factory.mktemp("own_pass") / "site"
    install_pages(site, "docs/how-to/static-pass.md")
    places = [str(site), str(REPOSITORY / "tests" / "helpers"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def run(environment, script, *arguments):
    done = fork_server.run(script, *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_neural_compressor_and_compress_run_it(environment):
    assert "done" in run(environment, SCRIPT).splitlines()


def test_the_command_lists_it(environment):
    listed = run(environment, fork_server.COMMAND, "passes")
    assert "rounding  Rounds weights. (my-package)".split() in [line.split() for line in listed.splitlines()]
    assert "digits" in run(environment, fork_server.COMMAND, "passes", "rounding")


def test_a_recipe_runs_it(environment, tmp_path):
    changes = {"dynamic_exit__tiny_saver": None, "dynamic_exit__tuning__points": []}
    tiny.build(tmp_path)
    values = tiny.recipe(quantization=None, **changes)
    late = {key: values.pop(key) for key in ("dynamic_exit", "export")}
    recipe = tiny.write(tmp_path, {**values, "rounding": {"digits": 1}, **late})
    assert "rounding: done" in run(environment, fork_server.COMMAND, "run", recipe)
    made = DynamicExitModelForImageClassification.from_pretrained(tmp_path / "out")
    made.set_operating_point("backbone")
    rounded, inputs = tiny.backbone(), torch.from_numpy(tiny.samples("test")[0])
    with torch.no_grad():
        for value in rounded.parameters():
            value.copy_(value.round(decimals=1))
        torch.testing.assert_close(made(inputs).logits, rounded(inputs), atol=1e-4, rtol=1e-4)
        assert (made(inputs).logits - tiny.backbone()(inputs)).abs().max() > 1e-2
