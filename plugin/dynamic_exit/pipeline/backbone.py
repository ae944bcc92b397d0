"""Captures a backbone and cuts it into segments where exits are wanted."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..cost import node_macs
from ..graph import Classifier, capture, find_cuts, is_text, split
from ..graph.backbone import Backbone
from ..passes.early_exit import EarlyExitStanza, cheapest_head, choose_cuts


def cut_backbone(
    classifier: Classifier,
    example: Mapping[str, Tensor],
    exits: EarlyExitStanza | None,
) -> Backbone:
    """Capture a backbone and cut it where exits are wanted.

    Args:
        classifier: In evaluation mode.
        example: Inputs of at least two samples, by name.
        exits: Where to cut; None leaves the backbone in one piece.

    Returns:
        The backbone in segments.

    Raises:
        CaptureError: The graph cannot be captured.
        CutError: It has no usable cut, or a name is unknown.
    """
    program = capture(classifier, classifier.select(example))
    macs = node_macs(program.graph_module, program.example_inputs)
    cuts = find_cuts(program, macs)
    chosen = []
    if exits:
        head_share = cheapest_head(exits.entries, program.classes, sum(macs.values()))
        chosen = choose_cuts(cuts, exits.positions, exits.count, head_share)
    names = tuple(classifier.input_names or program.input_names)
    shapes = {name: program.shapes[node.name] for name, node in zip(names, program.placeholders, strict=True)}
    segments = split(program, chosen)
    dims = _free_dims(shapes, example)
    return Backbone(names, program.classes, chosen, len(cuts), segments, dims, program, program.fixed_length)


def _free_dims(shapes: Mapping[str, Sequence[int | str]], example: Mapping[str, Tensor]) -> dict[str, dict[int, str]]:
    """Find the free dimensions of all inputs; one that the backbone does not take is as long as those that it takes."""
    lengths = {
        example[name].shape[1]: shape[1]
        for name, shape in reversed([*shapes.items()])
        if len(shape) == 2 and isinstance(shape[1], str)
    }
    return {
        name: {1: lengths[tensor.shape[1]]} if is_text(tensor) and tensor.shape[1] in lengths else {}
        for name, tensor in example.items()
    }
