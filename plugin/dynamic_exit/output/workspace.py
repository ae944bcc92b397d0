"""The folder that a run writes, complete or not at all."""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..artifact.folder import POINTS_FILE, RECIPE_FILE
from ..artifact.manifest import CONFIG_FILE, IMAGES, Manifest
from ..artifact.model_config import DynamicExitModelConfig
from ..artifact.report_file import write_report
from ..core import distributed
from ..core.atomic_write import sync_tree
from ..core.logging import logging_to
from ..data.run_inputs import RunInputs
from ..drift.input_reference import read_inputs
from ..errors import OutputError
from ..monitoring.reference import REFERENCE_FILE, Reference
from ..points.operating_point import OperatingPoints
from ..recipe.yaml_io import recipe_text
from ..records import Records
from ..report.examples import EXAMPLES_FILE, show_samples, write_examples
from ..report.metrics import METRICS_FILE, Metrics
from ..sources.tokenizer import save_tokenizer, text_decoder
from .folder import OutputFolder
from .lock import OutputLock
from .run_log import LOG_FILE, RunLog

logger = logging.getLogger(__name__)

# in the folder until all else is written: features and checkpoints of a training; and while these are removed
_WORK, _REMOVED_WORK = "work", ".work"


class Workspace:
    """A temporary folder that becomes the output at the end; as a context manager it locks the output.

    Args:
        directory: The output folder; it must be empty or not exist.
        overwrite: Whether it may hold a model that a run has written, which is replaced at the end.
        resume: Whether it may be the result of this run already, as `pipeline.run` finds out.

    Raises:
        OutputError: The output is not empty, or cannot be created.
    """

    def __init__(self, directory: str | Path, overwrite: bool = False, resume: bool = False):
        place, inside = distributed.run_on_main(lambda: _locate(directory, overwrite, resume))
        self._resume = resume
        self.output = OutputFolder(Path(place), inside, overwrite)
        self.partial = self.output.partial
        self.work = self.partial / _WORK
        self._lock: OutputLock | None = None
        self._log = RunLog()
        self._logging = contextlib.ExitStack()

    def __enter__(self) -> "Workspace":
        """Lock the output and start its log, in the main process.

        Raises:
            OutputError: Another run holds or has just written the output, or it cannot be created.
        """
        distributed.run_on_main(self._acquire)
        if distributed.is_main_process():
            self._logging.enter_context(logging_to(self._log, logging.DEBUG))
        return self

    def _acquire(self) -> None:
        lock = OutputLock(self.output.directory, self.output.inside)
        try:
            self.output.settle()
            self.output.check(self._resume)
        except BaseException:
            lock.release()
            raise
        self._lock = lock

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Close the log and release the output; say in one sentence that a disk is full or cannot be written.

        Raises:
            OutputError: In place of an error of a disk.
        """
        self._logging.close()
        self._log.end(error)
        if self._lock:
            self._lock.release()
        self.output.explain_disk_error(error)

    def begin(self, resume: bool = False) -> Path:
        """Create the temporary folder, in the main process.

        Args:
            resume: Whether to keep the training state in ``work`` and the log of an interrupted run; else both are
                removed.

        Returns:
            The folder ``work``, for features and checkpoints.

        Raises:
            OutputError: It cannot be created.
        """
        distributed.run_on_main(lambda: self._begin(resume))
        return self.work

    def _begin(self, resume: bool) -> None:
        kept = [path for path in self.work.glob("[!.]*")] if resume else []
        if resume and not kept:
            logger.info(f"nothing to resume in '{self.partial}': training starts from the beginning")
        # everything but complete files of the training; incomplete ones begin with a dot
        for path in [*self.partial.glob("*"), *self.work.glob(".*")]:
            if path.is_dir() and not (kept and path == self.work):
                shutil.rmtree(path)
            elif not (path.is_dir() or (resume and path.name == LOG_FILE)):
                path.unlink()
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            self._log.open(self.partial / LOG_FILE, append=resume)
        except OSError as error:
            raise OutputError(
                f"folder '{self.partial}' cannot be made: {error.strerror}; choose another one"
            ) from error

    def save_points(self, points: OperatingPoints) -> None:
        """Write the operating points."""
        points.write(self.partial / POINTS_FILE)

    def save_reference(self, test: Records, points: OperatingPoints, run_inputs: RunInputs, manifest: Manifest) -> None:
        """Write what live traffic is compared with.

        Args:
            test: Records of the test samples.
            points: The operating points.
            run_inputs: The samples.
            manifest: Of the model, which names the inputs.
        """
        names = [spec["name"] for spec in manifest.inputs]
        inputs = read_inputs(*(run_inputs.splits[split].feeds(names) for split in ("test", "calibration")))
        Reference.of(test, points, run_inputs.classes, inputs).write(self.partial / REFERENCE_FILE)

    def save(self, records: Records) -> None:
        """Write the records early, so that a later failure does not lose them."""
        records.write(self.partial / "records.npz")

    def leave(self) -> None:
        """Remove the temporary folder, on machines without the main process."""
        shutil.rmtree(self.partial, ignore_errors=True)

    def finish(
        self,
        run_inputs: RunInputs,
        manifest: Manifest,
        metrics: Metrics,
        card: Callable[[Manifest], str],
    ) -> Path:
        """Write all other files, remove the training state, and rename the folder.

        Args:
            run_inputs: The recipe and its samples.
            manifest: Of the model, whose files are already written.
            metrics: All measurements.
            card: Returns the model card of the finished manifest.

        Returns:
            The output folder.
        """
        recipe = run_inputs.recipe
        if recipe.data.is_text:
            tokenizer_files = save_tokenizer(self.partial, recipe.data, recipe.model, manifest.max_tokens)
            manifest = manifest.model_copy(update={"tokenizer_files": tuple(tokenizer_files)})
        DynamicExitModelConfig.of(manifest).save_pretrained(self.partial)
        if manifest.task == IMAGES:
            from ..artifact.image_processor import write_image_processor

            calibration = run_inputs.splits["calibration"]
            images, form = next(iter(calibration.inputs.values())), calibration.image_format
            write_image_processor(self.partial, images, recipe.model.preprocessing.interpolation, form)
        metrics.write(self.partial / METRICS_FILE)
        self._save_examples(run_inputs, metrics)
        directory = self.output.directory
        (self.partial / RECIPE_FILE).write_text(recipe_text(recipe, directory), encoding="utf-8")
        write_report(self.partial)
        (self.partial / "README.md").write_text(card(manifest), encoding="utf-8")
        self._log.end()
        sync_tree(self.partial)
        os.replace(self.work, self.partial / _REMOVED_WORK)  # from here on all is written, and nothing made again
        return self.complete()

    @property
    def is_written(self) -> bool:
        """Whether a run was killed that had written all files, and had only to rename their folder."""
        return (self.partial / CONFIG_FILE).is_file() and not self.work.exists()

    def complete(self) -> Path:
        """Put what is written in the output's place, and return that."""
        shutil.rmtree(self.partial / _REMOVED_WORK, ignore_errors=True)
        self.output.complete()
        return self.output.directory

    def _save_examples(self, run_inputs: RunInputs, metrics: Metrics) -> None:
        """Write what the samples look like that the report shows."""
        recipe, inputs = run_inputs.recipe, run_inputs.splits["test"].inputs
        text = recipe.data.is_text and bool(metrics.examples)
        decode = text_decoder(recipe.data, recipe.model) if text else None
        if shown := show_samples(inputs, metrics.examples, decode):
            write_examples(self.partial / EXAMPLES_FILE, shown)


def _locate(directory: str | Path, overwrite: bool, resume: bool) -> tuple[str, bool]:
    output = OutputFolder.locate(directory, overwrite)
    output.check(resume)
    return str(output.directory), output.inside


def explain_resume(directory: str | Path, overwrite: bool = False) -> str:
    """Explain what an interrupted run has left, and how to continue.

    Args:
        directory: Output folder of the run.
        overwrite: Whether the run replaces a model that is there.
    """
    output = OutputFolder.locate(directory)
    if output.partial.is_dir():
        kept = f"'{output.partial}' keeps what is done"
        return f"interrupted; {kept}: run the same command with --resume to go on from there"
    if output.content() and not overwrite:
        return f"interrupted, but '{directory}' is written and whole: nothing is left to do or to --resume"
    return f"interrupted; nothing is in '{directory}' yet: run the same command again, with or without --resume"
