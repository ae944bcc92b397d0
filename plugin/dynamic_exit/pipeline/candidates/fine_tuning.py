"""Savers trained for their role in a run: once, and found again."""

import functools
import logging
from collections.abc import Callable, Sequence

import safetensors.torch
import torch
from torch import Tensor

from ...core.batching import batches
from ...core.cache import Cache
from ...core.file_archive import array_from_bytes, array_to_bytes
from ...core.hashing import array_fingerprint, digest
from ...core.model_fingerprint import environment_fingerprint, function_fingerprint
from ...errors import PassError
from ...graph import Classifier
from ...passes.tiny_saver import FineTuneStanza, fine_tune
from ...sources.data.split import Split

logger = logging.getLogger(__name__)

_BATCH_SIZE = 64
_STATE = "state.safetensors"


class FineTuner:
    """Fine-tunes candidates on the training split, with the shipped backbone as their teacher.

    Args:
        stanza: How to train.
        train: The training split.
        backbone: Takes inputs as tensors and gives the shipped backbone's logits (N, C).
        backbone_sum: Covers the backbone's numerics.
        seed: Decides whatever is random.
        cache: Keeps the teacher's logits and the trained weights.
        names: Of the inputs that the backbone takes, in order.
    """

    def __init__(
        self,
        stanza: FineTuneStanza,
        train: Split,
        backbone: Callable[..., Tensor],
        backbone_sum: str,
        seed: int,
        cache: Cache,
        names: Sequence[str],
    ):
        self.stanza, self.train, self.backbone, self.seed = stanza, train, backbone, seed
        self.cache, self.names = cache, names
        samples = [array_fingerprint(array) for array in (*train.inputs.values(), train.labels)]
        self.common = [environment_fingerprint(), backbone_sum, samples]
        self.stanza_sum = digest(stanza.model_dump_json(), function_fingerprint(stanza.augment))

    def tune(self, name: str, load: Callable[[], Classifier], fingerprint: str) -> tuple[Callable[[], Classifier], str]:
        """Train a copy of one candidate.

        Args:
            name: Its stage.
            load: Loads it, each time the same.
            fingerprint: Covers what `load` loads.

        Returns:
            What loads the trained copy, and a sum that covers it.

        Raises:
            PassError: It has nothing to train, or the training fails.
        """
        key = digest("tuned", self.common, fingerprint, self.stanza_sum, str(self.seed))

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
            tuned = fine_tune(
                candidate,
                candidate.select(self.train.tensors),
                labels,
                self.teacher,
                self.stanza,
                self.seed,
                log_prefix=f"{name}: ",
            )
            state = {name: value.clone().contiguous() for name, value in tuned.state_dict().items()}
            return {_STATE: safetensors.torch.save(state)}

        return safetensors.torch.load(self.cache.files(key, train)[_STATE])

    @functools.cached_property
    def teacher(self) -> Tensor:
        """The backbone's logits on the training split, float32 (N, C)."""
        key = digest("teacher", self.common)

        def run() -> dict[str, bytes]:
            logger.info("running the backbone on the training split, to teach savers")
            with torch.no_grad():
                inputs = [self.train.tensors[name] for name in self.names]
                logits = torch.cat([self.backbone(*batch) for batch in batches(inputs, _BATCH_SIZE)])
            return {"logits.npy": array_to_bytes(logits.float().numpy())}

        return torch.from_numpy(array_from_bytes(self.cache.files(key, run)["logits.npy"]))
