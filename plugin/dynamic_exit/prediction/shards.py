"""The output of batch inference: parquet files, each there as a whole or not at all, in a place where all is complete.

Until the last shard is written they lie in ``OUTPUT.partial``; then they become the folder, or are joined to one file.
"""

import contextlib
import importlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.atomic_write import atomic_write, sync
from ..errors import DynamicExitError, OutputError, first_line
from ..output.lock import OutputLock

SUFFIX, PARTIAL = ".parquet", ".partial"
#: What the shards were made of, as JSON; readers of parquet folders leave hidden files out.
MADE_OF = ".made_of.json"
_REPLACED, _JOINED = ".replaced", ".joined"
# what differs from an interrupted run -> how a message says so
_CHANGES = {
    "model": "another model, or the folder has changed since",
    "data": "other data, or they have changed since",
    "columns": "other columns of the data",
    "operating_point": "the operating point '{}'",
    "batch_size": "--batch-size {}",
    "shard_rows": "--shard-rows {}",
}


class ShardFiles:
    """The files of shards, for processes that write some of them.

    Args:
        output: What they become.
        partial: Where they lie until then.
    """

    def __init__(self, output: Path, partial: Path):
        self.output, self.partial = output, partial

    def path(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.partial / f"part-{number:05d}{SUFFIX}"

    def write(self, number: int, table: Any) -> None:
        """Write a shard.

        Raises:
            OutputError: The disk cannot be written.
        """
        parquet = importlib.import_module("pyarrow.parquet")
        with self.explain_disk_errors(), atomic_write(self.path(number)) as file:
            parquet.write_table(table, file)

    @contextlib.contextmanager
    def explain_disk_errors(self) -> Iterator[None]:
        """Raise `OutputError` in place of what the system says of a disk."""
        try:
            yield
        except OSError as error:
            if isinstance(error, DynamicExitError):
                raise
            raise OutputError(
                f"output '{self.output}' cannot be written: {error.strerror or first_line(error)}; make room, or "
                "choose another place; finished shards are kept"
            ) from error


class Shards(ShardFiles):
    """Shards of an output, locked for this process until `release`.

    Args:
        output: A file if its name ends in ``.parquet``, else a folder of shards.
        overwrite: Whether a finished output is replaced, and parts of another run are removed.

    Raises:
        OutputError: It is there and may not be replaced, holds something else, or another process writes it.
    """

    def __init__(self, output: Path, overwrite: bool):
        real = Path(os.path.realpath(output))
        super().__init__(real, real.with_name(real.name + PARTIAL))
        self._overwrite, self._is_file = overwrite, output.suffix == SUFFIX
        self._lock = OutputLock(self.output)
        try:
            with self.explain_disk_errors():
                self._check_output()
                self._check_partial()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others write the output; what is there stays."""
        self._lock.release()

    def _check_output(self) -> None:
        there = self.output.exists() and not (self.output.is_dir() and not any(self.output.iterdir()))
        if self._is_file and self.output.exists() and not self.output.is_file():
            raise OutputError(f"output '{self.output}' is no file; give another name that ends in {SUFFIX}")
        if not self._is_file and there and not (self.output / MADE_OF).is_file():
            raise OutputError(
                f"output '{self.output}' is there and no prediction wrote it; give a new folder, or a file that ends "
                f"in {SUFFIX}"
            )
        if there and not self._overwrite:
            raise OutputError(f"output '{self.output}' is there already; choose another, or replace it by --overwrite")

    def _check_partial(self) -> None:
        if os.path.lexists(self.partial) and not (self.partial / MADE_OF).is_file() and any(self._foreign()):
            raise OutputError(
                f"'{self.partial}', where parts are written, is there and no prediction wrote it; move it away"
            )

    def _foreign(self) -> Iterator[Path]:
        """Yield what no interrupted prediction leaves before it has begun."""
        if not self.partial.is_dir():
            yield self.partial
            return
        yield from (each for each in self.partial.iterdir() if not each.name.startswith("."))

    def begin(self, made_of: Mapping[str, Any]) -> int:
        """Go on where an interrupted run ended, or begin.

        Args:
            made_of: What the shards are made of; all of it must be as it was.

        Returns:
            The number of finished shards before the first that is missing.

        Raises:
            OutputError: Something is not as it was, or the disk cannot be written.
        """
        with self.explain_disk_errors():
            there = any(self.partial.glob(f"part-*{SUFFIX}"))
            if there and (change := self._change(made_of)) is not None:
                if not self._overwrite:
                    raise OutputError(
                        f"'{self.partial}' holds parts of an interrupted run with {change}; go on with that, or begin "
                        "anew with --overwrite"
                    )
                shutil.rmtree(self.partial)
                there = False
            self.partial.mkdir(exist_ok=True)
            self._remove_begun()
            if not there:
                with atomic_write(self.partial / MADE_OF) as file:
                    file.write(json.dumps(made_of, indent=2).encode())
        number = 0
        while self.path(number).is_file():
            number += 1
        return number

    def _remove_begun(self) -> None:
        """Remove what killed processes had begun to write."""
        for each in self.partial.iterdir():
            if each.name.startswith(".") and each.name != MADE_OF:
                each.unlink()

    def missing(self, count: int) -> list[int]:
        """Return which of so many shards are not there."""
        return [number for number in range(count) if not self.path(number).is_file()]

    def _change(self, made_of: Mapping[str, Any]) -> str | None:
        """Say what an interrupted run was made of that is not as it was; None if all is."""
        try:
            before = json.loads((self.partial / MADE_OF).read_text(encoding="utf-8"))
            return next(
                (said.format(before[key]) for key, said in _CHANGES.items() if before[key] != made_of[key]), None
            )
        except (OSError, ValueError, LookupError, TypeError) as error:
            return f"a description that cannot be read ({first_line(error)})"

    def read(self, number: int, columns: list[str]) -> Any:
        """Read columns of a finished shard.

        Raises:
            OutputError: It cannot be read.
        """
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
        try:
            return parquet.ParquetFile(self.path(number)).read(columns)
        except (OSError, ValueError, arrow.ArrowException) as error:
            raise OutputError(
                f"'{self.path(number)}' cannot be read: {first_line(error)}; begin anew with --overwrite once "
                f"'{self.partial}' is removed"
            ) from error

    def finish(self, count: int) -> None:
        """Put the output in its place.

        Args:
            count: Number of shards, at least one.

        Raises:
            OutputError: The disk cannot be written.
        """
        with self.explain_disk_errors():
            self._remove_begun()
            if self._is_file:
                self._join(count)
                os.replace(self.partial / _JOINED, self.output)
                sync(self.output.parent)
                shutil.rmtree(self.partial)
                return
            replaced = self.output.with_name(f".{self.output.name}{_REPLACED}")
            shutil.rmtree(replaced, ignore_errors=True)
            if self.output.exists() and any(self.output.iterdir()):
                os.replace(self.output, replaced)
            os.replace(self.partial, self.output)
            sync(self.output.parent)
            shutil.rmtree(replaced, ignore_errors=True)

    def _join(self, count: int) -> None:
        """Write all shards to one file, one after the other."""
        parquet = importlib.import_module("pyarrow.parquet")
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(atomic_write(self.partial / _JOINED))
            schema = parquet.ParquetFile(self.path(0)).schema_arrow
            writer = stack.enter_context(parquet.ParquetWriter(file, schema))
            for number in range(count):
                writer.write_table(parquet.ParquetFile(self.path(number)).read())
