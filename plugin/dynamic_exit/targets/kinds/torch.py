"""The target torch: one torch.export archive a stage."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from pydantic import model_validator

from ...artifact.manifest import Manifest
from ...artifact.runner import SegmentsRunner
from ...core.forks import in_fork
from ...errors import ExportError
from ...passes.stanza import refuse
from ...recipe.export import Export
from ...recipe.target_registry import TargetKind

if TYPE_CHECKING:
    from ...data.run_inputs import RunInputs
    from ...graph.backbone import Backbone
    from ...runtime.archive import ArchivedPart
    from ..torch import TorchTarget


class TorchExport(Export):
    """What is written for torch, and where."""

    @model_validator(mode="before")
    @classmethod
    def _add_defaults(cls, values: Any) -> Any:
        return {"format": "pt2", "layout": "segments", **values} if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        if self.format != "pt2":
            raise refuse(f"holds `format: {self.format}`, but `target: torch` has pt2; leave `format` out")
        if self.layout == "single":
            raise refuse("holds `layout: single`, but `target: torch` has one file a stage; leave `layout` out")
        return self


class Torch(TargetKind):
    """Archives for torch, quantized by Neural Compressor."""

    stanza, tag, loading = TorchExport, "pytorch", frozenset({"compile"})

    def check_quantization(self, stanza: Mapping[str, Any] | None) -> None:
        """Refuse algorithms that do not give 8-bit torch modules."""
        from ...passes.quantization import torch_options

        torch_options(stanza)

    def create(self, run_inputs: "RunInputs", backbone: "Backbone") -> "tuple[TorchTarget, list[Any]]":
        """Create the target; nothing is measured for it."""
        from ...passes.quantization import torch_options
        from ..torch import TorchTarget

        recipe, inputs = run_inputs.recipe, run_inputs.splits["calibration"].inputs
        options, threads = torch_options(recipe.quantization), recipe.dynamic_exit.tuning.threads
        cache = recipe.dynamic_exit.cache.open()
        return TorchTarget(options, inputs, recipe.export.compile, threads, backbone.dims, cache), []

    def open(self, folder: Path, manifest: Manifest, options: Mapping[str, Any]) -> SegmentsRunner:
        """Open the archives; the option ``compile``, else the manifest, says whether with inductor."""
        return SegmentsRunner(folder, manifest, partial(_load, options.get("compile", manifest.compile)))

    def runtime(self) -> str:
        """Return ``torch`` and its version."""
        return f"torch {torch.__version__}"


def _load(compiled: bool, path: Path, input_names: Sequence[str]) -> "ArchivedPart":
    # only folders for torch need these, and they take half a second to import
    from ...runtime.archive import unpack
    from ...runtime.compile import compile_part, fold_constants

    part = unpack(path, input_names)
    if compiled and in_fork():
        raise ExportError(
            "compiled stages do not run in a forked process; load the model with compile=False, or start the process "
            "with multiprocessing's method spawn"
        )
    return compile_part(part, path.stem) if compiled else fold_constants(part)


KIND = Torch()
