"""What every dynamic model has in common, whatever it classifies."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from huggingface_hub import HfApi
from optimum.modeling_base import OptimizedModel
from transformers.utils import ModelOutput, http_user_agent

from ..artifact.file_runner import Runner
from ..artifact.folder import (
    CONFIG_FILE,
    PATTERNS,
    POINTS_FILE,
    cannot_write,
    copy_files,
    find_folder,
    has_own_processor,
    inside,
    make_folder,
    read_config,
)
from ..artifact.inputs import check_inputs
from ..artifact.manifest import IMAGES
from ..artifact.model_config import DynamicExitModelConfig
from ..artifact.runner import open_runner
from ..artifact.switch import OperatingPointSwitch
from ..chain.operating_point import OperatingPoint, OperatingPoints
from ..errors import ExportError, OutputError, first_line


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


class DynamicExitClassifier(OptimizedModel):
    """A classifier that leaves early where it is sure; loaded and saved like Optimum's own classes.

    Args:
        runner: What answers.
        config: Its configuration.
        operating_points: What can be switched to.
        operating_point: The point to start with, or None for the folder's default.
        folder: Where the files lie, for `save_pretrained`.
    """

    config_class = DynamicExitModelConfig
    auto_model_class = None
    base_model_prefix = "dynamic_exit"
    #: What it classifies, as transformers' pipelines call it.
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
        self.device = torch.device("cpu")
        self.dtype = torch.float32  # transformers' pipelines cast images to it
        #: Names of the stages before the final, in the order of `thresholds`.
        self.stages: tuple[str, ...] = runner.stages
        self.input_names: tuple[str, ...] = runner.input_names
        self._switch = OperatingPointSwitch(runner, config.stages, operating_points, operating_point)

    @property
    def operating_point(self) -> OperatingPoint:
        """The point that is in force."""
        return self._switch.point

    @property
    def thresholds(self) -> np.ndarray:
        """The thresholds in force, float32, one for each of `stages`; +inf where a stage is off."""
        return self._switch.thresholds().copy()

    def set_operating_point(
        self, name: str | None = None, *, max_accuracy_drop: float | None = None, budget: float | None = None
    ) -> OperatingPoint:
        """Switch to another operating point; nothing is reloaded, and it is safe while other threads call the model.

        Args:
            name: Of a point; ``backbone`` turns every stage off.
            max_accuracy_drop: The cheapest point that was tuned for at most this drop, a share; else the cheapest whose
                guarantee is for at most this. What a point happened to lose on the report's samples has no say.
            budget: The most accurate point that costs at most this share of the backbone, as measured.

        Returns:
            The point now in force.

        Raises:
            OperatingPointError: Not exactly one wish, or none that fits.
        """
        return self._switch.set(name, max_accuracy_drop=max_accuracy_drop, budget=budget)

    def _answer(
        self, inputs: Mapping[str, torch.Tensor | np.ndarray], thresholds: Sequence[float] | None = None
    ) -> DynamicExitOutput:
        """Answer a batch at the point in force, or at thresholds that are for this call alone."""
        specs = self.config.inputs or self.runner.inputs
        feeds = check_inputs(inputs, self.input_names, specs, self.config.max_tokens)
        answers = self.runner.run(feeds, self._switch.thresholds(thresholds))
        if isinstance(inputs[self.input_names[0]], torch.Tensor):
            answers = [torch.from_numpy(value) for value in answers]
        return DynamicExitOutput(*answers)

    def can_generate(self) -> bool:
        """Tell transformers' pipelines that this is no generator."""
        return False

    def to(self, device) -> "DynamicExitClassifier":
        """Accept the CPU, which is where it runs; the execution provider is chosen when loading."""
        if torch.device(device).type != "cpu":
            load = "load the model with provider=" if self.config.target == "onnxruntime" else "it runs on the CPU"
            said = f"cannot be chosen here; {load}, and make a pipeline with device='cpu'"
            raise ExportError(f"device '{device}' {said}")
        return self

    @classmethod
    def from_pretrained(
        cls,
        model_id: str | os.PathLike,
        config: DynamicExitModelConfig | None = None,
        export: bool = False,
        *,
        recipe=None,
        operating_point: str | None = None,
        provider: str | None = None,
        session_options: onnxruntime.SessionOptions | None = None,
        compile: bool | None = None,
        trust_remote_code: bool = False,
        **hub,
    ) -> "DynamicExitClassifier":
        """Load a dynamic model.

        Args:
            model_id: A folder that ``dynamic-exit run`` wrote, or the id of a repository on the hub; with `export` a
                folder or id of a transformers model.
            config: In place of the folder's.
            export: Compress the model first, by `recipe`.
            recipe: With `export`: a recipe's file, its stanzas as a mapping, or a `Recipe`; `model` may be left out,
                and so may `export`, for a temporary folder.
            operating_point: Name of the point to start with.
            provider: onnxruntime's execution provider; None is ``CPUExecutionProvider``.
            session_options: onnxruntime's further options.
            compile: Of a model for torch: whether its stages are compiled with inductor, which takes minutes and makes
                8-bit ones fast; None: as the folder says.
            trust_remote_code: Without effect: no code of a folder is run.
            **hub: ``revision``, ``token``, ``subfolder``, ``cache_dir``, ``force_download`` and ``local_files_only``.

        Returns:
            The model.

        Raises:
            ExportError: The folder is not there, incomplete, altered, of a newer version, or for another class, or an
                option is for another target.
            ModelError: A stage cannot be compiled.
            OperatingPointError: The operating point is unknown.
            DynamicExitError: With `export`: what cannot be compressed and why.
        """
        kept = None
        if export:
            from .export_pretrained import export_pretrained  # brings all that compressing needs

            folder, kept = export_pretrained(model_id, recipe, cls.task, **hub)
        elif recipe is not None:
            raise ExportError("a recipe came in without export=True; add it, or leave the recipe out")
        else:
            folder = find_folder(model_id, **hub)
        config = config or read_config(folder)
        if config.task != cls.task:
            raise ExportError(f"'{folder}' is for {config.task}, {cls.__name__} is for {cls.task}; use the other class")
        if config.task == IMAGES and has_own_processor(folder):
            from ..artifact import image_processor  # noqa: F401  makes it known to transformers, at a second of imports

        runner = open_runner(folder, config, provider, session_options, compile)
        model = cls(runner, config, OperatingPoints.read(folder / POINTS_FILE), operating_point, folder)
        model._kept = kept  # a temporary folder lives as long as its model
        return model

    @classmethod
    def _from_pretrained(
        cls, model_id: str | Path, config: DynamicExitModelConfig, **options
    ) -> "DynamicExitClassifier":
        return cls.from_pretrained(model_id, config, **options)

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> str | None:
        """Save the model with all that belongs to it, so that `from_pretrained` loads it again.

        Args:
            save_directory: Made where it is not there.
            push_to_hub: Upload it, too.
            **kwargs: For `push_to_hub`.

        Returns:
            The commit's address where it was uploaded, else None.

        Raises:
            OutputError: The folder cannot be written, or not be uploaded.
        """
        folder = make_folder(save_directory)
        try:
            super().save_pretrained(folder)
        except OSError as error:
            raise cannot_write(folder, error) from error
        return self.push_to_hub(folder, **kwargs) if push_to_hub else None

    def _save_pretrained(self, save_directory: str | Path) -> None:
        if self.folder is not None:
            copy_files(Path(self.folder), Path(save_directory), self.config.tokenizer_files)

    def push_to_hub(
        self,
        save_directory: str | os.PathLike,
        repository_id: str,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        commit_message: str = "Upload a dynamic model",
    ) -> str:
        """Upload a saved model in one commit; the repository is made where it is not there.

        Args:
            save_directory: What `save_pretrained` wrote.
            repository_id: ``owner/name``.
            private: Whether a new repository is; None leaves it to the owner's settings.
            token: None uses the one that is logged in.
            revision: Branch; None is the main one.
            commit_message: Of the commit.

        Returns:
            The commit's address.

        Raises:
            OutputError: The hub refuses it or cannot be reached.
        """
        api = HfApi(user_agent=http_user_agent(), token=token)
        try:
            repository = api.create_repo(repository_id, private=private, exist_ok=True).repo_id
            return api.upload_folder(
                repo_id=repository,
                folder_path=save_directory,
                revision=revision,
                commit_message=commit_message,
                allow_patterns=[CONFIG_FILE, *PATTERNS, *inside(save_directory, self.config.tokenizer_files)],
            ).commit_url
        except Exception as error:  # the hub raises dozens of types, with and without a common base
            said = f"cannot be uploaded to '{repository_id}': {first_line(error)}"
            raise OutputError(f"'{save_directory}' {said}") from error
