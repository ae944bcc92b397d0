"""Train the heartbeats' backbone: `python recipes/ecg/train.py OUTPUT.safetensors [--pretrain 60] [--epochs 80]`.

Its encoder is pre-trained on masked heartbeats of `train` and `unlabelled`, whose labels are not read; then the network
is trained on the labels of `train`, earlier layers at lower rates. The accuracy on `dev`, printed at the end, is for
the record: nothing is chosen by it. No weights come with this project, as the heartbeats do not.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import dynamic_exit

sys.path.insert(0, str(Path(__file__).parent))
import data  # noqa: E402  (lies beside this file, wherever the command is given)
import models  # noqa: E402

SEED, BATCH = 0, 16
MASKED = {"mask": 0.5, "segment": 10, "learning_rate": 3e-3}
RATE, LAYER_DECAY = 2e-3, 0.7


def groups(model: models.HeartbeatNet) -> list[dict]:
    """Parameters with rates that fall from the head to the first block."""
    layers = [model.linear, *reversed(model.encoder)]
    return [{"params": [*layer.parameters()], "lr": RATE * LAYER_DECAY**depth} for depth, layer in enumerate(layers)]


def augment(heartbeats: torch.Tensor) -> torch.Tensor:
    """Shift by up to 5 samples, scale by up to a tenth, and add noise."""
    shifts = torch.randint(-5, 6, (len(heartbeats), 1))
    places = (torch.arange(heartbeats.shape[2]) + shifts).clamp(0, heartbeats.shape[2] - 1)
    scale = 1 + 0.1 * (2 * torch.rand(len(heartbeats), 1, 1) - 1)
    return heartbeats.gather(2, places[:, None]) * scale + 0.05 * torch.randn_like(heartbeats)


def train(model: nn.Module, heartbeats: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    batches = max(1, len(labels) // BATCH)
    optimizer = torch.optim.AdamW(groups(model), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).tensor_split(batches):
            optimizer.zero_grad()
            F.cross_entropy(model(augment(heartbeats[rows])), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pretrain", type=int, default=60, help="epochs on masked heartbeats; 0: none")
    parser.add_argument("--epochs", type=int, default=80, help="epochs on labels")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    model = models.backbone()
    heartbeats, labels = map(torch.from_numpy, data.load("train"))
    if arguments.pretrain:
        everything = np.concatenate([data.load(split)[0] for split in ("train", "unlabelled")])
        options = {**MASKED, "epochs": arguments.pretrain}
        loss = dynamic_exit.pretrain(model.encoder, torch.from_numpy(everything), options, seed=SEED)
        print(f"pre-trained on {len(everything)} heartbeats: loss {loss:.3f} on masked segments")
    train(model, heartbeats, labels, arguments.epochs)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), arguments.output)
    unseen, truth = map(torch.from_numpy, data.load("dev"))
    with torch.no_grad():
        right = (model(unseen).argmax(1) == truth).float().mean()
    print(f"{right:.1%} of {len(truth)} other heartbeats are right; wrote {arguments.output}")


if __name__ == "__main__":
    main()
