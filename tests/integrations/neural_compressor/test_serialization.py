"""Models made in memory are saved and loaded, where Neural Compressor can only save its own."""

import json
import math

import pytest
import tiny
import torch
from neural_compressor.torch.export import export
from neural_compressor.torch.quantization import DynamicQuantConfig, RTNConfig, StaticQuantConfig, quantize
from neural_compressor.torch.quantization import load as nc_load
from neural_compressor.torch.quantization import save as nc_save
from safetensors.torch import save_file
from torch import nn

from dynamic_exit import EarlyExitConfig, compress, load, save
from dynamic_exit.errors import DynamicExitError

INPUTS = torch.from_numpy(tiny.samples("train")[0])
OTHERS = torch.from_numpy(tiny.samples("test")[0])
EXITS = {"count": 2, "training": {"epochs": 3}}


def feed(model):
    for rows in INPUTS.split(48):
        model(rows)


def alike(one, two):
    with torch.no_grad():
        return all(torch.equal(first, second) for first, second in zip(one(OTHERS), two(OTHERS), strict=True))


@pytest.mark.parametrize(
    "static",
    [[], [StaticQuantConfig()], [DynamicQuantConfig()], [RTNConfig()], [{"pruning": {"ratio": 0.5}}]],
    ids=["float", "int8", "int8 of each batch", "weights", "pruned"],
)
def test_a_dynamic_model_answers_the_same_once_loaded(static, tmp_path):
    dynamic = compress(tiny.backbone(), [*static, EarlyExitConfig(**EXITS)], run_fn=feed)
    dynamic.set_thresholds([-1, math.inf])
    dynamic.set_thresholds([tiny.between(dynamic(OTHERS).confidence.detach()), math.inf])
    save(dynamic, tmp_path / "saved")
    loaded = load(tmp_path / "saved").train().eval()
    assert (loaded.chain, loaded.thresholds, loaded.fuse) == (dynamic.chain, dynamic.thresholds, dynamic.fuse)
    assert alike(dynamic, loaded)
    assert 0 < (loaded(OTHERS).exit_index == 0).sum() < len(OTHERS)
    if static and isinstance(static[0], type(StaticQuantConfig()) | DynamicQuantConfig):
        weights = [tensor for tensor in loaded.segments.state_dict().values() if tensor.dim() > 1]
        assert {tensor.dtype for tensor in weights} == {torch.int8}


def test_what_was_compressed_in_place_is_saved_as_what_it_became(tmp_path):
    given = tiny.backbone()
    dynamic = compress(given, EarlyExitConfig(**{**EXITS, "count": 1}), run_fn=feed, inplace=True)
    save(given, tmp_path / "saved")
    assert alike(dynamic, load(tmp_path / "saved"))


def test_what_was_loaded_can_be_saved_again(tmp_path):
    dynamic = compress(tiny.backbone(), EarlyExitConfig(**{**EXITS, "count": 1}), run_fn=feed)
    save(dynamic, tmp_path / "saved")
    with pytest.raises(DynamicExitError, match="`example_inputs` are needed; give two rows of them$"):
        save(load(tmp_path / "saved"), tmp_path / "again")
    save(load(tmp_path / "saved"), tmp_path / "again", OTHERS[:2])
    assert alike(dynamic, load(tmp_path / "again"))


def test_savers_are_saved_too(tmp_path):
    (tmp_path / "models.py").write_text(tiny.MODELS)
    save_file(tiny.saver(2).state_dict(), tmp_path / "saver.safetensors")
    candidate = {"source": "python", "name": f"{tmp_path}/models.py:saver", "weights": f"{tmp_path}/saver.safetensors"}
    dynamic = quantize(tiny.backbone(), {"tiny_saver": {"candidates": [candidate]}}, run_fn=feed)
    save(dynamic, tmp_path / "saved")
    assert load(tmp_path / "saved").chain == dynamic.chain == ("saver",)
    assert alike(dynamic, load(tmp_path / "saved"))


@pytest.mark.parametrize(
    "passes",
    [StaticQuantConfig(), RTNConfig(bits=8), {"pruning": {"ratio": 0.5}}],
    ids=["int8", "weights", "pruned"],
)
def test_so_does_one_without_stages(passes, tmp_path):
    made = compress(tiny.backbone(), passes, run_fn=feed)
    save(made, tmp_path / "saved", OTHERS[:2])
    loaded = load(tmp_path / "saved").eval()
    for rows in (1, 2, len(OTHERS)):
        with torch.no_grad():
            assert torch.equal(loaded(OTHERS[:rows]), made(OTHERS[:rows]))


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = tiny.backbone()

    def forward(self, first, second):
        return {"logits": self.inner(first) - self.inner(second)}


def test_inputs_by_name(tmp_path):
    model = Named().eval()
    save(model, tmp_path / "saved", {"second": OTHERS[:3], "first": OTHERS[3:6]})
    loaded, inputs = load(tmp_path / "saved"), {"second": OTHERS[:9], "first": OTHERS[9:18]}
    with torch.no_grad():
        assert torch.equal(loaded(**inputs), model(**inputs)["logits"])


def test_neural_compressor_saves_nothing_but_its_own(tmp_path):
    dynamic = quantize(tiny.backbone(), EarlyExitConfig(**EXITS), run_fn=feed)
    assert dynamic.is_quantized
    with pytest.raises(AttributeError, match="qconfig"):
        nc_save(dynamic, tmp_path / "plain")
    save(dynamic, tmp_path / "ours")
    with pytest.raises(ValueError, match="qconfig.json"):
        nc_load(tmp_path / "ours")
    assert alike(dynamic, load(tmp_path / "ours"))


def test_neural_compressors_own_result_needs_its_class_or_its_own_arguments(tmp_path):
    """A PT2E result has one mode and refuses to be told so, and the common `save` hands it a path as example inputs."""
    body = export(tiny.backbone(), (INPUTS[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    plain = quantize(body, StaticQuantConfig(), run_fn=feed)
    with pytest.raises(NotImplementedError):
        plain.eval()
    with pytest.raises(Exception, match="str|Posix|tuple"):
        nc_save(plain, str(tmp_path / "plain"))
    ours = compress(tiny.backbone(), StaticQuantConfig(), run_fn=feed)
    save(ours.eval(), tmp_path / "ours", OTHERS[:2])
    assert torch.equal(load(tmp_path / "ours")(OTHERS), plain(OTHERS))


def test_refusals(tmp_path):
    model = tiny.backbone()
    with pytest.raises(DynamicExitError) as refused:
        save(model, tmp_path / "new")
    assert str(refused.value) == (
        "a model is saved as a graph, for which `example_inputs` are needed; give two rows of them"
    )
    save(model, tmp_path / "new", OTHERS[:2])
    with pytest.raises(DynamicExitError, match="is not an empty folder; give a new one$"):
        save(model, tmp_path / "new", OTHERS[:2])
    with pytest.raises(DynamicExitError, match="needs an example batch of two or more rows"):
        save(model, tmp_path / "one row", OTHERS[:1])
    assert not (tmp_path / "one row").exists()
    description = tmp_path / "new" / "config.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), "_version": 7}))
    with pytest.raises(DynamicExitError, match="is of version 7, this program reads up to 2"):
        load(tmp_path / "new")
    description.write_text("[]")
    with pytest.raises(DynamicExitError, match="holds a model of type 'None'; give one of type 'dynamic_exit'$"):
        load(tmp_path / "new")
    with pytest.raises(DynamicExitError):
        load(tmp_path / "nowhere")
