"""Archives from a GPU and for one, and models that are handed in from it; `gpu.py` runs it."""

import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from gpu_chain import TOLERANCE, Check, PooledHead
from gpu_training import digits
from torch import Tensor, nn

from dynamic_exit.cost import measure_latency, node_macs
from dynamic_exit.errors import DynamicExitError
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.runtime.archive import load_model, save_model
from dynamic_exit.runtime.model import DynamicExitModel


class Tokens(nn.Module):
    """A small transformer that makes its positions and its mask in the forward pass, as many models do."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.words, self.positions = nn.Embedding(100, width), nn.Embedding(32, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(3)))
        self.last = nn.Linear(width, 5)

    def forward(self, tokens):
        hidden = self.words(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        return self.last(self.blocks(hidden).mean(1))


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm, self.pairs, self.mix = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, hidden):
        query, key, value = self.pairs(self.norm(hidden)).chunk(3, dim=2)
        length = hidden.shape[1]
        mask = torch.full((length, length), -1e4, device=hidden.device).triu(1)
        return hidden + self.mix(torch.softmax(query @ key.transpose(1, 2) * 0.125 + mask, dim=2) @ value)


def archives(device: str, small: bool, check: Check) -> None:
    """Chains of convolutions, of patches and of tokens: archives from the GPU, and archives moved to it."""
    import timm

    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    images, tokens = torch.randn(8, 3, 64, 64), torch.randint(100, (8, 16))
    vit = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=5)
    worlds = {
        "convolutions": (timm.create_model("resnet18", num_classes=5), images, None),
        "patches": (vit, images, None),
        "tokens": (Tokens(), tokens, ["tokens"]),
    }
    for name, (model, inputs, keywords) in worlds.items():

        def captured(place: str) -> DynamicExitModel:
            there = copy.deepcopy(model).eval().to(place)  # noqa: B023
            return _chain(Classifier(there, keywords=keywords), inputs.to(place))  # noqa: B023

        known = captured("cpu")
        compared = Compared(name, known, inputs, check)
        compared(f"the chain on {device}", lambda: copy.deepcopy(known).to(device), device)  # noqa: B023
        compared(f"captured on {device}", lambda: captured(device), device)  # noqa: B023
        compared(f"captured on {device}, moved to the CPU", lambda: captured(device).to("cpu"), "cpu")  # noqa: B023
        with tempfile.TemporaryDirectory() as base:
            _round_trips(compared, Path(base), device)


def _chain(classifier: Classifier, inputs: Tensor) -> DynamicExitModel:
    """One exit about halfway, where half of the rows leave."""
    program = capture(classifier, (inputs,))
    cuts = find_cuts(program, node_macs(program, (inputs,)))
    cut = min(cuts, key=lambda each: abs(each.share - 0.5))
    torch.manual_seed(1)
    head = PooledHead(cut.shape[0] if len(cut.shape) == 3 else cut.shape[-1], 5).eval().to(inputs.device)
    chain = DynamicExitModel(split(program, [cut]), input_names=program.input_names, exits={"exit": (0, head)})
    with torch.no_grad():
        confidence = torch.softmax(chain.all_stage_logits(inputs)["exit"], dim=1).amax(1).sort().values
    chain.set_thresholds([float(confidence[len(inputs) // 2 - 1 :][:2].mean())])
    return chain


class Compared:
    """Compares models with a known one on the CPU."""

    def __init__(self, name: str, known: DynamicExitModel, inputs: Tensor, check: Check):
        self.name, self.known, self.inputs, self.check = name, known, inputs, check

    @torch.no_grad()
    def __call__(self, what: str, make: Callable[[], DynamicExitModel], device: str) -> None:
        """Check that a model, once it is made, answers on a device as the known one on the CPU."""
        try:
            found, expected = make()(self.inputs.to(device)), self.known(self.inputs)
        except Exception as failure:  # what comes after may still work
            self.check(f"{self.name}: {what}: {type(failure).__name__}: {str(failure)[:300]}", False)
            return
        difference = float((found.logits.cpu() - expected.logits).abs().max() / expected.logits.abs().max())
        same = torch.equal(found.exit_index.cpu(), expected.exit_index) and str(found.logits.device).startswith(device)
        self.check(f"{self.name}: {what}: same exits, logits within {difference:.1e}", same and difference <= TOLERANCE)


def _round_trips(compared: Compared, base: Path, device: str) -> None:
    known, inputs = compared.known, compared.inputs

    def saved(model: DynamicExitModel, folder: Path) -> Path:
        save_model(model, folder, [inputs])
        return folder

    from_cpu = saved(known, base / "cpu")
    compared(f"an archive of the CPU on {device}", lambda: load_model(from_cpu).to(device), device)
    folder = base / "device"
    compared(
        f"an archive of {device} on the CPU",
        lambda: load_model(saved(copy.deepcopy(known).to(device), folder)),
        "cpu",
    )
    compared(f"an archive of {device}, moved there", lambda: load_model(folder).to(device), device)
    torch.save({"inputs": inputs, "logits": known(inputs).logits.detach()}, base / "known.pt")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_GPU, folder, base / "known.pt"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True,
    )  # fmt: skip
    last = (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else "same logits"
    compared.check(f"{compared.name}: an archive of {device} where there is no GPU: {last}", done.returncode == 0)


#: Reads a folder of `save_model` and compares.
WITHOUT_GPU = """
import sys, torch
from dynamic_exit.runtime.archive import load_model
assert not torch.cuda.is_available()
known = torch.load(sys.argv[2], weights_only=True)
found = load_model(sys.argv[1])(known["inputs"]).logits
assert (found - known["logits"]).abs().max() <= 1e-3 * known["logits"].abs().max()
"""


def given(device: str, small: bool, check: Check) -> None:
    """Models that a user hands in, and clocks."""
    if device == "cuda":
        _clocks(check)
    tokens = torch.zeros(2, 8, dtype=torch.int64)
    _refused(
        "capture of a model there with an input here",
        lambda: capture(Classifier(Tokens().eval().to(device)), (tokens,)), device, check,
    )  # fmt: skip
    try:
        from dynamic_exit.integrations.neural_compressor import compress
    except ImportError as failure:
        print(f"  skipped: passes under Neural Compressor, which cannot be imported here ({failure})")
        return
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 64, 64), nn.ReLU(), nn.Linear(64, 10),
    ).eval()  # fmt: skip
    images = digits(1).train[0]
    for name in ("", "rtn", "static_quant", "pruning"):
        static = [{name: {"ratio": 0.25} if name == "pruning" else {}}] if name else []
        passes = [*static, {"early_exit": {"count": 1}}]
        try:
            made = compress(model, passes, run_fn=lambda model: [model(each) for each in images[:400].split(100)])
            _check_compressed(name or "no other pass", made, model, images[:64], device, check)
        except Exception as failure:  # other passes may still work
            check(f"compress, {name}: {type(failure).__name__}: {str(failure)[:300]}", False)
    for name in ("gptq", "awq"):
        try:
            _check_language_model(name, compress, check)
        except Exception as failure:
            check(f"compress, {name}: {type(failure).__name__}: {str(failure)[:300]}", False)
    there, here = copy.deepcopy(model).to(device), images[:8].to(device)
    call = lambda model: model(here)  # noqa: E731
    exits = {"early_exit": {"count": 1}}
    recipe = {"dynamic_exit": exits, "export": {"directory": "never"}}
    _refused("compress of a model there, passes", lambda: compress(there, exits, run_fn=call), device, check)
    _refused("compress of a model there, a recipe", lambda: compress(there, recipe), device, check)


@torch.no_grad()
def _check_compressed(
    name: str, made: DynamicExitModel, model: nn.Module, images: Tensor, device: str, check: Check
) -> None:  # fmt: skip
    answer = made(images)
    agree = float((answer.logits.argmax(1) == model(images).argmax(1)).float().mean())
    check(f"compress, {name} and exits: made on the CPU, {agree:.0%} of the answers kept", agree > 0.8)
    moved = copy.deepcopy(made).to(device)(images.to(device))
    same = float((moved.exit_index.cpu() == answer.exit_index).float().mean())
    check(f"compress, {name} and exits: on {device} {same:.0%} of the exits kept", same > 0.9)


@torch.no_grad()
def _check_language_model(name: str, compress: Callable[..., nn.Module], check: Check) -> None:
    """Algorithms of Neural Compressor that work on a GPU by themselves, on a model that is on the CPU."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 32}
    config = LlamaConfig(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, use_cache=False, **sizes)
    model, words = LlamaForCausalLM(config).eval(), torch.randint(3, 64, (24, 12))
    made = compress(model, {name: {}}, run_fn=lambda model: [model(rows) for rows in words.split(12)] and None)
    places = {str(tensor.device) for tensor in [*made.parameters(), *made.buffers()]}
    close = nn.functional.cosine_similarity(made(words).logits.flatten(), model(words).logits.flatten(), dim=0)
    check(f"compress, {name}: on {', '.join(places)}, logits at {close:.2f} of the float model's", close > 0.8)


def _refused(what: str, call: Callable[[], object], device: str, check: Check) -> None:
    if device == "cpu":
        print(f"  skipped: {what}")
        return
    try:
        call()
    except DynamicExitError as refusal:
        check(f"{what} is refused: {refusal}", "cuda" in str(refusal) and "\n" not in str(refusal))
    except Exception as failure:
        check(f"{what}: {type(failure).__name__}: {str(failure)[:300]}", False)
    else:
        check(f"{what} is refused", False)


def _clocks(check: Check) -> None:
    """`measure_latency` against the GPU's own clock."""
    one = torch.randn(4096, 4096, device="cuda")
    timed = {}
    for name, wait in {"with": torch.cuda.synchronize, "without": None}.items():
        timed[name] = measure_latency({"product": lambda: one @ one}, rounds=5, synchronize=wait)["product"].median
        torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(100):
        one @ one
    end.record()
    torch.cuda.synchronize()
    own = start.elapsed_time(end) / 1e5
    check(f"measure_latency over the GPU's own clock {timed['with'] / own:.2f} with synchronize, "
          f"{timed['without'] / own:.2f} without", 0.8 < timed["with"] / own < 1.25)  # fmt: skip
