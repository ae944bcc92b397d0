"""What can be removed from a model as a whole, by torch-pruning's dependency graph (DepGraph, arXiv 2301.12900)."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import PassError, first_line
from ...graph import Classifier
from .attention import Attention, find_attentions

if TYPE_CHECKING:  # it brings timm, torchvision and torch's compiler: seconds of every import of this package
    from torch_pruning import DependencyGraph
    from torch_pruning.dependency import Group


@dataclass(frozen=True)
class Units:
    """Channels, or attention heads, of layers that depend on each other; each can be removed from all of them.

    Attributes:
        name: Of the layer that stands for all of them.
        layer: That layer.
        prune: torch-pruning's function for it.
        members: For each unit the channels of that layer that it consists of.
        outputs: The modules that lose outputs.
        group: All that goes if everything went, as torch-pruning's measures of importance take it.
        heads: Whether the units are attention heads.
    """

    name: str
    layer: nn.Module
    prune: Callable
    members: tuple[tuple[int, ...], ...]
    outputs: tuple[nn.Module, ...]
    group: Group
    heads: bool


class Structure:
    """A model with what can be removed from it.

    Args:
        model: It is changed in place by `remove`; all of its parameters take gradients from now on.
        example: Its inputs, batch first.
        ignored: Names of modules whose outputs all stay, with all inside them.
        attention: Whether heads may go.

    Raises:
        PassError: torch-pruning cannot follow the model, or no layer gives its classes.
    """

    def __init__(self, model: Classifier, example: Sequence[Tensor], ignored: Collection[str] = (), attention=True):
        self.model, self.example = model.eval(), tuple(example)
        self.attentions = find_attentions(model)
        self._names = {module: name for name, module in model.model.named_modules()}
        model.requires_grad_(True)
        self.graph = _trace(model, self.example)
        kept = {part for name in ignored for part in model.model.get_submodule(name).modules()}
        self.units: dict[str, Units] = {}
        classifiers = 0
        for group in self.graph.get_all_groups():
            if self._gives_answers(group):
                classifiers += 1
            elif not _moves_channels(group) and not kept.intersection(self._outputs(group)):
                units = self._units(group, attention)
                if units is not None:
                    self.units[units.name] = units
        if not classifiers:
            raise PassError("pruning found no layer that gives the model's classes, so it cannot protect it; end the "
                            "model with a linear layer or a convolution")  # fmt: skip

    def _outputs(self, group: Group) -> tuple[nn.Module, ...]:
        return tuple(dep.target.module for dep, _ in group if self.graph.is_out_channel_pruning_fn(dep.handler))

    def _gives_answers(self, group: Group) -> bool:
        """Whether some outputs are the model's answer, or go on to it."""
        for dep, _ in group:
            last = not dep.target.outputs and self.graph.is_out_channel_pruning_fn(dep.handler)
            if last or dep.target.type == _torch_pruning().ops.OPTYPE.OUTPUT:
                return True
        return False

    def _units(self, group: Group, attention: bool) -> Units | None:
        outputs = self._outputs(group)
        attended = [each for each in self.attentions if not set(each.projections).isdisjoint(outputs)]
        if attended:
            return self._heads(group, outputs, attended) if attention else None
        root, indices = group[0]
        groups = max((self._channel_groups(dep) for dep, _ in group), default=1)
        size = len(indices) // groups
        members = tuple(tuple(index + size * part for part in range(groups)) for index in range(size))
        name = self._names.get(root.target.module)
        if name is None or len(indices) % groups:
            return None
        return Units(name, root.target.module, root.handler, members, outputs, group, False)

    def _heads(self, group: Group, outputs: tuple[nn.Module, ...], attended: list[Attention]) -> Units | None:
        """Heads, by the layer behind the attention: there the channels of a head lie in a row in any model."""
        behind = [
            dep
            for dep, _ in group
            if isinstance(dep.target.module, nn.Linear) and self.graph.is_in_channel_pruning_fn(dep.handler)
        ]
        if len(behind) != 1 or len(attended) != 1:
            return None
        layer, heads, width = behind[0].target.module, attended[0].heads, attended[0].head_width
        if layer.in_features != heads * width:
            return None
        whole = self.graph.get_pruning_group(layer, behind[0].handler, list(range(layer.in_features)))
        members = tuple(tuple(range(width * head, width * (head + 1))) for head in range(heads))
        return Units(self._names[layer], layer, behind[0].handler, members, outputs, whole, True)

    def _channel_groups(self, dep) -> int:
        """Into how many equal parts a layer divides its channels, all of which must lose as many."""
        module = dep.target.module
        pruner = self.graph.get_pruner_of_module(module)
        if pruner is None or isinstance(module, nn.Parameter):
            return 1
        if isinstance(module, _torch_pruning().ops.TORCH_CONV) and module.groups == module.out_channels:
            return 1
        if self.graph.is_out_channel_pruning_fn(dep.handler):
            return pruner.get_out_channel_groups(module)
        return pruner.get_in_channel_groups(module)

    def remove(self, chosen: Mapping[str, Sequence[int]]) -> Classifier:
        """Remove units from the model; the structure is of no use afterwards.

        Args:
            chosen: By `Units.name`, the units that go.

        Returns:
            The model.
        """
        for name, gone in chosen.items():
            units = self.units[name]
            indices = sorted(index for unit in gone for index in units.members[unit])
            if indices:
                self.graph.get_pruning_group(units.layer, units.prune, indices).prune()
        for attention in self.attentions:
            attention.update()
        return self.model


