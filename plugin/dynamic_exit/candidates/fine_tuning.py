"""Savers trained for their role in a run; the weights are cached."""

from collections.abc import Callable

import safetensors.torch
import torch
from torch import Tensor

from ..core import distributed
from ..core.cache import Cache
from ..core.hashing import digest
from ..core.model_fingerprint import function_fingerprint
from ..data.split import Split
from ..errors import PassError
from ..graph import Classifier
from ..passes.tiny_saver import FineTuneStanza, TeacherSamples, fine_tune
from .teacher import TeacherAnswers

_STATE = "state.safetensors"


class FineTuner:
    """Fine-tunes candidates on the training split, with the exported backbone as their teacher.

    Args:
        stanza: How to train.
        train: The training split.
        answers: Of the teacher; its first samples are those of the training split.
        seed: Decides whatever is random.
        cache: Keeps the trained weights.
    """

    def __init__(self, stanza: FineTuneStanza, train: Split, answers: TeacherAnswers, seed: int, cache: Cache):
        self.stanza, self.train, self.answers, self.seed, self.cache = stanza, train, answers, seed, cache
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
        key = digest("tuned", self.answers.made_of, fingerprint, self.stanza_fingerprint, str(self.seed), place)

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
            taught = self.answers.plain()[: len(labels)]
            samples = TeacherSamples(candidate.select(self.train.tensors), labels, taught)
            tuned = fine_tune(candidate, samples, self.stanza, self.seed, log_prefix=f"{name}: ")
            state = {name: value.clone().contiguous() for name, value in tuned.state_dict().items()}
            return {_STATE: safetensors.torch.save(state)}

        return safetensors.torch.load(self.cache.files(key, train)[_STATE])
