"""Structured magnitude pruning (torch-pruning's dependency graph) with a short fine-tuning."""

import copy
from collections.abc import Mapping
from types import MappingProxyType

import torch
import torch_pruning
from torch import Tensor, nn

from ...errors import PassError
from .config import PruningStanza


def prune(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    stanza: PruningStanza,
    train: tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
    *,
    ratios: Mapping[str, float] = MappingProxyType({}),
) -> nn.Module:
    """Return a smaller copy of a classifier; the given one stays as it was.

    Channels are ranked by group norm (DepGraph, arXiv 2301.12900) and the smallest are removed with everything that
    depends on them. The last linear layer, which holds the classes, keeps its outputs.

    Args:
        model: Classifier, logits (N, C) out.
        example_inputs: What it takes, batch first.
        stanza: Ratio and fine-tuning.
        train: Inputs (N, ...) and labels int64 (N,) for fine-tuning, or None for none.
        seed: Order of the samples.
        ratios: By module's name, what is removed there instead of the stanza's ratio.

    Returns:
        The pruned model in evaluation mode.

    Raises:
        PassError: Nothing could be removed, or the model has no linear layer to protect.
    """
    pruned = copy.deepcopy(model).eval()
    with torch.no_grad():
        classes = pruned(*example_inputs).shape[-1]
    heads = [m for m in pruned.modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    if not heads:
        raise PassError(f"pruning found no linear layer with {classes} outputs to protect; prune the model beforehand")
    attention = {m.qkv: m.num_heads for m in pruned.modules() if hasattr(m, "qkv") and hasattr(m, "num_heads")}
    before = sum(p.numel() for p in pruned.parameters())
    for parameter in pruned.parameters():
        parameter.requires_grad_(True)
    torch_pruning.pruner.MagnitudePruner(
        pruned,
        example_inputs,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=stanza.ratio,
        pruning_ratio_dict={pruned.get_submodule(name): ratio for name, ratio in ratios.items()},
        ignored_layers=heads,
        num_heads=attention,
    ).step()
    after = sum(p.numel() for p in pruned.parameters())
    if max(stanza.ratio, *ratios.values(), 0) > 0 and after == before:
        raise PassError(f"pruning with ratio {stanza.ratio} removed nothing; choose a larger ratio")
    if train is not None and stanza.fine_tune.epochs:
        _fine_tune(pruned, *train, stanza, seed)
    return pruned.eval()


def _fine_tune(model: nn.Module, inputs: Tensor, labels: Tensor, stanza: PruningStanza, seed: int) -> None:
    options = stanza.fine_tune
    generator = torch.Generator().manual_seed(seed)
    steps = options.epochs * -(-len(inputs) // options.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=steps)
    model.train()
    for _ in range(options.epochs):
        for rows in torch.randperm(len(inputs), generator=generator).split(options.batch_size):
            loss = nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
