"""A dynamic model on onnxruntime, loaded and saved like Optimum's own classes."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from huggingface_hub import snapshot_download
from optimum.modeling_base import OptimizedModel
from transformers import AutoConfig
from transformers.utils import ModelOutput

from ..errors import ExportError, OperatingPointError
from ..onnx.session import open_session
from ..tuning.operating_point import OperatingPoint, OperatingPoints
from .configuration import DynamicExitConfig

MODEL_FILE = "model.onnx"
POINTS_FILE = "operating_points.json"
#: What `save_pretrained` copies besides the configuration, where it is there.
FILES = (
    MODEL_FILE,
    "model.onnx.data",
    POINTS_FILE,
    "metrics.json",
    "recipe.yaml",
    "records.npz",
    "report.html",
    "README.md",
)


@dataclass
class DynamicExitOutput(ModelOutput):
    """What a dynamic model answers.

    Attributes:
        logits: float32 (N, C).
        exit_index: int64 (N,): the stage that answered, an index into the chain; the final is the last.
        confidence: float32 (N,): the probability of the predicted class, 0..1.
    """

    logits: torch.Tensor | np.ndarray | None = None
    exit_index: torch.Tensor | np.ndarray | None = None
    confidence: torch.Tensor | np.ndarray | None = None


class DynamicExitModelForImageClassification(OptimizedModel):
    """An image classifier that leaves early where it is sure, on onnxruntime.

    Args:
        session: Of a dynamic ONNX file.
        config: Its configuration.
        operating_points: What can be switched to.
        operating_point: The point to start with, or None for the file's default.
        folder: Where the files lie, for `save_pretrained`.
    """

    config_class = DynamicExitConfig
    auto_model_class = None
    main_input_name = "pixel_values"
    base_model_prefix = "dynamic_exit"

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        config: DynamicExitConfig,
        operating_points: OperatingPoints,
        operating_point: str | None = None,
        folder: str | Path | None = None,
    ):
        super().__init__(session, config)
        self.session, self.operating_points, self.folder = session, operating_points, folder
        self.device = torch.device("cpu")
        self.dtype = torch.float32  # transformers' pipelines cast images to it
        metadata = session.get_modelmeta().custom_metadata_map
        if "stages" not in metadata:
            raise ExportError(f"'{folder}' holds no dynamic model: model.onnx has no metadata 'stages'; export it anew")
        #: Names of the stages before the final, in the order of `thresholds`.
        self.stages: tuple[str, ...] = tuple(json.loads(metadata["stages"]))
        self._inputs = [value.name for value in session.get_inputs() if value.name != "thresholds"]
        default = json.loads(metadata.get("default", "null"))
        self.set_operating_point(operating_point or default or "backbone")

    @property
    def operating_point(self) -> OperatingPoint:
        """The point that is in force."""
        return self._active[0]

    @property
    def thresholds(self) -> np.ndarray:
        """The thresholds in force, float32, one for each of `stages`; +inf where a stage is off."""
        return self._active[1].copy()

    def set_operating_point(
        self, name: str | None = None, *, max_accuracy_drop: float | None = None, budget: float | None = None
    ) -> OperatingPoint:
        """Switch to another operating point; nothing is reloaded, and it is safe while other threads call the model.

        Args:
            name: Of a point; ``backbone`` turns every stage off.
            max_accuracy_drop: The cheapest point that loses at most this, in 0..1.
            budget: The most accurate point that costs at most this share of the backbone.

        Returns:
            The point now in force.

        Raises:
            OperatingPointError: Not exactly one wish, or none that fits.
        """
        if (name is not None) + (max_accuracy_drop is not None) + (budget is not None) != 1:
            raise OperatingPointError("name an operating point, or give either max_accuracy_drop or budget")
        if name is not None:
            point = self.operating_points.by_name(name)
        else:
            point = self.operating_points.nearest(max_accuracy_drop=max_accuracy_drop, budget=budget)
        self._active = (point, point_thresholds(point, self.stages))  # one assignment, so that callers see both or none
        return point

    def forward(self, pixel_values=None, **inputs) -> DynamicExitOutput:
        """Classify a batch.

        Args:
            pixel_values: (N, ...) torch tensor or numpy array, as the model was exported; a model with several inputs
                takes them by name.
            **inputs: Inputs by name.

        Returns:
            Torch tensors if the first input is one, else numpy arrays.

        Raises:
            ExportError: An input is missing, unknown, or of a wrong shape.
        """
        if pixel_values is not None:
            inputs = {self._inputs[0]: pixel_values, **inputs}
        feeds = self._feeds(inputs)
        logits, exit_index, confidence = self.session.run(
            ["logits", "exit_index", "confidence"], {**feeds, "thresholds": self._active[1]}
        )
        answer = DynamicExitOutput(logits=logits, exit_index=exit_index, confidence=confidence)
        if isinstance(inputs[self._inputs[0]], torch.Tensor):
            answer = DynamicExitOutput(**{key: torch.from_numpy(value) for key, value in answer.items()})
        return answer

    def _feeds(self, inputs: Mapping[str, torch.Tensor | np.ndarray]) -> dict[str, np.ndarray]:
        if set(inputs) != set(self._inputs):
            said = f"got {', '.join(inputs) or 'none'}"
            raise ExportError(f"the model takes the inputs {', '.join(self._inputs)}; {said}")
        feeds = {}
        for spec in self.config.inputs:
            value = inputs[spec["name"]]
            array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
            shape = spec["shape"]
            fits = array.ndim == len(shape) + 1 and all(
                isinstance(want, str) or want == got for want, got in zip(shape, array.shape[1:], strict=False)
            )
            if not fits:
                want = ", ".join(str(size) for size in ["batch", *shape])
                raise ExportError(f"input '{spec['name']}' must be of shape ({want}); got {array.shape}")
            if array.dtype.kind == "f" and np.dtype(spec["dtype"]).kind != "f":
                raise ExportError(f"input '{spec['name']}' must be of type {spec['dtype']}; got {array.dtype}")
            feeds[spec["name"]] = np.ascontiguousarray(array, dtype=spec["dtype"])
        return feeds

    def can_generate(self) -> bool:
        """Tell transformers' pipelines that this is no generator."""
        return False

    def to(self, device) -> "DynamicExitModelForImageClassification":
        """Accept the CPU, which is where it runs; the execution provider is chosen when loading."""
        if torch.device(device).type != "cpu":
            raise ExportError(f"device '{device}' cannot be chosen here; load the model with provider=")
        return self

    @classmethod
    def _from_pretrained(
        cls,
        model_id: str | Path,
        config: DynamicExitConfig,
        *,
        operating_point: str | None = None,
        provider: str = "CPUExecutionProvider",
        session_options: onnxruntime.SessionOptions | None = None,
        subfolder: str = "",
        revision: str | None = None,
        cache_dir: str | None = None,
        token: bool | str | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        trust_remote_code: bool = False,
    ) -> "DynamicExitModelForImageClassification":
        folder = Path(model_id)
        if not folder.is_dir():
            wanted = [f"{subfolder}/{name}" if subfolder else name for name in (*FILES, "config.json")]
            folder = Path(
                snapshot_download(
                    str(model_id),
                    revision=revision,
                    cache_dir=cache_dir,
                    token=token,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    allow_patterns=wanted,
                )
            )
        folder = folder / subfolder
        for name in (MODEL_FILE, POINTS_FILE):
            if not (folder / name).is_file():
                raise ExportError(f"'{folder}' has no {name}; it is no complete dynamic model, export it anew")
        session = open_session(str(folder / MODEL_FILE), providers=[provider], options=session_options)
        points = OperatingPoints.read(folder / POINTS_FILE)
        return cls(session, config, points, operating_point, folder)

    @classmethod
    def from_pretrained(cls, model_id: str | os.PathLike, **kwargs) -> "DynamicExitModelForImageClassification":
        """Load a dynamic model.

        Args:
            model_id: A folder that ``dynamic-exit run`` wrote, or the id of a repository on the hub.
            **kwargs: ``operating_point``, ``provider``, ``session_options``, ``revision``, ``token`` and the other
                options of Optimum's classes.

        Returns:
            The model.

        Raises:
            ExportError: The folder is not there, incomplete, or of a newer version.
            OperatingPointError: The operating point is unknown.
        """
        folder = Path(model_id)
        if folder.is_dir():
            folder = folder / kwargs.pop("subfolder", "")
            if not (folder / "config.json").is_file():
                raise ExportError(f"'{folder}' has no config.json; it is no complete dynamic model, export it anew")
            config = kwargs.pop("config", None) or AutoConfig.from_pretrained(folder)
            return cls._from_pretrained(folder, config, **kwargs)
        if folder.is_absolute() or str(model_id).startswith(".") or str(model_id).count("/") != 1:
            raise ExportError(f"folder '{model_id}' does not exist; give a folder that `dynamic-exit run` wrote")
        return super().from_pretrained(str(model_id), **kwargs)

    def _save_pretrained(self, save_directory: str | Path) -> None:
        for name in FILES:
            source = Path(self.folder or "", name)
            if source.is_file() and source.resolve() != Path(save_directory, name).resolve():
                shutil.copyfile(source, Path(save_directory, name))


def point_thresholds(point: OperatingPoint, stages: Sequence[str]) -> np.ndarray:
    """Return a point's thresholds in the order of a chain.

    Args:
        point: The point.
        stages: The chain's names before the final.

    Returns:
        float32 (S,), +inf for a stage that the point does not use.

    Raises:
        OperatingPointError: The point uses a stage that the chain lacks.
    """
    used = {stage.stage: stage.threshold for stage in point.stages}
    missing = set(used) - set(stages)
    if missing:
        raise OperatingPointError(
            f"operating point '{point.name}' uses the stage '{sorted(missing)[0]}', which the file lacks; export anew"
        )
    return np.asarray([used.get(stage, np.inf) for stage in stages], np.float32)