def _trace(model: Classifier, example: tuple[Tensor, ...]) -> DependencyGraph:
    # torch's fused attention layer leaves no trace of what it does inside
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _torch_pruning().DependencyGraph().build_dependency(model, example, forward_fn=_run, verbose=False)
    except Exception as error:  # torch-pruning raises what it pleases on what it cannot follow
        raise PassError(f"torch-pruning cannot follow the model: {first_line(error)}; leave `pruning` out") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _run(model: Classifier, example: tuple[Tensor, ...]) -> Tensor:
    return model(*example)


def _moves_channels(group: Group) -> bool:
    """Whether channels are padded on the way, which torch-pruning takes for channels that stay where they are."""
    for dep, _ in group:
        for node in (dep.source, dep.target):
            pad = getattr(node.grad_fn, "_saved_pad", ())
            # from the last dimension on, two numbers for each: behind height and width come channels
            if len(pad) > 4 and any(pad[4:]):
                return True
    return False


def prunable(model: Classifier, example: Sequence[Tensor], ignored: Collection[str], attention: bool) -> set[str]:
    """Return the names of the units that torch-pruning follows rightly: a model without half of them still runs.

    Args:
        model: It stays as it was.
        example: Its inputs, batch first.
        ignored: Names of modules whose outputs all stay.
        attention: Whether heads may go.

    Raises:
        PassError: torch-pruning cannot follow the model at all.
    """

    def runs(names: Collection[str]) -> bool:
        structure = Structure(copy.deepcopy(model), example, ignored, attention)
        halves = {name: range(len(structure.units[name].members) // 2) for name in names}
        try:
            structure.remove(halves)
            with torch.no_grad():
                return structure.model(*example).shape == wanted
        except Exception:  # wrong shapes are noticed anywhere, and by anything
            return False

    with torch.no_grad():
        wanted = model(*example).shape
    names = set(Structure(copy.deepcopy(model), example, ignored, attention).units)
    if runs(names):
        return names
    sound = {name for name in sorted(names) if runs([name])}
    if not runs(sound):
        raise PassError("torch-pruning cannot follow the model: pruned, it no longer runs; name layers in "
                        "`ignored_layers`, or leave `pruning` out")  # fmt: skip
    return sound


def _torch_pruning():
    return importlib.import_module("torch_pruning")
