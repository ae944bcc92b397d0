"""Processes that start with their imports behind them: copies of one that has imported, and otherwise does nothing.

For claims that hang neither on what is imported first nor on how long it takes: a fresh process would spend seconds.
"""

import atexit
import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from garbage import imports_kept

#: What others install, and Neural Compressor and this package import in any order.
TORCH = ("onnxscript.function_libs.torch_lib.ops", "torch._dynamo", "torch.export._trace", "torch.onnx")
#: These, and the libraries that take the time of importing Neural Compressor.
LIBRARIES = (*TORCH, "transformers", "matplotlib.figure", "onnxruntime", "pydantic")
#: What the command imports until a recipe has run.
RUN = (
    *("dynamic_exit.cli.main", "dynamic_exit.pipeline.run", "dynamic_exit.artifact.image_processor"),
    *("scipy.stats", "fast_timing", "short_command", *TORCH),
)
COMMAND = "import short_command; short_command.run()"


def run(
    script: str,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    imports: tuple[str, ...] = RUN,
) -> subprocess.CompletedProcess[str]:
    """Run a script as `python -c` does, on one thread, with some modules imported before.

    Args:
        script: Its text.
        *arguments: Its arguments.
        environment: Its variables; None takes this process's.
        cwd: Its folder; None takes this process's.
        imports: What is imported before. One process serves all who ask for the same under the same PYTHONPATH.

    Returns:
        Its exit code and what it wrote.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdout", "stderr")]
        variables = dict(os.environ if environment is None else environment)
        request = {
            "script": script,
            "arguments": ["-c", *map(str, arguments)],
            "environment": variables,
            "cwd": str(cwd or Path.cwd()),
            "files": [*map(str, files)],
        }
        server = _server(imports, variables.get("PYTHONPATH", ""))
        print(json.dumps(request), file=server.stdin, flush=True)
        code = server.stdout.readline()
        assert code, f"one of {imports} cannot be imported"
        return subprocess.CompletedProcess(request["arguments"], int(code), *(file.read_text() for file in files))


def end_with(act: Callable[[], object]) -> NoReturn:
    """Act, and end this process with the code that is due; libraries' own ends are for the process that was copied."""
    code: object = 1
    try:
        act()
        code = 0
    except SystemExit as done:
        code = done.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


@functools.cache
def _server(imports: tuple[str, ...], path: str) -> subprocess.Popen[str]:
    """A process that forks for each line that it reads."""
    places = os.pathsep.join([str(Path(__file__).parent), path])
    server = subprocess.Popen(
        [sys.executable, "-m", "fork_server", *imports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    atexit.register(server.communicate)  # which ends it
    return server


def _serve(imports: list[str]) -> None:
    with imports_kept():
        for module in imports:
            importlib.import_module(module)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _answer(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    os._exit(0)


def _answer(request: dict) -> NoReturn:
    """Run a script in a copy of the server."""
    for number, path in zip((1, 2), request["files"], strict=True):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = request["arguments"]
    end_with(lambda: exec(compile(request["script"], "<string>", "exec"), {"__name__": "__main__"}))  # noqa: S102


if __name__ == "__main__":
    _serve(sys.argv[1:])
