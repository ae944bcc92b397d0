"""A chain on a GPU: its answers against the CPU's, its latency against its backbone's; `gpu.py` runs it."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dynamic_exit.cost import ChainCost, measure_latency, node_macs
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.runtime.model import DynamicExitModel
from dynamic_exit.runtime.output import DynamicOutput
from dynamic_exit.runtime.recorder import make_records

#: Notes what holds and what does not.
Check = Callable[[str, bool], None]
#: Of logits on a GPU, against those on the CPU and in units of their size, without TF32.
TOLERANCE = 1e-3


class PooledHead(nn.Module):
    """Global pooling and one linear layer; large weights, so that confidences differ between rows."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.linear = nn.Linear(channels, classes)
        nn.init.normal_(self.linear.weight, std=2.0)

    def forward(self, hidden):
        pooled = hidden.mean((2, 3)) if hidden.dim() == 4 else hidden.mean(1)
        return self.linear(nn.functional.layer_norm(pooled, pooled.shape[1:]))


def chain(device: str, small: bool, check: Check) -> None:
    """A ResNet-50 with a small saver and two exits: answers and latency."""
    model, static, images, cases = _resnet_chain(small)
    on_cpu = {case: _answers(model, thresholds, images) for case, thresholds in cases.items()}
    moved = copy.deepcopy(model).to(device)
    backbone = copy.deepcopy(static).to(device)
    inputs = images.to(device)
    for exact in (True, False):
        torch.backends.cudnn.allow_tf32 = not exact
        for case, thresholds in cases.items():
            found, expected = _answers(moved, thresholds, inputs), on_cpu[case]
            difference = float((found.logits.cpu() - expected.logits).abs().max() / expected.logits.abs().max())
            others = int((found.exit_index.cpu() != expected.exit_index).sum())
            what = (
                f"chain, {case} leaves: {others} of {len(images)} rows at another exit, logits within {difference:.1e}"
            )
            if exact:
                check(what, others == 0 and difference <= TOLERANCE)
            else:
                print(f"  with TF32, torch's default: {what}")
    few = images[:64].numpy()
    records = [
        make_records(each, [few], torch.zeros(len(few)).long().numpy(), **_costs(model)) for each in (model, moved)
    ]
    worst = float(abs(records[0].topk_probabilities - records[1].topk_probabilities).max())
    check(f"records of the chain: probabilities within {worst:.1e} of the CPU's", worst < 0.02)
    print(f"\n  latency of the chain over its backbone, both on {device}, medians of interleaved runs (quartiles)")
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    for name, dtype in types.items():
        moved, backbone, inputs = moved.to(dtype), backbone.to(dtype), inputs.to(dtype)
        for batch in (1, 4) if small else (1, 64, 256):
            for case, thresholds in cases.items():
                moved.set_thresholds(thresholds)
                rows = inputs[: max(2, batch)]  # at batch 1 a row that leaves and one that stays
                _print_latency(f"{name}, batch {batch}, {case} leaves", moved, backbone, rows.split(batch), small)


def _resnet_chain(small: bool) -> tuple[DynamicExitModel, nn.Module, Tensor, dict[str, list[float]]]:
    """The chain, its backbone as it was, images of which in turn one leaves early and one stays, and thresholds."""
    import timm

    torch.manual_seed(0)
    name, saver = ("resnet18", "resnet10t") if small else ("resnet50", "resnet10t")
    model, small_model = timm.create_model(name).eval(), timm.create_model(saver).eval()
    for each in (model, small_model):  # else all answers are as uncertain
        each.fc = nn.Sequential(nn.LayerNorm(each.fc.in_features), nn.Linear(each.fc.in_features, 1000)).eval()
        nn.init.normal_(each.fc[1].weight, std=0.1)
    size, count = (64, 12) if small else (224, 600)
    images = torch.randn(count, 3, size, size) * torch.rand(count, 1, 1, 1) + torch.randn(count, 3, 1, 1)
    program = capture(Classifier(model), (images[:2],))
    cuts = find_cuts(program, node_macs(program, (images[:2],)))
    chosen = [min(cuts, key=lambda cut, at=at: abs(cut.share - at)) for at in (0.35, 0.65)]
    heads = {cut.name: (place, PooledHead(cut.shape[0], 1000).eval()) for place, cut in enumerate(chosen)}
    dynamic = DynamicExitModel(
        split(program, chosen), input_names=program.input_names, savers={"saver": small_model}, exits=heads
    )
    cases = _cases(dynamic, images)
    leaves = _answers(dynamic, cases["half"], images).exit_index < len(dynamic.chain)
    gone, stay = leaves.nonzero().flatten(), (~leaves).nonzero().flatten()
    pairs = min(len(gone), len(stay))
    return dynamic, model, images[torch.stack([gone[:pairs], stay[:pairs]], dim=1).flatten()], cases


