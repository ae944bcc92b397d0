"""The base of the classes that users load: loading, saving, uploading and switching operating points."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack

import torch
from huggingface_hub import HfApi
from optimum.modeling_base import OptimizedModel
from transformers.utils.hub import http_user_agent

from ..artifact.file_runner import Runner
from ..artifact.folder import PATTERNS, POINTS_FILE, cannot_write, check_inside, copy_files, find_folder, make_folder
from ..artifact.inputs import Values, check_inputs
from ..artifact.manifest import CONFIG_FILE
from ..artifact.model_config import DynamicExitModelConfig
from ..artifact.non_finite import DEFAULT, answer
from ..artifact.reopening import Opening
from ..artifact.runner import open_runner
from ..artifact.switch import OperatingPointSwitch
from ..errors import InputError, WriteError, first_line
from ..points.operating_point import OperatingPoints
from ..trust.signature import as_option, verify_folder
from .attributes import ClassifierAttributes, split_extras
from .options import (
    LoadingOptions,
    Place,
    check_file_name,
    check_options,
    load_config,
    split_options,
    target_options,
)
from .output import DynamicExitOutput

if TYPE_CHECKING:
    from ..recipe.recipe import Recipe


class DynamicExitClassifier(ClassifierAttributes, OptimizedModel):
    """A classifier that answers early when it is confident; loaded and saved like Optimum's classes.

    Args:
        runner: Runs the model.
        config: The model's configuration.
        operating_points: The operating points to switch between.
        operating_point: Name of the initial point; None is the folder's default.
        folder: The model's folder, for `save_pretrained`.
    """

    config_class = DynamicExitModelConfig
    #: The class of transformers that loads models of this task.
    auto_model_class: ClassVar[type | None] = None
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
        self._start(runner)
        self.operating_points, self.folder = operating_points, folder
        #: The folder, or what `from_pretrained` was given as `model_save_dir`.
        self.model_save_dir = None if folder is None else Path(folder)
        self._temporary: list[tempfile.TemporaryDirectory[str]] = []
        #: Names of the stages before the final one, in the order of `thresholds`.
        self.stages: tuple[str, ...] = runner.stages
        self.input_names = runner.input_names
        self._manifest = runner.manifest
        self._switch = OperatingPointSwitch(runner, operating_points, operating_point)
        self._warned = set()

    def _answer(
        self,
        inputs: Mapping[str, Values],
        thresholds: Sequence[float] | None = None,
        return_dict: bool | None = None,
    ) -> DynamicExitOutput | tuple[Values, ...]:
        """Classify a batch with the current thresholds, or with those of this call."""
        if len(inputs) != len(self.input_names):
            inputs, left = split_extras(inputs, self.input_names)
            for name in left:
                self._warn_once(f"'{name}' is left out: the model takes {', '.join(self.input_names)}", stacklevel=4)
        runner = self._current_runner() if self._left_parent else self._runner
        feeds = check_inputs(inputs, self.input_names, self._manifest.inputs, self._manifest.max_tokens)
        chosen = self._switch.active[1] if thresholds is None else self._switch.check(thresholds)
        answered: tuple[Values, ...] = answer(runner, feeds, chosen, self._non_finite)
        if isinstance(inputs[self.input_names[0]], torch.Tensor):
            answered = tuple(torch.from_numpy(value) for value in answered)
        if return_dict is False:
            return answered
        logits, exit_index, confidence = answered
        return DynamicExitOutput(logits=logits, exit_index=exit_index, confidence=confidence)

    @classmethod
    def from_pretrained(
        cls,
        model_id: str | os.PathLike[str],
        config: DynamicExitModelConfig | Place | None = None,
        export: bool = False,
        *,
        recipe: "Recipe | Mapping[str, Any] | str | os.PathLike[str] | None" = None,
        operating_point: str | None = None,
        **options: Unpack[LoadingOptions],
    ) -> Self:
        """Load a dynamic model.

        Args:
            model_id: A folder that ``dynamic-exit run`` wrote, or the id of a repository on the hub; with `export`, the
                folder or id of a transformers model.
            config: Replaces the folder's configuration: another one, its file or its folder.
            export: Whether to compress the model first, with `recipe`.
            recipe: With `export`: the file of a recipe, its stanzas, or a `Recipe`. It may omit `model`, and `export`,
                in which case a temporary folder is used.
            operating_point: Name of the initial point; None is the folder's default.
            **options: Those of Optimum's classes, and `compile`:

                - ``provider``: execution provider of onnxruntime; None is ``CPUExecutionProvider``.
                - ``providers``: several in order of preference, or pairs of one and its options; taken before
                  `provider`.
                - ``provider_options``: options of the first provider, or of each of them.
                - ``session_options``: further options of onnxruntime.
                - ``device``: for the target ``openvino``: OpenVINO's name of a device; None is ``CPU``.
                - ``compile``: for the target ``torch``: whether to compile the stages with inductor, which takes
                  minutes and makes 8-bit stages fast; None as the folder says.
                - ``subfolder``, ``revision``, ``token``, ``cache_dir``, ``force_download``, ``local_files_only``: as
                  everywhere on the hub. A ``config.json`` above the subfolder is found.
                - ``file_name``: ``model.onnx`` or None.
                - ``model_save_dir``: what `model.model_save_dir` shall be.
                - ``use_io_binding``, ``dtype``: change nothing; a warning says so where something else is asked for
                  than what is done anyway.
                - ``trust_remote_code``: ignored: no code of a folder is executed.
                - ``public_key``: of the author, a PEM file: its path or its content; the folder must then be signed
                  by it.
                - ``non_finite``: ``refuse``, as by default: inputs that hold NaN or infinity, and answers that are NaN,
                  are errors; ``report``: such rows have logits and confidence of NaN and the last exit index.

        Returns:
            The model.

        Raises:
            ArgumentError: An option is unknown or of a wrong type.
            InputError: An option has a wrong value, or the folder is for another class.
            MissingFileError: The folder or a file of it is missing.
            ExportError: The folder is altered or of a newer version, or an option is for another target.
            SignatureError: The folder is not signed by `public_key`, or holds something else than what was signed.
            ModelError: A stage cannot be compiled.
            OperatingPointError: The operating point is unknown.
            DynamicExitError: With `export`: the model cannot be compressed.
        """
        given = check_options(options)
        hub, _ = split_options(given)
        temporary = None
        if export:
            from .export_pretrained import export_pretrained  # imports everything that compressing needs

            folder, temporary = export_pretrained(model_id, recipe, cls.task, **hub)
        elif recipe is not None:
            raise InputError("a recipe came in without export=True; add it, or leave the recipe out")
        else:
            folder = find_folder(model_id, **hub)
        if (key := given.get("public_key")) is not None:
            verify_folder(folder, key)
            config = config or folder  # one above the subfolder is not signed
        config = load_config(config, folder, hub.get("subfolder", ""))
        if config.task != cls.task:
            raise InputError(f"'{folder}' is for {config.task}, {cls.__name__} is for {cls.task}; use the other class")
        manifest = config.manifest
        check_file_name(given.get("file_name"), folder, manifest)
        runner = open_runner(folder, manifest, **target_options(given))
        model = cls(runner, config, OperatingPoints.read(folder / POINTS_FILE), operating_point, folder)
        model._remember(given, [temporary] if temporary else [])
        return model

    def _remember(self, given: Mapping[str, Any], temporary: list[tempfile.TemporaryDirectory[str]]) -> None:
        """Remember how the model was loaded, and keep temporary folders as long as the model."""
        place = given.get("model_save_dir")
        if isinstance(place, tempfile.TemporaryDirectory):
            temporary, place = [*temporary, place], place.name
        kept = {name: value for name, value in given.items() if name in ("provider", "providers", "provider_options")}
        kept |= {name: given[name] for name in ("session_options", "device", "compile") if name in given}
        kept |= as_option(given.get("public_key"))
        kept["non_finite"] = self._non_finite = given.get("non_finite", DEFAULT)
        if place is not None:
            self.model_save_dir = kept["model_save_dir"] = Path(place)
        self._temporary = temporary
        self._opening = Opening(type(self).from_pretrained, (Path(str(self.folder)).absolute(), self.config), kept)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = super().__deepcopy__(memo)
        copied._temporary = self._temporary
        return copied

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
            WriteError: The folder cannot be written or uploaded.
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
            WriteError: The hub refuses the upload or cannot be reached.
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
            raise WriteError(
                f"'{save_directory}' cannot be uploaded to '{repository_id}': {first_line(error)}"
            ) from error
