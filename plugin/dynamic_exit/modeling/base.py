"""The base of the classes that users load: loading, saving, uploading and switching operating points."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import onnxruntime
import torch
from huggingface_hub import HfApi
from optimum.modeling_base import OptimizedModel
from transformers.utils.generic import ModelOutput
from transformers.utils.hub import http_user_agent

from ..artifact.file_runner import Runner
from ..artifact.folder import (
    PATTERNS,
    POINTS_FILE,
    HubOptions,
    cannot_write,
    check_inside,
    copy_files,
    find_folder,
    has_own_processor,
    make_folder,
    read_config,
)
from ..artifact.inputs import check_inputs
from ..artifact.manifest import CONFIG_FILE, IMAGES
from ..artifact.model_config import DynamicExitModelConfig
from ..artifact.runner import open_runner
from ..artifact.switch import OperatingPointSwitch, SwitchesOperatingPoints
from ..chain.operating_point import OperatingPoints
from ..core.import_hook import after_import
from ..errors import ExportError, OutputError, first_line
from ..recipe.target_registry import TARGETS

if TYPE_CHECKING:
    from ..recipe.recipe import Recipe


def _register_image_processor() -> None:
    from ..artifact import image_processor  # noqa: F401  takes two seconds, so only for those who load processors


@dataclass
class DynamicExitOutput(ModelOutput):
    """The output of a dynamic model.

    Attributes:
        logits: float32 (N, C).
        exit_index: int64 (N,): index of the stage that answered; the final stage is the last.
        confidence: float32 (N,): probability of the predicted class, in 0..1.
    """

    logits: torch.Tensor | np.ndarray | None = None
    exit_index: torch.Tensor | np.ndarray | None = None
    confidence: torch.Tensor | np.ndarray | None = None


class DynamicExitClassifier(SwitchesOperatingPoints, OptimizedModel):
    """A classifier that answers early when it is confident; loaded and saved like Optimum's classes.

    Args:
        runner: Runs the model.
        config: The model's configuration.
        operating_points: The operating points to switch between.
        operating_point: Name of the initial point; None is the folder's default.
        folder: The model's folder, for `save_pretrained`.
    """

    config_class = DynamicExitModelConfig
    auto_model_class = None
    base_model_prefix = "dynamic_exit"
    #: Name of the task in transformers' pipelines.
    task: str
    input_modalities: str | tuple[str, ...]
    output_modalities = ("text",)

    def __init__(
        self,
        runner: Runner,
        config: DynamicExitModelConfig,
        operating_points: OperatingPoints,
        operating_point: str | None = None,
        folder: str | Path | None = None,
    ):
        super().__init__(runner, config)
        self.runner, self.operating_points, self.folder = runner, operating_points, folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.device = torch.device("cpu")
        self.dtype = torch.float32  # transformers' pipelines cast images to it
        #: Names of the stages before the final one, in the order of `thresholds`.
        self.stages: tuple[str, ...] = runner.stages
        self.input_names: tuple[str, ...] = runner.input_names
        self._manifest = config.manifest
        self._switch = OperatingPointSwitch(runner, self._manifest.stages, operating_points, operating_point)

    def _answer(
        self, inputs: Mapping[str, torch.Tensor | np.ndarray], thresholds: Sequence[float] | None = None
    ) -> DynamicExitOutput:
        """Classify a batch with the current thresholds, or with those of this call."""
        specs = self._manifest.inputs or self.runner.inputs
        feeds = check_inputs(inputs, self.input_names, specs, self._manifest.max_tokens)
        chosen = self._switch.active[1] if thresholds is None else self._switch.check(thresholds)
        answer = self.runner.run(feeds, chosen)
        if isinstance(inputs[self.input_names[0]], torch.Tensor):
            return DynamicExitOutput(*(torch.from_numpy(value) for value in answer))
        return DynamicExitOutput(*answer)

    def can_generate(self) -> bool:
        """Return False, for transformers' pipelines."""
        return False

    def to(self, device: torch.device | str | int) -> "DynamicExitClassifier":
        """Accept the CPU only; the execution provider is chosen when loading."""
        if torch.device(device).type != "cpu":
            takes_provider = "provider" in TARGETS.find(self._manifest.target).loading
            advice = "load the model with provider=" if takes_provider else "it runs on the CPU"
            raise ExportError(
                f"device '{device}' cannot be chosen here; {advice}, and make a pipeline with device='cpu'"
            )
        return self

    @classmethod
    def from_pretrained(
        cls,
        model_id: str | os.PathLike[str],
        config: DynamicExitModelConfig | None = None,
        export: bool = False,
        *,
        recipe: "Recipe | Mapping[str, Any] | str | os.PathLike[str] | None" = None,
        operating_point: str | None = None,
        provider: str | None = None,
        session_options: onnxruntime.SessionOptions | None = None,
        compile: bool | None = None,
        trust_remote_code: bool = False,
        **hub: Unpack[HubOptions],
    ) -> "DynamicExitClassifier":
        """Load a dynamic model.

        Args:
            model_id: A folder that ``dynamic-exit run`` wrote, or the id of a repository on the hub; with `export`, the
                folder or id of a transformers model.
            config: Replaces the folder's configuration.
            export: Whether to compress the model first, with `recipe`.
            recipe: With `export`: the file of a recipe, its stanzas, or a `Recipe`. It may omit `model`, and `export`,
                in which case a temporary folder is used.
            operating_point: Name of the initial point; None is the folder's default.
            provider: Execution provider of onnxruntime; None is ``CPUExecutionProvider``.
            session_options: Further options of onnxruntime.
            compile: For the target ``torch``: whether to compile the stages with inductor, which takes minutes and
                makes 8-bit stages fast; None as the folder says.
            trust_remote_code: Ignored: no code of a folder is executed.
            **hub: ``revision``, ``token``, ``subfolder``, ``cache_dir``, ``force_download`` and ``local_files_only``.

        Returns:
            The model.

        Raises:
            ExportError: The folder is missing, incomplete, altered, of a newer version, or for another class; or an
                option is for another target.
            ModelError: A stage cannot be compiled.
            OperatingPointError: The operating point is unknown.
            DynamicExitError: With `export`: the model cannot be compressed.
        """
        temporary = None
        if export:
            from .export_pretrained import export_pretrained  # imports everything that compressing needs

            folder, temporary = export_pretrained(model_id, recipe, cls.task, **hub)
        elif recipe is not None:
            raise ExportError("a recipe came in without export=True; add it, or leave the recipe out")
        else:
            folder = find_folder(model_id, **hub)
        config = config or read_config(folder)
        if config.task != cls.task:
            raise ExportError(f"'{folder}' is for {config.task}, {cls.__name__} is for {cls.task}; use the other class")
        if config.task == IMAGES and has_own_processor(folder):
            after_import("transformers.models.auto.image_processing_auto", _register_image_processor)
        options = {"provider": provider, "session_options": session_options, "compile": compile}
        runner = open_runner(folder, config.manifest, **options)
        model = cls(runner, config, OperatingPoints.read(folder / POINTS_FILE), operating_point, folder)
        model._temporary = temporary  # keeps a temporary folder as long as its model
        return model

    @classmethod
    def _from_pretrained(
        cls, model_id: str | Path, config: DynamicExitModelConfig, **options: Any
    ) -> "DynamicExitClassifier":
        return cls.from_pretrained(model_id, config, **options)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> str | None:
        """Save the complete model, so that `from_pretrained` can load it again.

        Args:
            save_directory: Created if it does not exist.
            push_to_hub: Whether to upload it, too.
            **kwargs: For `push_to_hub`.

        Returns:
            The URL of the commit if it was uploaded, else None.

        Raises:
            OutputError: The folder cannot be written or uploaded.
        """
        folder = make_folder(save_directory)
        try:
            super().save_pretrained(folder)
        except OSError as error:
            raise cannot_write(folder, error) from error
        return self.push_to_hub(folder, **kwargs) if push_to_hub else None

    def _save_pretrained(self, save_directory: str | Path) -> None:
        if self.folder is not None:
            copy_files(Path(self.folder), Path(save_directory), self._manifest.tokenizer_files)

    def push_to_hub(
        self,
        save_directory: str | os.PathLike[str],
        repository_id: str,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        commit_message: str = "Upload a dynamic model",
    ) -> str:
        """Upload a saved model in one commit; the repository is created if it does not exist.

        Args:
            save_directory: A folder that `save_pretrained` wrote.
            repository_id: ``owner/name``.
            private: Whether a new repository is private; None uses the owner's default.
            token: Access token; None uses that of the logged-in user.
            revision: Branch; None is the default branch.
            commit_message: Message of the commit.

        Returns:
            The URL of the commit.

        Raises:
            OutputError: The hub refuses the upload or cannot be reached.
        """
        api = HfApi(user_agent=http_user_agent(), token=token)
        try:
            repository = api.create_repo(repository_id, private=private, exist_ok=True).repo_id
            return api.upload_folder(
                repo_id=repository,
                folder_path=str(save_directory),
                revision=revision,
                commit_message=commit_message,
                allow_patterns=[CONFIG_FILE, *PATTERNS, *check_inside(save_directory, self._manifest.tokenizer_files)],
            ).commit_url
        except Exception as error:  # the hub raises dozens of types without a common base
            raise OutputError(
                f"'{save_directory}' cannot be uploaded to '{repository_id}': {first_line(error)}"
            ) from error
