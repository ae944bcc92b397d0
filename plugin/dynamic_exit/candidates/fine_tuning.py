"""Savers trained for their role in a run; the weights are cached."""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor

from ..core import distributed
from ..core.batching import DEFAULT_BATCH_SIZE, batches
from ..core.cache import Cache
from ..core.file_archive import array_from_bytes, array_to_bytes
from ..core.hashing import array_fingerprint, digest
from ..core.model_fingerprint import environment_fingerprint, function_fingerprint
from ..errors import PassError
from ..graph import Classifier
from ..passes.tiny_saver import FineTuneStanza, TeacherSamples, fine_tune
from ..sources.data.split import Split

logger = logging.getLogger(__name__)

_STATE = "state.safetensors"


@dataclass(frozen=True)
class Teacher:
    """The exported backbone, which savers learn from.

    Attributes:
        run: Takes inputs as tensors and gives logits (N, C).
        fingerprint: Covers its numerics.
        input_names: Names of its inputs, in order.
    """

    run: Callable[..., Tensor]
    fingerprint: str
    input_names: tuple[str, ...]


class FineTuner:
    """Fine-tunes candidates on the training split, with the exported backbone as their teacher.

    Args:
        stanza: How to train.
        train: The training split.
        teacher: The exported backbone.
        seed: Decides whatever is random.
        cache: Keeps the teacher's logits and the trained weights.
    """

    def __init__(self, stanza: FineTuneStanza, train: Split, teacher: Teacher, seed: int, cache: Cache):
        self.stanza, self.train, self.teacher, self.seed, self.cache = stanza, train, teacher, seed, cache
        samples = [array_fingerprint(array) for array in (*train.inputs.values(), train.labels)]
        self.common = [environment_fingerprint("candidates"), teacher.fingerprint, samples]
        self.stanza_fingerprint = digest(stanza.model_dump_json(), function_fingerprint(stanza.augment))

    def tune(self, name: str, load: Callable[[], Classifier], fingerprint: str) -> tuple[Callable[[], Classifier], str]:
        """Train a copy of one candidate.

        Args:
            name: Its stage.
            load: Loads it, each time the same.
            fingerprint: Covers what `load` loads.

        Returns:
            What loads the trained copy, and a fingerprint that covers it.

        Raises:
            PassError: It has nothing to train, or the training fails.
        """
        place = distributed.device().type
        key = digest("tuned", self.common, fingerprint, self.stanza_fingerprint, str(self.seed), place)

        def load_tuned() -> Classifier:
            tuned = load()
            tuned.load_state_dict(self._state(key, name, load))
            return tuned

        self._state(key, name, load)
        return load_tuned, key

    def _state(self, key: str, name: str, load: Callable[[], Classifier]) -> dict[str, Tensor]:

        def train() -> dict[str, bytes]:
            candidate = load()
            if not any(True for _ in candidate.parameters()):
                raise PassError(f"candidate '{name}' holds no weights that can be trained")
            labels = torch.from_numpy(self.train.labels)
            samples = TeacherSamples(candidate.select(self.train.tensors), labels, self._teacher_logits)
            tuned = fine_tune(candidate, samples, self.stanza, self.seed, log_prefix=f"{name}: ")
            state = {name: value.clone().contiguous() for name, value in tuned.state_dict().items()}
            return {_STATE: safetensors.torch.save(state)}

        return safetensors.torch.load(self.cache.files(key, train)[_STATE])

    @functools.cached_property
    def _teacher_logits(self) -> Tensor:
        """The backbone's logits on the training split, float32 (N, C)."""
        key = digest("teacher", self.common)

        def run() -> dict[str, bytes]:
            logger.info("running the backbone on the training split, to teach savers")
            with torch.no_grad():
                inputs = [self.train.tensors[name] for name in self.teacher.input_names]
                logits = torch.cat([self.teacher.run(*batch) for batch in batches(inputs, DEFAULT_BATCH_SIZE)])
            return {"logits.npy": array_to_bytes(logits.float().numpy())}

        return torch.from_numpy(array_from_bytes(self.cache.files(key, run)["logits.npy"]))
