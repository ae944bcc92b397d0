"""A loaded model that is watched while it serves."""

import logging
from typing import Any, Protocol

import numpy as np

from ..chain.thresholds import ALWAYS_EXIT
from ..drift.input_statistics import MASK
from ..errors import MonitorError
from .adaptation import ADAPTED, Adaptation
from .blocks import SwitchableModel
from .monitor import Monitor

logger = logging.getLogger(__name__)


class ServedModel(SwitchableModel, Protocol):
    """A model as `load_runner` and `from_pretrained` return it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return answers that have logits, exit_index and confidence."""


class MonitoredModel:
    """Calls a model, and shows its answers to a monitor.

    Some calls are answered by the backbone as well, so that a monitor knows how often both agree without any label.

    Args:
        model: As `load_runner` and `from_pretrained` return it.
        monitor: Watches it, and may switch its operating point.
        check_share: Share of calls that the backbone answers too, in 0..1; each stage as well where thresholds are
            re-tuned.
        seed: Decides which.

    Raises:
        MonitorError: The share is none, or 0 where thresholds are to be re-tuned, or the monitor is of another model.
    """

    def __init__(self, model: ServedModel, monitor: Monitor, check_share: float = 0.01, seed: int = 0):
        if not 0 <= check_share <= 1:
            raise MonitorError(f"check_share must be in 0..1, such as 0.01; got {check_share}")
        if not check_share and monitor.adaptation is not None:
            raise MonitorError("thresholds are re-tuned on calls that are checked; give a check_share, such as 0.01")
        stages = (*getattr(model, "stages", monitor.reference.stages[:-1]), monitor.reference.stages[-1])
        if stages != monitor.reference.stages:
            raise MonitorError(
                f"the monitor is for the stages {', '.join(monitor.reference.stages)}, the model has "
                f"{', '.join(stages)}; read the reference of its own folder"
            )
        self.model, self.monitor, self.check_share = model, monitor, check_share
        self._random, self._missing = np.random.default_rng(seed), False
        monitor.attach(model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model answers.

        Args:
            *args: As the model takes them.
            **kwargs: As the model takes them; answers at a caller's own thresholds are not watched.
        """
        if kwargs.get("thresholds") is not None:
            return self.model(*args, **kwargs)
        point, thresholds = self.in_use
        if thresholds is not None:
            answers = self.model(*args, **kwargs, thresholds=thresholds)
        else:
            answers = self.model(*args, **kwargs)
            if self.model.operating_point.name != point:
                return answers  # switched meanwhile: by which of both it was answered is unknown
        self.watch(point, answers, *args, **kwargs)
        return answers

    @property
    def in_use(self) -> tuple[str, np.ndarray | None]:
        """The name of the current operating point; or ``adapted`` and its thresholds, float32 (S,)."""
        point, adaptation = self.model.operating_point.name, self.monitor.adaptation
        adapted = adaptation.thresholds if adaptation is not None and point == self.monitor.fallback else None
        return (point, None) if adapted is None else (ADAPTED, adapted)

    def set_operating_point(self, *args: Any, **kwargs: Any) -> Any:
        """Switch as the model does; the fallback of an alarm, and what was adapted, end."""
        point = self.model.set_operating_point(*args, **kwargs)
        self.monitor.release()
        return point

    def watch(self, point: str, answers: Any, *args: Any, **kwargs: Any) -> None:
        """Show the monitor answers of the model that were given at a known operating point.

        Args:
            point: Its name.
            answers: They have logits, exit_index and confidence.
            *args: What was answered, as the model takes it.
            **kwargs: The same, by name.
        """
        classes = np.asarray(answers.logits).argmax(axis=1)
        inputs = self.inputs_of(*args, **kwargs) if self.monitor.input_due else None
        self.monitor.observe(point, np.asarray(answers.exit_index), np.asarray(answers.confidence), classes, inputs)
        if self.check_share and self._random.random() < self.check_share:
            never = np.full(len(self.model.thresholds), np.inf, dtype=np.float32)
            backbone = self.model(*args, **kwargs, thresholds=never)
            wanted = np.asarray(backbone.logits).argmax(axis=1)
            self.monitor.observe_agreement(point, classes, wanted)
            if self.monitor.adaptation is not None:
                self._ask_stages(self.monitor.adaptation, wanted, *args, **kwargs)

    def inputs_of(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Return what was answered by the names of the model's inputs; None if what is watched is not among it.

        Args:
            *args: What was answered, as the model takes it.
            **kwargs: The same, by name.
        """
        names = getattr(self.model, "input_names", self.monitor.input_names)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if len(names) == 1 and names[0] not in given:  # as models of images also take `pixel_values`
            given = dict.fromkeys(names, next((each for each in given.values() if hasattr(each, "shape")), None))
        known = {name: given[name] for name in (*self.monitor.input_names, MASK) if given.get(name) is not None}
        missing = [name for name in self.monitor.input_names if name not in known]
        if missing and not self._missing:
            logger.warning(f"inputs are not watched: '{missing[0]}' is not among what the model is called with")
            self._missing = True
        found = {name: value if hasattr(value, "dtype") else np.asarray(value) for name, value in known.items()}
        return None if missing else found

    def _ask_stages(self, adaptation: Adaptation, backbone: np.ndarray, *args: Any, **kwargs: Any) -> None:
        """Show the adaptation what each stage in use would answer, and the end of their chain."""
        classes, confidence = [], []
        for stage, thresholds in adaptation.probes:
            answers = self.model(*args, **kwargs, thresholds=thresholds)
            sure, left = np.asarray(answers.confidence), np.asarray(answers.exit_index) == stage
            classes.append(np.asarray(answers.logits).argmax(axis=1))
            confidence.append(np.where(left & np.isfinite(sure), sure, ALWAYS_EXIT))
        if classes:
            adaptation.observe(np.column_stack(classes), np.column_stack(confidence[:-1]), backbone)

    def __getattr__(self, name: str) -> Any:
        """Return what else the model has."""
        if name == "model":  # of a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self.model, name)
