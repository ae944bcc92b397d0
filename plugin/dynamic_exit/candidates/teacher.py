"""The exported backbone as the teacher of savers, and its answers on views of the training samples."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from ..core.batching import DEFAULT_BATCH_SIZE
from ..core.cache import Cache
from ..core.hashing import array_fingerprint, digest
from ..core.mapped_arrays import collect_blocks, row_blocks
from ..core.memory_pages import release_pages
from ..core.model_fingerprint import environment_fingerprint
from ..data.run_inputs import RunInputs
from ..data.split import UNLABELLED, Split
from ..passes.tiny_saver.makers import ViewOf

logger = logging.getLogger(__name__)


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


def training_samples(run_inputs: RunInputs) -> Split:
    """Return the training split, and behind it the unlabelled samples if there are some."""
    train, more = run_inputs.splits["train"], run_inputs.splits.get(UNLABELLED)
    if more is None:
        return train
    count = len(train) + len(more)
    inputs = {
        name: collect_blocks(chain(row_blocks(array), row_blocks(more.inputs[name])), count)
        for name, array in train.inputs.items()
    }
    return replace(train, inputs=inputs, labels=np.concatenate([train.labels, more.labels]), groups=None)


class TeacherAnswers:
    """What a teacher answers on views of samples: each view once, kept in the cache and mapped into memory.

    Args:
        teacher: The exported backbone.
        samples: Of which views are made.
        cache: Keeps the answers.

    Attributes:
        made_of: Fingerprints of all that decides an answer besides the view.
    """

    def __init__(self, teacher: Teacher, samples: Split, cache: Cache):
        self.teacher, self.samples, self.cache = teacher, samples, cache
        arrays = [array_fingerprint(array) for array in (*samples.inputs.values(), samples.labels)]
        self._known: dict[str, Tensor] = {}
        self.made_of = [environment_fingerprint("candidates"), teacher.fingerprint, arrays]

    def __call__(self, name: str, view: ViewOf) -> Tensor:
        """Return logits on a view, float32 (N, C).

        Args:
            name: Covers all that decides the view besides the samples; ``plain`` for the samples as they are.
            view: Returns the inputs of some rows.
        """

        @torch.no_grad()
        def answer() -> Iterator[np.ndarray]:
            logger.info("running the backbone on a view of the training split, to teach savers")
            for rows in torch.arange(len(self.samples)).split(DEFAULT_BATCH_SIZE):
                batch = view(rows)
                yield self.teacher.run(*(batch[each] for each in self.teacher.input_names)).float().numpy()
                release_pages()

        if name not in self._known:  # else each saver would have the checksums of all views taken anew
            key = digest("view", self.made_of, name)
            self._known[name] = torch.from_numpy(self.cache.array(key, len(self.samples), answer))
        return self._known[name]

    def plain(self) -> Tensor:
        """Return logits on the samples as they are, float32 (N, C)."""
        tensors = self.samples.tensors
        return self("plain", lambda rows: {name: tensor[rows] for name, tensor in tensors.items()})
