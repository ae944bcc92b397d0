"""Who takes a written file, and answers alike: `python runtimes.py FOLDER... [--data FILE] [--only NAME...]`.

Each FOLDER is one that `dynamic-exit run` wrote as a single file for onnxruntime. Inputs are the first samples of its
test split, or of --data; answers are compared with those of the installed onnxruntime at every operating point, the
backbone among them. Columns: whether it takes the file, samples with another class, samples that leave at another
stage, and the largest difference of probabilities. onnxruntime is tried in each of --versions, in an environment of
its own below --work; onnxruntime-web comes from npm and runs in Node and in headless Chromium, there in
recipes/examples/web/. Needs a network for what --work does not hold yet.
"""

import argparse
import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
from scipy.special import softmax

from dynamic_exit.analysis.samples import load_samples
from dynamic_exit.artifact.folder import RECIPE_FILE
from dynamic_exit.artifact.manifest import read_manifest
from dynamic_exit.points.operating_point import OperatingPoints, point_thresholds

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "recipes" / "examples" / "web"
VERSIONS = (
    "1.32.0", "1.30.0", "1.28.0", "1.26.0", "1.24.4", "1.23.2", "1.22.1", "1.21.1", "1.20.1", "1.19.2", "1.18.1",
    "1.17.3", "1.16.3", "1.15.1",
)  # fmt: skip
ROWS, SLOW_ROWS = 256, 16

#: Runs a file in another environment, which has numpy and onnxruntime alone.
RUN = """
import sys, numpy as np, onnxruntime
model, asked, answers, default = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
given = np.load(asked)
feeds = {name[3:]: given[name] for name in given.files if name.startswith("in:")}
offered = [each.name for each in (*session.get_inputs(), *session.get_overridable_initializers())]
made = {}
for name in given.files:
    if name.startswith("at:") and ("thresholds" in offered or name[3:] == default):
        extra = {"thresholds": given[name]} if "thresholds" in offered else {}
        for output, array in zip(("logits", "exit_index", "confidence"), session.run(None, feeds | extra)):
            made[output + name[2:]] = array
np.savez(answers, **made)
"""
NODE = """
import * as ort from "onnxruntime-web";
import { readFile } from "node:fs/promises";
import { DynamicExitModel } from "./model.mjs";
const { inputs, rows, points } = JSON.parse(await readFile(process.argv[3], "utf8"));
const model = await DynamicExitModel.load(ort, (name) => readFile(`${process.argv[2]}/${name}`));
console.log(JSON.stringify(await (%s)(model, inputs, rows, points)));
"""
ASK = """
async (model, inputs, rows, points) => {
  const kinds = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array, int64: BigInt64Array };
  const feeds = {};
  for (const { name, dtype } of model.config.inputs) {
    feeds[name] = dtype === "int64" ? kinds[dtype].from(inputs[name], BigInt) : kinds[dtype].from(inputs[name]);
  }
  const made = {};
  for (const point of points.filter((each) => model.operatingPoints.includes(each))) {
    const found = await model.classify(feeds, rows, point);
    const stages = found.map((each) => model.stages.indexOf(each.stage));
    made[point] = { logits: found.map((each) => each.logits), stages };
  }
  return made;
}
"""


@dataclass
class Asked:
    """A file, inputs, thresholds by operating point, and what the installed onnxruntime answers."""

    folder: Path
    feeds: dict[str, np.ndarray]
    points: dict[str, np.ndarray]
    work: Path

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @functools.cached_property
    def expected(self) -> dict[str, np.ndarray]:
        return self.answers_of(sys.executable, self.model)

    def rows(self, count: int) -> "Asked":
        return replace(self, feeds={name: array[:count] for name, array in self.feeds.items()})

    def at_default(self) -> "Asked":
        """At the default operating point alone."""
        default = read_manifest(self.folder).default
        return replace(self, points={default: self.points[default]})

    def prepared(self) -> "Asked":
        """With thresholds as an input that must be given, as the example for browsers has it."""
        _call([sys.executable, WEB / "prepare.py", self.folder, self.work / "model"])
        return replace(self, folder=self.work / "model")

    def answers_of(self, python: str | Path, model: Path) -> dict[str, np.ndarray]:
        """Run a file with the onnxruntime of an interpreter."""
        asked, answers = self.work / "asked.npz", self.work / "answers.npz"
        inputs = {f"in:{name}": array for name, array in self.feeds.items()}
        np.savez(asked, **inputs, **{f"at:{name}": array for name, array in self.points.items()})
        _call([python, "-c", RUN, model, asked, answers, read_manifest(self.folder).default])
        with np.load(answers) as found:
            return dict(found)


