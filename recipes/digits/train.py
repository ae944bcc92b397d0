"""Train the digits' models on the train split alone: `python recipes/digits/train.py [quickstart] [vit] [convnext]`.

`quickstart` is its backbone and the savers; `vit` and `convnext` are further backbones, which learn from that one too.
Without arguments all are trained, in this order. Each starts from the seed: what else is trained changes nothing.

The settings of `quickstart` were chosen on an inner validation part of the train split; those of the others were only
checked there. The accuracies on the calibration split, printed at the end, are for the record; nothing was or is chosen
by them, and the test split is not read.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
import data  # noqa: E402  (lies beside this file, wherever the command is given)

WEIGHTS = Path(__file__).parent / "weights"
# of the raw pixels of the train split; the recipes' preprocessing holds the same two numbers
MEAN, STD = 4.90, 6.02
#: Backbones see the digits enlarged, so that their layers have room; again as in the recipes' preprocessing.
SIZE = {"backbone": (32, 32), "vit": (24, 24), "convnext": (64, 64)}
SEED, BATCH = 0, 64


def _resnet(stem: int, width: int) -> tuple[str, dict]:
    # all in the first stage: the later ones would see one pixel. Plain convolutions, norms and ReLU fold well for int8
    return "resnet18", dict(layers=[2, 0, 0, 0], channels=[width] * 4, stem_type="deep", stem_width=stem)


MODELS = {
    "backbone": (
        "resnet34",
        dict(layers=[3, 4, 6, 3], channels=[32, 40, 40, 48], stem_type="deep", stem_width=16, output_stride=8),
    ),
    "saver_small": _resnet(4, 8),
    "saver_medium": _resnet(8, 16),
    "saver_large": _resnet(16, 32),
    "vit": (
        "vit_tiny_patch16_224",
        dict(img_size=24, patch_size=4, embed_dim=48, depth=8, num_heads=3, mlp_ratio=3),
    ),
    "convnext": (
        "convnext_atto",
        dict(depths=[2, 2, 6, 1], dims=[16, 32, 48, 64], ls_init_value=0.1),
    ),
}
SAVERS = [name for name in MODELS if name.startswith("saver")]
#: Models by the name that the command takes.
GROUPS = {"quickstart": ["backbone", *SAVERS], "vit": ["vit"], "convnext": ["convnext"]}
#: Epochs and learning rate of the further backbones.
SCHEDULES = {"vit": (100, 2e-3), "convnext": (60, 4e-3)}


def create(name: str) -> nn.Module:
    architecture, arguments = MODELS[name]
    return timm.create_model(architecture, pretrained=False, num_classes=10, in_chans=1, **arguments)


def prepare(name: str, pixels: torch.Tensor) -> torch.Tensor:
    if name in SIZE:
        pixels = F.interpolate(pixels, SIZE[name], mode="bilinear", align_corners=False)
    return (pixels - MEAN) / STD


def augment(pixels: torch.Tensor) -> torch.Tensor:
    """Small rotations, scalings, shears, sub-pixel shifts, elastic bends, contrast and noise, new for each sample."""
    count = len(pixels)

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(count) * 2 - 1) * limit

    angle, wide, high, shear = uniform(math.radians(13)), 1 + uniform(0.1), 1 + uniform(0.1), uniform(0.13)
    cos, sin = angle.cos(), angle.sin()
    shift = uniform(0.21), uniform(0.21)  # of half the image: up to 0.85 pixels
    rows = [torch.stack([cos * wide, shear - sin, shift[0]], 1), torch.stack([sin * high, cos * high, shift[1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(pixels.shape), align_corners=False)
    bend = F.interpolate(torch.randn(count, 2, 3, 3) * 0.05, size=8, mode="bicubic", align_corners=True)
    moved = F.grid_sample(pixels, grid + bend.permute(0, 2, 3, 1), align_corners=False)
    return moved * (1 + uniform(0.085))[:, None, None, None] + torch.randn_like(moved) * 0.5


def fit(
    names: list[str],
    pixels: torch.Tensor,
    labels: torch.Tensor,
    epochs: int,
    rate: float,
    teacher: nn.Module | None = None,
) -> list[nn.Module]:
    """Train models side by side on the same batches (one pass of the teacher serves all); their running means."""
    models = {name: create(name).train() for name in names}
    steps = epochs * (len(pixels) // BATCH)
    weights = [p for model in models.values() for p in model.parameters()]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    means = [AveragedModel(m, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True) for m in models.values()]
    for _ in range(epochs):
        for rows in torch.randperm(len(pixels))[: len(pixels) // BATCH * BATCH].split(BATCH):
            batch, targets = augment(pixels[rows]), F.one_hot(labels[rows], 10).float()
            if teacher is not None:
                with torch.no_grad():
                    targets = 0.3 * targets + 0.7 * teacher(prepare("backbone", batch)).softmax(1)
            optimizer.zero_grad()
            sum(F.cross_entropy(model(prepare(name, batch)), targets) for name, model in models.items()).backward()
            optimizer.step()
            schedule.step()
            for mean, model in zip(means, models.values(), strict=True):
                mean.update_parameters(model)
    return [mean.module.eval() for mean in means]


def save(model: nn.Module, path: Path) -> None:
    state = {key: v.half() if v.is_floating_point() else v for key, v in model.state_dict().items()}
    save_file({key: v.contiguous() for key, v in state.items()}, path)


def load(name: str) -> nn.Module:
    model = create(name)
    model.load_state_dict(load_file(WEIGHTS / f"{name}.safetensors"))  # copied into float32 parameters
    return model.eval()


def figures(name: str) -> str:
    """One row of the table: the model as reloaded from its file, on the calibration split."""
    model, path = load(name), WEIGHTS / f"{name}.safetensors"
    pixels, labels = (torch.from_numpy(array) for array in data.load("calibration"))
    with torch.no_grad():
        confidence, predicted = model(prepare(name, pixels)).softmax(1).max(1)
        with FlopCounterMode(display=False) as counter:
            model(prepare(name, torch.zeros(1, 1, 8, 8)))
    right = predicted == labels
    wrong_confidence = f"{confidence[~right].mean():.3f}" if not right.all() else "-"
    return (
        f"{name:14} {sum(p.numel() for p in model.parameters()):>10,} {counter.get_total_flops() // 2:>12,} "
        f"{path.stat().st_size:>9,} {right.float().mean():>9.4f} {confidence.mean():>10.3f} {wrong_confidence:>10}"
    )


def train(group: str) -> list[nn.Module]:
    """Train the models of one group, in the order of `GROUPS`, from the seed on."""
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    pixels, labels = (torch.from_numpy(array) for array in data.load("train"))
    if group == "quickstart":
        [backbone] = fit(["backbone"], pixels, labels, epochs=60, rate=4e-3)
        # the savers learn from the backbone too: it tells them which images deserve doubt
        return [backbone, *fit(SAVERS, pixels, labels, epochs=120, rate=1e-2, teacher=backbone)]
    epochs, rate = SCHEDULES[group]
    return fit(GROUPS[group], pixels, labels, epochs, rate, teacher=load("backbone"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the digits' models on the train split alone.")
    parser.add_argument("groups", nargs="*", metavar="group", help=f"{', '.join(GROUPS)}; default: all")
    groups = parser.parse_args().groups or list(GROUPS)
    for group in groups:
        if group not in GROUPS:
            parser.error(f"unknown group '{group}'; choose from {', '.join(GROUPS)}")
    torch.set_num_threads(1)  # steps this small gain little from more, and lose much on a busy machine
    WEIGHTS.mkdir(exist_ok=True)
    began = time.perf_counter()
    for group in groups:
        for name, model in zip(GROUPS[group], train(group), strict=True):
            save(model, WEIGHTS / f"{name}.safetensors")
        print(f"{group} trained after {time.perf_counter() - began:.0f} s", flush=True)
    pixels = data.load("train")[0]
    print(f"train pixels have mean {pixels.mean():.3f}, standard deviation {pixels.std():.3f}")
    print(f"{'model':14} {'parameters':>10} {'mult-adds':>12} {'bytes':>9} {'accuracy':>9} {'confidence':>10} "
          f"{'when wrong':>10}")  # fmt: skip
    for name in (name for group in groups for name in GROUPS[group]):
        print(figures(name))


if __name__ == "__main__":
    main()