def _cases(model: DynamicExitModel, images: Tensor) -> dict[str, list[float]]:
    """Thresholds at which nothing, half of the rows (half of it at the saver), and everything leave early."""
    never, always = 2.0, float("-inf")
    left, half = torch.arange(len(images)), []
    with torch.no_grad():
        parts = [model.all_stage_logits(batch) for batch in images.split(64)]
    for stage, share in zip(model.chain, (1 / 4, 1 / 6, 1 / 5), strict=True):
        logits = torch.cat([part[stage] for part in parts])[left]
        confidence = torch.softmax(logits.float(), dim=1).amax(1)
        ordered, middle = confidence.sort(descending=True).values, max(1, round(share * len(left)))
        gaps = ordered[:-1] - ordered[1:]
        near = range(max(1, middle - len(left) // 40), min(len(gaps), middle + len(left) // 40) + 1)
        at = max(near, key=lambda place: float(gaps[place - 1]))  # rounding moves no row over the widest gap
        half.append(float((ordered[at - 1] + ordered[at]) / 2))
        left = left[confidence <= half[-1]]
    off, rest = float("inf"), [never] * (len(half) - 1)
    stages = {"nothing (stages off)": [off] * len(half), "nothing (exits on)": [off, *rest], "nothing": [never, *rest]}
    return {**stages, "half": half, "everything": [always, *rest]}


@torch.no_grad()
def _answers(model: DynamicExitModel, thresholds: list[float], images: Tensor) -> DynamicOutput:
    names = model.input_names
    found = [model.answer(thresholds, {names[0]: batch}) for batch in images.split(64)]
    return DynamicOutput(*(torch.cat(each) for each in zip(*found, strict=True)))


def _costs(model: DynamicExitModel) -> dict:
    stages = [*model.chain, "final"]
    positions = {name: place for place, name in enumerate(stages) if name != "saver"}
    own, prefix = ({name: float(name != free) for name in stages} for free in ("final", "saver"))
    return {"costs": ChainCost(own, prefix), "positions": positions}


def _print_latency(
    what: str, model: DynamicExitModel, backbone: nn.Module, batches: Sequence[Tensor], small: bool
) -> None:  # fmt: skip
    rows, on_gpu = sum(map(len, batches)), batches[0].is_cuda
    with torch.no_grad():
        gone = sum(int((model(each).exit_index < len(model.chain)).sum()) for each in batches) / rows

    def run(module: nn.Module) -> Callable[[], object]:
        return lambda: [module(each) for each in batches]

    found = measure_latency(
        {"static": run(backbone), "chain": run(model)}, batch=rows, rounds=3 if small else 11,
        time_limit=2 if small else 4, synchronize=torch.cuda.synchronize if on_gpu else None,
    )  # fmt: skip
    ours, plain = found["chain"], found["static"]
    ratio = f"{ours.median / plain.median:.2f} ({ours.low / plain.median:.2f} to {ours.high / plain.median:.2f})"
    quartiles = f"{plain.low / plain.median:.2f} to {plain.high / plain.median:.2f}"
    print(f"  {what:54} {ratio}, the backbone itself {quartiles}; {1e3 * plain.median * len(batches[0]):.2f} ms, "
          f"{gone:.0%} left early, {ours.rounds} rounds", flush=True)  # fmt: skip