Answers = dict[str, np.ndarray]


def installed(asked: Asked, version: str) -> Answers:
    """An onnxruntime in an environment of its own."""
    minor = tuple(map(int, version.split(".")[:2]))
    numpy = "numpy<2" if minor < (1, 19) else "numpy>=2"
    return asked.answers_of(_environment(asked.work, f"onnxruntime=={version}", numpy), asked.model)


def converted(asked: Asked, tools: tuple[str, ...], code: str) -> Answers:
    """The file after a tool has changed it, in the installed onnxruntime."""
    changed = asked.work / "changed.onnx"
    _call([_environment(asked.work, *tools), "-c", code, asked.model, changed])
    return asked.answers_of(sys.executable, changed)


def node(asked: Asked) -> Answers:
    """onnxruntime-web in Node."""
    site, question = _site(asked), asked.work / "asked.json"
    (site / "ask.mjs").write_text(NODE % ASK.strip())
    question.write_text(json.dumps(_plain(asked)))
    return _from_web(json.loads(_call(["node", site / "ask.mjs", asked.folder.resolve(), question])))


def chromium(asked: Asked) -> Answers:
    """onnxruntime-web in the example's page."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    import browser

    if problem := browser.missing():
        raise RuntimeError(problem)
    site = _site(asked)
    shutil.rmtree(site / "model", ignore_errors=True)
    shutil.copytree(asked.folder, site / "model")
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, browser.open_browser() as window:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        window.open(f"http://127.0.0.1:{server.server_port}/index.html?folder=model")
        end = time.monotonic() + 120
        while not window.run("return window.model !== undefined"):
            said = window.run("return document.getElementById('answer').textContent")
            if "rror" in said or time.monotonic() > end:
                raise RuntimeError(said)
            time.sleep(0.1)
        given = _plain(asked)
        script = f"return ({ASK.strip()})(window.model, arguments[0], arguments[1], arguments[2])"
        found = window.run(script, given["inputs"], given["rows"], given["points"])
        server.shutdown()
    return _from_web(found)


def openvino(asked: Asked) -> Answers:
    """OpenVINO's own reader and compiler."""
    import openvino

    compiled = openvino.Core().compile_model(str(asked.model), "CPU")
    offered = {name for each in compiled.inputs for name in each.names}

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = compiled({name: array for name, array in feeds.items() if name in offered})
        return [found[place] for place in range(3)]

    return _by_point(asked if "thresholds" in offered else asked.at_default(), run)


def reference(asked: Asked) -> Answers:
    """The evaluator of the package onnx, operator by operator in numpy."""
    from onnx.reference import ReferenceEvaluator

    model = ReferenceEvaluator(str(asked.model))
    return _by_point(asked, lambda feeds: model.run(None, feeds))


def _by_point(asked: Asked, run: Callable[[dict[str, np.ndarray]], list[np.ndarray]]) -> Answers:
    made = {}
    for name, thresholds in asked.points.items():
        answers = run(asked.feeds | ({"thresholds": thresholds} if len(thresholds) else {}))
        made |= {
            f"{output}:{name}": np.asarray(array)
            for output, array in zip(("logits", "exit_index", "confidence"), answers, strict=True)
        }
    return made


class _Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _site(asked: Asked) -> Path:
    """The example's folder with what npm installs."""
    site = asked.work / "web"
    site.mkdir(exist_ok=True)
    for path in WEB.iterdir():
        if path.is_file():
            shutil.copy(path, site)
    if not (site / "node_modules").exists():
        _call(["npm", "install", "--silent"], cwd=site)
    return site


def _plain(asked: Asked) -> dict:
    rows = len(next(iter(asked.feeds.values())))
    return {
        "inputs": {name: array.ravel().tolist() for name, array in asked.feeds.items()},
        "rows": rows,
        "points": list(asked.points),
    }


def _from_web(found: dict) -> Answers:
    made = {}
    for point, answer in found.items():
        made |= {
            f"logits:{point}": np.array(answer["logits"], np.float32),
            f"exit_index:{point}": np.array(answer["stages"]),
        }
    return made


