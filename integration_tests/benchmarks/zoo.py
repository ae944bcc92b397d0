"""Sweep the model zoo: is each model captured, where can it be cut, do its segments answer what it answers?

    python integration_tests/benchmarks/zoo.py [--only TEXT] [--group GROUP] [--json FILE] [--seed 0]

Each model runs in a process of its own. Random weights; everything else is decided by the seed. Columns: route of
capture, number of cuts, multiply-adds, largest difference of logits from the model's at batch 1, 2 and 7 with
everything going to the final and with random rows leaving at every cut, seconds to capture and cut, and the largest
extra memory of capturing and cutting as a multiple of the model's own.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import time
from pathlib import Path

import torch
from torch import nn
from zoo_models import zoo

from dynamic_exit.cost import count_macs, node_macs
from dynamic_exit.errors import DynamicExitError
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.runtime.model import DynamicExitModel

BATCHES = (1, 2, 7)
TIME_LIMIT = 400


class RandomHead(nn.Module):
    """Is sure of about a third of the rows, whatever they hold."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes

    def forward(self, hidden):
        logits = torch.zeros(hidden.shape[0], self.classes)
        logits[:, 0] = torch.where(torch.rand(hidden.shape[0]) < 0.33, 50.0, 0.0)
        return logits


def main() -> None:
    arguments = _arguments()
    rows = []
    for group, name, make in zoo():
        if (arguments.only and arguments.only not in name) or (arguments.group and arguments.group != group):
            continue
        row = {"group": group, "name": name, "seed": arguments.seed} | _in_child(make, arguments.seed)
        rows.append(row)
        print(_line(row), flush=True)
        if arguments.json:
            _write(Path(arguments.json), row)
    print(json.dumps(_summary(rows), indent=2))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="models whose name holds this text")
    parser.add_argument("--group", help="timm, torchvision, large, 'hugging face' or 'by hand'")
    parser.add_argument("--json", help="file to write; what it holds about other models is kept")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _write(path: Path, row: dict) -> None:
    """Add one model to the file, which keeps what it says about others: a sweep can be stopped and gone on with."""
    known = json.loads(path.read_text())["rows"] if path.exists() else []
    kept = [each for each in known if (each["group"], each["name"]) != (row["group"], row["name"])]
    rows = sorted([*kept, row], key=lambda each: (each["group"], each["name"]))
    versions = {"machine": platform.machine(), "torch": torch.__version__}
    path.write_text(json.dumps({"summary": _summary(rows), **versions, "rows": rows}, indent=1) + "\n")


def _in_child(make, seed: int) -> dict:
    """Run one model in a forked process: memory is measured cleanly, and nothing it does can hurt the next."""
    receive, send = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(make, seed, send))
    child.start()
    send.close()
    row = {"error": f"no answer within {TIME_LIMIT} s"}
    if receive.poll(TIME_LIMIT):
        try:
            row = json.loads(receive.recv_bytes())
        except EOFError:
            row = {"error": "the process died"}
    child.kill()
    child.join()
    return row


def _child(make, seed: int, send) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    try:
        row = measure(*make())
    except DynamicExitError as refusal:
        row = {"refused": type(refusal).__name__, "error": str(refusal)}
    except Exception as failure:
        row = {"error": f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"[:300]}
    send.send_bytes(json.dumps(row).encode())


def measure(model: nn.Module, inputs: tuple, keywords: tuple | None) -> dict:
    """Capture, cut and compare one model."""
    before = _digest(model)
    size = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    with torch.no_grad():
        Classifier(model, keywords=keywords)(*inputs)
    resident = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    began = time.perf_counter()
    classifier = Classifier(model, keywords=keywords)
    program = capture(classifier, inputs)
    captured = time.perf_counter() - began
    macs = node_macs(program, inputs)
    cuts = find_cuts(program, macs)
    segments = split(program, cuts)
    seconds = time.perf_counter() - began
    extra = _memory("VmHWM") - resident
    whole = count_macs(classifier, inputs)
    parts = sum(count_macs(segment, segment.example_inputs) for segment in segments)
    row = {
        "route": program.route,
        "cuts": len(cuts),
        "names": [cut.name for cut in cuts],
        "macs": whole,
        "macs_of_segments": parts,
        "capture_seconds": round(captured, 2),
        "seconds": round(seconds, 2),
        "model_bytes": size,
        "extra_bytes": extra,
        "state_unchanged": before == _digest(model) and not any(each.training for each in model.modules()),
    }
    return row | _differences(classifier, program, segments, inputs)


def _differences(classifier, program, segments, inputs) -> dict:
    exits = {f"exit {place}": (place, RandomHead(program.classes)) for place in range(len(segments) - 1)}
    dynamic = DynamicExitModel(segments, input_names=program.input_names, exits=exits)
    all_final = some_leave = largest = 0.0
    left = 0
    with torch.no_grad():
        for batch in BATCHES:
            rows = tuple(_rows(x, batch) for x in inputs)
            expected = classifier(*rows)
            largest = max(largest, expected.abs().max().item())
            dynamic.set_thresholds([float("inf")] * len(exits))
            all_final = max(all_final, (dynamic(*rows).logits - expected).abs().max().item())
            dynamic.set_thresholds([0.9] * len(exits))
            answer = dynamic(*rows)
            final = answer.exit_index == len(exits)
            left += int((~final).sum())
            if final.any():
                some_leave = max(some_leave, (answer.logits - expected)[final].abs().max().item())
    return {"difference": all_final, "difference_after_exits": some_leave, "rows_left": left, "largest_logit": largest}


def _rows(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    if tensor.is_floating_point():
        return torch.randn(batch, *tensor.shape[1:])
    return tensor[torch.randint(0, tensor.shape[0], (batch,))]


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _memory(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"the kernel does not tell {field}")


def _line(row: dict) -> str:
    head = f"{row['group']:12} {row['name']:28} "
    if "cuts" not in row:
        return head + f"{row.get('refused', 'FAILED')}: {row['error']}"
    added = abs(row["macs"] - row["macs_of_segments"]) <= 1e-3 * row["macs"]
    return head + (
        f"{row['route']:6} cuts {row['cuts']:3}  {row['macs'] / 1e6:9.2f} M  diff {row['difference']:.1e} "
        f"{row['difference_after_exits']:.1e}  {row['seconds']:5.1f} s  "
        f"memory {row['extra_bytes'] / max(row['model_bytes'], 1):5.2f}x"
        f"{'' if added else '  MACS DO NOT ADD UP'}{'' if row['state_unchanged'] else '  STATE CHANGED'}"
    )


def _summary(rows: list[dict]) -> dict:
    summary = {}
    for group in dict.fromkeys(row["group"] for row in rows):
        mine = [row for row in rows if row["group"] == group]
        worked = [row for row in mine if "cuts" in row]
        summary[group] = {
            "models": len(mine),
            "captured": len(worked),
            "with cuts": sum(row["cuts"] > 0 for row in worked),
            "refused": sum("refused" in row for row in mine),
            "failed": sum("cuts" not in row and "refused" not in row for row in mine),
            "difference 0.0": sum(row["difference"] == 0 for row in worked),
            "worst difference": max((row["difference"] for row in worked), default=None),
            "worst difference after exits": max((row["difference_after_exits"] for row in worked), default=None),
            "multiply-adds add up within 0.1 %": sum(
                abs(row["macs"] - row["macs_of_segments"]) <= 1e-3 * row["macs"] for row in worked
            ),
            "state unchanged": sum(row["state_unchanged"] for row in worked),
        }
    return summary


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
