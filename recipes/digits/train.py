"""Train the quickstart's backbone and savers on the train split alone: `python recipes/digits/train.py`.

Every setting here was chosen on an inner validation part of the train split. The accuracies on the calibration split,
printed at the end, are for the record; nothing was or is chosen by them, and the test split is not read.
"""

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
# of the raw pixels of the train split; the recipe's preprocessing holds the same two numbers
MEAN, STD = 4.90, 6.02
SEED, BATCH = 0, 64


def _resnet(stem: int, width: int) -> tuple[str, dict]:
    # all in the first stage: the later ones would see one pixel. Plain convolutions, norms and ReLU fold well for int8
    return "resnet18", dict(layers=[2, 0, 0, 0], channels=[width] * 4, stem_type="deep", stem_width=stem)


MODELS = {
    "backbone": (
        "vit_tiny_patch16_224",
        dict(
            img_size=8, patch_size=2, embed_dim=64, depth=12, num_heads=4, class_token=False, global_pool="avg"
        ),
    ),
    "saver_small": _resnet(4, 8),
    "saver_medium": _resnet(8, 16),
    "saver_large": _resnet(16, 32),
}
SAVERS = [name for name in MODELS if name != "backbone"]


def create(name: str) -> nn.Module:
    architecture, arguments = MODELS[name]
    return timm.create_model(architecture, pretrained=False, num_classes=10, in_chans=1, **arguments)


def normalize(pixels: torch.Tensor) -> torch.Tensor:
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


def optimizers(model: nn.Module, rate: float, decay: float = 0.05) -> list[torch.optim.Optimizer]:
    # Muon on the matrices inside the blocks: AdamW alone needs many times the epochs on so few images
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("blocks.")]
    rest = [p for p in model.parameters() if all(p is not q for q in inner)]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, rate, betas=(0.9, 0.95))]
    if inner:
        found.append(torch.optim.Muon(inner, 0.02, weight_decay=decay))
    return found


def fit(
    models: list[nn.Module],
    pixels: torch.Tensor,
    labels: torch.Tensor,
    epochs: int,
    rate: float,
    teacher: nn.Module | None = None,
) -> list[nn.Module]:
    """Train models side by side on the same batches (one pass of the teacher serves all); their running means."""
    steps, step = epochs * (len(pixels) // BATCH), 0
    chosen = [optimizer for model in models for optimizer in optimizers(model, rate)]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda k: min((k + 1) / (steps / 20), (1 + math.cos(math.pi * k / steps)) / 2)
        )
        for optimizer in chosen
    ]
    means = [AveragedModel(m, multi_avg_fn=get_ema_multi_avg_fn(0.99), use_buffers=True) for m in models]
    for model in models:
        model.train()
    while step < steps:
        for rows in torch.randperm(len(pixels)).split(BATCH):
            if len(rows) < BATCH:
                continue
            inputs, targets = normalize(augment(pixels[rows])), F.one_hot(labels[rows], 10).float()
            if teacher is not None:
                with torch.no_grad():
                    targets = 0.3 * targets + 0.7 * teacher(inputs).softmax(1)
            for optimizer in chosen:
                optimizer.zero_grad()
            sum(F.cross_entropy(model(inputs), targets) for model in models).backward()
            for optimizer, schedule in zip(chosen, schedules, strict=True):
                optimizer.step()
                schedule.step()
            for mean, model in zip(means, models, strict=True):
                mean.update_parameters(model)
            step += 1
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
        confidence, predicted = model(normalize(pixels)).softmax(1).max(1)
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 1, 8, 8))
    right = predicted == labels
    wrong_confidence = f"{confidence[~right].mean():.3f}" if not right.all() else "-"
    return (
        f"{name:14} {sum(p.numel() for p in model.parameters()):>10,} {counter.get_total_flops() // 2:>12,} "
        f"{path.stat().st_size:>9,} {right.float().mean():>9.4f} {confidence.mean():>10.3f} {wrong_confidence:>10}"
    )


def main() -> None:
    torch.set_num_threads(1)  # steps this small gain little from more, and lose much on a busy machine
    torch.manual_seed(SEED)
    np.random.seed(SEED)
    began = time.perf_counter()
    pixels, labels = (torch.from_numpy(array) for array in data.load("train"))
    [backbone] = fit([create("backbone")], pixels, labels, epochs=80, rate=3e-3)
    print(f"backbone trained after {time.perf_counter() - began:.0f} s", flush=True)
    # the savers learn from the backbone too: it tells them which images deserve doubt
    savers = fit([create(name) for name in SAVERS], pixels, labels, epochs=120, rate=1e-2, teacher=backbone)
    WEIGHTS.mkdir(exist_ok=True)
    for name, model in zip(MODELS, [backbone, *savers], strict=True):
        save(model, WEIGHTS / f"{name}.safetensors")
    print(f"all trained after {time.perf_counter() - began:.0f} s; train pixels have mean {pixels.mean():.3f}, "
          f"standard deviation {pixels.std():.3f}")  # fmt: skip
    print(f"{'model':14} {'parameters':>10} {'mult-adds':>12} {'bytes':>9} {'accuracy':>9} {'confidence':>10} "
          f"{'when wrong':>10}")  # fmt: skip
    for name in MODELS:
        print(figures(name))


if __name__ == "__main__":
    main()
