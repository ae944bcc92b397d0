"""The float twin of a quantized model: kept by the run that made it, else the file itself with int8 taken out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from ..artifact.folder import checksum
from ..artifact.model_config import DynamicExitModelConfig
from ..core.batching import batches
from ..core.cache import Cache, open_cache
from ..core.hashing import digest
from ..errors import DynamicExitError
from ..onnx.external_data import is_large
from ..onnx.part import Part
from ..onnx.quantize import dequantize_part, is_quantized, other_quantization
from ..onnx.session import PartSession
from ..recipe.yaml_io import read_recipe
from ..runtime.stages import FLOAT, Stage, StageSet

#: What rows are called whose weights are those of the int8 file.
ROUNDED = "float, rounded weights"
# calibration samples on which a twin is held against its model
_SAMPLES, _BATCH_SIZE = 512, 64
# a twin may be this many times as far from the float model as int8 is: it shares the rounding of weights alone
_APART = 1.5
_STAND_IN = (
    "float rows have the weights of the quantized file, as those of the float model are not on this machine; by that a "
    "stage answers otherwise {}"
)

PartTransform = Callable[[str, Part], Part]


@dataclass(frozen=True)
class Twin:
    """How the parts of a written model are had in float.

    Attributes:
        numerics: What tables call it.
        part: Takes a part's role, as `roles` names it, and the part as it ships; returns it in float.
    """

    numerics: str
    part: PartTransform


def roles(savers: Iterable, segments: Iterable, exits: Iterable) -> dict[str, Any]:
    """Name the pieces of a model by what they are in it, as files of a folder of segments are."""
    kinds = {"saver": savers, "segment": segments, "exit": exits}
    return {f"{kind}{index}": each for kind, found in kinds.items() for index, each in enumerate(found)}


def _stages(stages: StageSet) -> dict[str, Stage]:
    return roles(stages.savers.values(), stages.segments, (stage for _, stage in stages.exits.values()))


def keep_twin(stages: StageSet, folder: Path, checksums: Iterable[str], cache: Cache) -> None:
    """Keep what ships in float too, found again by the files that were written.

    Args:
        stages: Those in the model.
        folder: Where it was written.
        checksums: Names of the files with weights.
        cache: Takes it; parts too large for one message are left out.
    """
    parts = {role: stage.float_part for role, stage in _stages(stages).items()}
    if stages.quantized and not any(is_large(part.proto) for part in parts.values()):
        cache.put(_key(folder, checksums), {role: part.content for role, part in parts.items()})


def check_twin(stages: StageSet, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Hold the twin that can be had of the files alone against the float stages.

    Args:
        stages: Those in the model.
        inputs: Calibration samples by name, each (N, ...).

    Returns:
        ``parts`` (roles of those that were quantized), ``verified`` (whether every stage's logits lie as near to the
        float ones as they can with rounded weights), ``samples``, and by stage ``differ``: how many samples it answers
        otherwise. The last two are 0 and empty where nothing was quantized, or what cannot be taken out again.
    """
    quantized = [role for role, stage in _stages(stages).items() if stage.part is not stage.float_part]
    parts = {stage.part.name: stage.part for stage in stages.every if stage.part is not stage.float_part}
    nothing = {"parts": quantized, "verified": False, "samples": 0, "differ": {}}
    if not quantized or any(map(other_quantization, parts.values())):
        return nothing
    forms = (
        lambda stage: PartSession(stage.float_part),
        lambda stage: PartSession(dequantize_part(stage.part) if stage.part.name in parts else stage.part),
        lambda stage: stage.session,
    )
    few = [inputs[name][:_SAMPLES] for name in stages.input_names]
    try:
        plain, twin, shipped = (_all_logits(stages, form, few) for form in forms)
    except Exception:  # onnxruntime raises whatever it pleases on a graph that is none any more
        return nothing
    return {
        "parts": quantized,
        "verified": all(_near(plain[name], twin[name], shipped[name]) for name in plain),
        "samples": len(few[0]),
        "differ": {name: int((plain[name].argmax(1) != twin[name].argmax(1)).sum()) for name in plain},
    }


@torch.no_grad()
def _all_logits(stages: StageSet, form: Callable[[Stage], Any], inputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    model = stages.model(form)
    found = [model.all_stage_logits(*map(torch.from_numpy, batch)) for batch in batches(inputs, _BATCH_SIZE)]
    return {name: np.concatenate([each[name].numpy() for each in found]) for name in found[0]}


def _near(plain: np.ndarray, twin: np.ndarray, shipped: np.ndarray) -> bool:
    apart, step = (float(np.square(each - plain).mean()) ** 0.5 for each in (twin, shipped))
    return apart <= max(_APART * step, 1e-5 * float(np.abs(plain).max()))


def find_twin(
    folder: Path, config: DynamicExitModelConfig | None, parts: Mapping[str, Part]
) -> tuple[Twin | None, str | None]:
    """Find the float twin of a written model.

    Args:
        folder: With ONNX files.
        config: The folder's; None where it has none.
        parts: Those of the files, by role.

    Returns:
        The twin, or None, and what users must know: in what it is not the float model, or why there is none. Both are
        None where the run quantized nothing.
    """
    said = config.float_twin if config is not None else None
    if not any(map(is_quantized, parts.values())) or (said and not said["parts"]):
        return None, None
    kept = _open(folder).get(_key(folder, config.checksums)) if config is not None else None
    if kept is not None and kept.keys() == parts.keys():
        return Twin(FLOAT, partial(_kept, kept)), None
    if not said:
        why = f"'{folder}' does not say that its float twin was held against the float model"
    elif not said["samples"]:
        why = f"the quantization of '{folder}' cannot be taken out of its files"
    else:
        differ = f"on {max(said['differ'].values())} of {said['samples']} calibration samples"
        if said["verified"]:
            return Twin(ROUNDED, partial(_rounded, said["parts"])), _STAND_IN.format(differ)
        why = f"without its quantization '{folder}' answers otherwise than the float model, {differ}"
    return None, f"no float rows: {why}; run the recipe again on this machine to have them"


def _kept(kept: Mapping[str, bytes], role: str, part: Part) -> Part:
    return part.with_proto(onnx.load_from_string(kept[role]))


def _rounded(quantized: Iterable[str], role: str, part: Part) -> Part:
    return dequantize_part(part) if role in quantized else part


def _key(folder: Path, names: Iterable[str]) -> str:
    return digest("float twin", [f"{name} {checksum(folder / name)}" for name in sorted(names)])


def _open(folder: Path) -> Cache:
    """The cache in which the run that wrote a folder kept its work."""
    try:
        stanza = read_recipe(folder / "recipe.yaml").dynamic_exit.cache
    except DynamicExitError:  # a recipe that does not hold here, such as one of a model in memory
        return open_cache(None, True)
    return open_cache(stanza.directory, stanza.enabled)
