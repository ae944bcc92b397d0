"""The float twin of a quantized model: from the cache of the run that made it, else the file without its int8."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import onnx
import torch
from torch import nn

from ..artifact.folder import checksum
from ..artifact.manifest import Manifest
from ..core.batching import DEFAULT_BATCH_SIZE, batches
from ..core.cache import Cache, open_cache
from ..core.hashing import digest
from ..errors import DynamicExitError
from ..onnx.dequantize import can_dequantize, dequantize_part
from ..onnx.external_data import is_large
from ..onnx.part import Part
from ..onnx.quantize import is_quantized
from ..onnx.session import PartSession
from ..recipe.yaml_io import read_recipe
from ..runtime.stages import FLOAT, Stage, StageSet

#: What rows are called whose weights are those of the int8 file.
ROUNDED = "float, rounded weights"
# calibration samples on which a twin is compared with the float model
_SAMPLES = 512
# a twin may be this many times as far from the float model as int8 is: both share the rounding of weights
_MAX_DISTANCE = 1.5
_STAND_IN = (
    "float rows have the weights of the quantized file, as those of the float model are not on this machine; by that a "
    "stage answers otherwise {}"
)

#: Takes a part's role and the part, and returns it in other numbers.
PartTransform = Callable[[str, Part], Part]


@dataclass(frozen=True)
class Twin:
    """How to get the parts of a written model in float.

    Attributes:
        numerics: What tables call the numbers.
        part: Takes a part's role, as `chain.spec.by_role` names it, and the part as exported; returns it in float.
    """

    numerics: str
    part: PartTransform


def _stages(stages: StageSet) -> dict[str, Stage]:
    """Return the stages by role, taps left out."""
    return {role: stage for role, stage in stages.by_role.items() if not role.startswith("tap")}


def keep_twin(stages: StageSet, folder: Path, checksums: Iterable[str], cache: Cache) -> None:
    """Keep the float parts of a quantized model in the cache, under the checksums of the files that were written.

    Args:
        stages: Those in the model.
        folder: Where it was written.
        checksums: Names of the files with weights.
        cache: Takes the parts; those too large for one protobuf message are left out.
    """
    parts = {role: cast(Part, stage.float_part) for role, stage in _stages(stages).items()}
    if stages.quantized and not any(is_large(part.proto) for part in parts.values()):
        cache.put(_key(folder, checksums), {role: part.content for role, part in parts.items()})


class TwinReport(TypedDict):
    """What ``config.json`` says of the twin that can be made of the files alone.

    Attributes:
        parts: Roles of the parts that were quantized.
        verified: Whether every stage's logits are as near to the float ones as rounded weights allow.
        samples: How many it was compared on; 0 if nothing was quantized, or it cannot be taken out again.
        differ: Stage -> number of samples that it answers differently from the float model.
    """

    parts: list[str]
    verified: bool
    samples: int
    differ: dict[str, int]


def check_twin(stages: StageSet, inputs: Mapping[str, np.ndarray]) -> TwinReport:
    """Compare the twin that can be made of the files alone with the float stages.

    Args:
        stages: Those in the model.
        inputs: Calibration samples by name, each (N, ...).
    """
    quantized = [role for role, stage in _stages(stages).items() if stage.part is not stage.float_part]
    parts = {
        stage.part.name: cast(Part, stage.part) for stage in stages.all_stages if stage.part is not stage.float_part
    }
    nothing: TwinReport = {"parts": quantized, "verified": False, "samples": 0, "differ": {}}
    if not quantized or not all(map(can_dequantize, parts.values())):
        return nothing

    def plain(stage: Stage) -> nn.Module:
        return PartSession(cast(Part, stage.float_part))

    def twin(stage: Stage) -> nn.Module:
        part = cast(Part, stage.part)
        return PartSession(dequantize_part(part) if part.name in parts else part)

    few = [inputs[name][:_SAMPLES] for name in stages.input_names]
    try:
        in_float, of_twin, shipped = (
            _all_logits(stages, form, few) for form in (plain, twin, lambda stage: stage.session)
        )
    except Exception:  # onnxruntime raises anything on a graph that is no longer valid
        return nothing
    return {
        "parts": quantized,
        "verified": all(_near(in_float[name], of_twin[name], shipped[name]) for name in in_float),
        "samples": len(few[0]),
        "differ": {name: int((in_float[name].argmax(1) != of_twin[name].argmax(1)).sum()) for name in in_float},
    }


@torch.no_grad()
def _all_logits(
    stages: StageSet, form: Callable[[Stage], nn.Module], inputs: list[np.ndarray]
) -> dict[str, np.ndarray]:
    model = stages.model(form)
    found = [model.all_stage_logits(*map(torch.from_numpy, batch)) for batch in batches(inputs, DEFAULT_BATCH_SIZE)]
    return {name: np.concatenate([each[name].numpy() for each in found]) for name in found[0]}


def _near(plain: np.ndarray, twin: np.ndarray, shipped: np.ndarray) -> bool:
    distance, step = (float(np.square(each - plain).mean()) ** 0.5 for each in (twin, shipped))
    return distance <= max(_MAX_DISTANCE * step, 1e-5 * float(np.abs(plain).max()))


def find_twin(folder: Path, manifest: Manifest | None, parts: Mapping[str, Part]) -> tuple[Twin | None, str | None]:
    """Find the float twin of a written model.

    Args:
        folder: With ONNX files.
        manifest: Its manifest; None if it has none.
        parts: The parts of the files, by role.

    Returns:
        The twin, or None, and what users must know: how it differs from the float model, or why there is none. Both are
        None if the run quantized nothing.
    """
    report = cast("TwinReport | None", manifest.float_twin) if manifest is not None else None
    if not any(map(is_quantized, parts.values())) or (report and not report["parts"]):
        return None, None
    kept = _open(folder).get(_key(folder, manifest.checksums)) if manifest is not None else None
    if kept is not None and kept.keys() == parts.keys():
        return Twin(FLOAT, partial(_cached, kept)), None
    if not report:
        why = f"'{folder}' does not say that its float twin was held against the float model"
    elif not report["samples"]:
        why = f"the quantization of '{folder}' cannot be taken out of its files"
    else:
        differ = f"on {max(report['differ'].values())} of {report['samples']} calibration samples"
        if report["verified"]:
            return Twin(ROUNDED, partial(_rounded, report["parts"])), _STAND_IN.format(differ)
        why = f"without its quantization '{folder}' answers otherwise than the float model, {differ}"
    return None, f"no float rows: {why}; run the recipe again on this machine to have them"


def _cached(kept: Mapping[str, bytes], role: str, part: Part) -> Part:
    return part.with_proto(onnx.load_from_string(kept[role]))


def _rounded(quantized: Iterable[str], role: str, part: Part) -> Part:
    return dequantize_part(part) if role in quantized else part


def _key(folder: Path, names: Iterable[str]) -> str:
    return digest("float twin", [f"{name} {checksum(folder / name)}" for name in sorted(names)])


def _open(folder: Path) -> Cache:
    """Open the cache that the run used that wrote a folder."""
    try:
        stanza = read_recipe(folder / "recipe.yaml").dynamic_exit.cache
    except DynamicExitError:  # a recipe that is not valid here, such as that of a model in memory
        return open_cache(None, True)
    return stanza.open()
