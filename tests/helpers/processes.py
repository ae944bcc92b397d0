"""What `test_parallel` runs on several processes; the main one prints what came of it as JSON."""

import atexit
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

from dynamic_exit.core import distributed
from dynamic_exit.core.cache import Cache
from dynamic_exit.core.hashing import digest
from dynamic_exit.errors import DataError, PassError
from dynamic_exit.passes.early_exit import EarlyExitStanza, ExitTraining
from dynamic_exit.passes.early_exit.checkpoint import TrainingCheckpoint
from dynamic_exit.passes.early_exit.config import Training
from dynamic_exit.passes.early_exit.exit_set import ExitSet, PlacedHead
from dynamic_exit.passes.early_exit.heads.base import ExitHead
from dynamic_exit.passes.early_exit.train import Trainer

SAMPLES, CLASSES = 60, 3


class Head(ExitHead):
    """One layer."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(4, CLASSES)

    def answer(self, features):
        return self.layer(features)


class Given:
    """Features that are given, and a note of who asked for which."""

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.values = torch.randn(SAMPLES, 4, generator=generator)
        self.logits = 3 * torch.randn(SAMPLES, CLASSES, generator=generator)
        self.asked = set()
        self.part = distributed.shard(SAMPLES, 8)

    def batch(self, rows, epoch):
        self.asked |= set(rows.tolist())
        return {(0, "identity"): self.values[rows], (1, "identity"): self.values[rows].abs()}, self.logits[rows]

    def probe(self):
        return self.values[:1]


def train(weighting, batch_size, checkpoint=None, resume=False, stop=4):
    """Train two heads; return their numbers, the best epochs and the samples that this process asked for."""
    features = Given()
    options = Training(epochs=4, batch_size=batch_size, weighting=weighting, validation=0.2, warmup=0.0)
    labels = features.logits.argmax(1)
    exits = ExitSet({"a:given": PlacedHead(Head(), 0), "b:given": PlacedHead(Head(), 1)})
    training = ExitTraining(EarlyExitStanza(training=options), 3, device="cpu")
    written = checkpoint and TrainingCheckpoint(checkpoint, {})
    trainer = Trainer(exits, features, labels, training, checkpoint=written)
    trainer._stalled = lambda: trainer.epoch == stop
    trainer.run(resume)
    numbers = torch.cat([value.flatten() for value in exits.state_dict().values()]).tolist()
    return {"numbers": numbers, "best": trainer.best_epoch, "asked": sorted(features.asked)}


def failing(error, where):
    """Raise an error in one process; say what each of them sees."""

    def work():
        if where == told:
            raise error

    told = distributed.rank()
    try:
        distributed.run_on_all(work)
    except Exception as seen:
        return [type(seen).__name__, str(seen)]


def everything(folder):
    """All that is looked at, of this process."""
    rank = distributed.rank()
    numbers, kinds = torch.full((2, 2), rank + 1.0), [torch.full((3,), rank + 1), torch.full((1,), rank + 0.5)]
    distributed.all_reduce_sum([numbers])
    distributed.broadcast(kinds)
    rows = distributed.shard(20, 4)
    cache = Cache(folder / f"cache{rank}")
    key = digest("key")
    made = cache.files(key, lambda: {"a": b"of %d" % rank, "empty": b""})
    return {
        "rank": rank,
        "shards": [list(distributed.shard(samples, 4)) for samples in (0, 3, 8, 20, 100)],
        "led": distributed.run_on_main(lambda: {"by": rank, "alone": distributed.world_size()}),
        "gathered": [array.tolist() for array in distributed.all_gather_rows(
            lambda: [np.asarray(rows, np.int16) * 10, np.asarray([[row] * 2 for row in rows])] if rows else []
        )],
        "nobody": distributed.all_gather_rows(lambda: []),
        "added": numbers.tolist(),
        "shared": [each.tolist() for each in kinds],
        "refused": failing(DataError("a bad sample"), 1),
        "broken": failing(ValueError(), 0),
        "files": {name: content.decode() for name, content in made.items()},
        "found": [key in cache, digest("another") in cache, cache.get(digest("another")) is None],
        "written": len(list((folder / f"cache{rank}").rglob("*.zip"))),
        "memo": cache.memo(digest("memo"), lambda: rank + 7),
        "trained": [train("none", 8), train("reach", 2)],
    }  # fmt: skip


def note_threads(folder):
    """Write down the names of the threads that still run, where the system tells."""
    names = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").glob("*")]
    (folder / f"threads{os.environ['RANK']}.json").write_text(json.dumps(names))


def main(folder):
    """Run everything in every process, and gather what it saw."""
    with distributed.processes():
        checkpoint = folder / "exits.safetensors"
        mine = everything(folder)
        train("none", 8, checkpoint, stop=2)
        mine["resumed"] = train("none", 8, checkpoint, resume=True)
        distributed.run_on_main(lambda: checkpoint.write_bytes(b"nothing"))
        try:
            train("none", 8, checkpoint, resume=True)
        except PassError as error:
            mine["unread"] = str(error)
        text = np.frombuffer(json.dumps(mine).encode(), np.uint8)
        sizes, texts = distributed.all_gather_rows(lambda: [np.asarray([len(text)]), text])
        if distributed.is_main_process():
            ends = np.cumsum(sizes)
            print(
                json.dumps(
                    [json.loads(texts[end - size : end].tobytes()) for end, size in zip(ends, sizes, strict=True)]
                )
            )


if __name__ == "__main__":
    atexit.register(note_threads, Path(sys.argv[1]))  # runs after what registers later
    main(Path(sys.argv[1]))
