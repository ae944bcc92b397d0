"""A folder for torch in the pieces that the benchmark times."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ..errors import ExportError
from ..hub.configuration import DynamicExitConfig
from ..hub.runner import SegmentsRunner, open_runner
from ..onnx.parts import Part
from ..onnx.stitch import Chain
from ..runtime.checks import HIDDEN
from .torch_target import TorchSession

Feeds = Mapping[str, np.ndarray]


def torch_pieces(
    folder: Path, config: DynamicExitConfig
) -> tuple[Chain, TorchSession, TorchSession, dict[str, TorchSession]]:
    """Return the chain, the backbone alone, the dynamic model, and every stage by name.

    Args:
        folder: What a run wrote for torch.
        config: The folder's.

    Raises:
        ExportError: It cannot be read, or has exits of a sequence network.
    """
    if config.parts.get("notes"):
        raise ExportError(f"'{folder}' has exits of a sequence network, which are not timed for torch; train others")
    runner = open_runner(folder, config)
    model, carried = runner.model, [*config.inputs, {"name": HIDDEN, "shape": []}]
    last = len(model.segments) - 1
    segments = {f"segment{place}": each for place, each in enumerate(model.segments)}
    stages = {name: model.stage_module(name) for name in model.chain}
    parts = {
        name: Part(name, None, each.takes, "hidden" if name in segments and name != f"segment{last}" else "logits")
        for name, each in {**segments, **stages}.items()
    }
    places = dict(zip(model.chain, model.positions, strict=True))
    chain = Chain(
        [parts[name] for name, place in places.items() if place < 0],
        [parts[name] for name in segments],
        [(parts[name], place) for name, place in places.items() if place >= 0],
        model.fuse,
    )
    sessions = {
        name: TorchSession.of_module(each, each.takes, carried) for name, each in {**segments, **stages}.items()
    }
    return chain, _static(runner, config), TorchSession(runner.run, config.inputs), sessions


def _static(runner: SegmentsRunner, config: DynamicExitConfig) -> TorchSession:
    """Return the backbone alone: its segments, one after the other."""
    segments = runner.model.segments
    taken = {name for segment in segments for name in segment.takes}

    @torch.no_grad()
    def answer(feeds: Feeds, _: np.ndarray | None) -> list[np.ndarray]:
        values = {name: torch.from_numpy(array) for name, array in feeds.items()}
        for segment in segments:
            values[HIDDEN] = segment(*(values[name] for name in segment.takes))
        return [values[HIDDEN].numpy()]

    return TorchSession(answer, [each for each in config.inputs if each["name"] in taken])