def _environment(work: Path, *packages: str) -> Path:
    """The interpreter of an environment that has these packages."""
    folder = work / "-".join(each.translate(str.maketrans("<>=", "___")) for each in packages)
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        _call([sys.executable, "-m", "venv", "--clear", "--without-pip", folder])
        _call([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *packages])
        (folder / "ready").touch()
    return python


def _call(command: list, cwd: Path | None = None) -> str:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"ended with {done.returncode}"]
        raise RuntimeError(lines[-1])
    return done.stdout


SIMPLIFY = (
    "import sys, onnx, onnxsim; model, fits = onnxsim.simplify(onnx.load(sys.argv[1])); "
    "assert fits; onnx.save(model, sys.argv[2])"
)
HALVE = (
    "import sys, onnx; from onnxconverter_common import float16; "
    "onnx.save(float16.convert_float_to_float16(onnx.load(sys.argv[1]), keep_io_types=True), sys.argv[2])"
)


simplified = functools.partial(converted, tools=("onnxsim", "onnx"), code=SIMPLIFY)
halved = functools.partial(converted, tools=("onnxconverter-common", "onnx"), code=HALVE)


def runtimes(versions: tuple[str, ...]) -> dict[str, tuple[Callable[[Asked], Answers], int]]:
    """What is tried: name -> how, and on how many samples."""
    return {
        **{f"onnxruntime {each}": (functools.partial(installed, version=each), ROWS) for each in versions},
        "onnxruntime-web, Node": (node, ROWS),
        "  thresholds required": (lambda asked: node(asked.prepared()), ROWS),
        "onnxruntime-web, Chromium": (chromium, ROWS),
        "  thresholds required, there": (lambda asked: chromium(asked.prepared()), ROWS),
        "OpenVINO": (openvino, ROWS),
        "  with thresholds required": (lambda asked: openvino(asked.prepared()), ROWS),
        "onnx.reference": (reference, SLOW_ROWS),
        "after onnxsim": (simplified, ROWS),
        "  so, thresholds required": (lambda asked: simplified(asked.prepared()), ROWS),
        "after the fp16 converter": (halved, ROWS),
    }


def compare(found: Answers, expected: Answers, points: list[str]) -> str:
    """Samples of another class, of another stage, and the largest difference of probabilities, over all points."""
    classes = stages = 0
    largest = 0.0
    tried = [point for point in points if f"logits:{point}" in found]
    for point in tried:
        logits, other = (each[f"logits:{point}"] for each in (expected, found))
        classes += int((logits.argmax(1) != other.argmax(1)).sum())
        same = expected[f"exit_index:{point}"] == found[f"exit_index:{point}"]
        stages += int((~same).sum())
        largest = max(largest, float(np.abs(softmax(logits, 1) - softmax(other, 1))[same].max(initial=0.0)))
    alone = "" if len(tried) == len(points) else f"  at {', '.join(tried)} alone"
    return f"yes {classes:6d} {stages:6d} {largest:10.1e}{alone}"


def main() -> None:
    """Try each runtime on each folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, help="as for `dynamic-exit evaluate`; by default the folder's own recipe")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    parser.add_argument("--versions", nargs="*", default=VERSIONS)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "runtimes")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    tried = {
        name: each
        for name, each in runtimes(tuple(options.versions)).items()
        if not options.only or any(part in name for part in options.only)
    }
    for folder in options.folders:
        asked = ask(folder, options.data or folder / RECIPE_FILE, options.work.resolve())
        rows = len(next(iter(asked.feeds.values())))
        print(f"{folder}: {rows} samples at {len(asked.points)} points, beside onnxruntime {onnxruntime.__version__}")
        print(f"{'':28} takes  class  stage       prob.")
        for name, (answer, count) in tried.items():
            some = asked.rows(count)
            try:
                said = compare(answer(some), some.expected, list(asked.points))
            except Exception as failure:  # a runtime that refuses the file is what this table is about
                said = f"no: {' '.join(str(failure).split())[-160:]}"
            print(f"{name:28} {said}", flush=True)


def ask(folder: Path, data: Path, work: Path) -> Asked:
    """The first samples of the data, at every operating point of the folder."""
    manifest = read_manifest(folder)
    points = OperatingPoints.read(folder / "operating_points.json").available
    feeds = load_samples(data, folder).feeds([each["name"] for each in manifest.inputs])
    thresholds = {point.name: point_thresholds(point, manifest.stages) for point in points}
    return Asked(folder, {name: array[:ROWS] for name, array in feeds.items()}, thresholds, work)


if __name__ == "__main__":
    main()
