"""Copy what a browser needs of a written folder: `python prepare.py FOLDER SITE`.

In the copy `thresholds` is an input that must be given. In the folder's file it is an initializer that callers may
override, which onnxruntime-web and OpenVINO do not offer: there the file runs at its default operating point alone.
"""

import argparse
import shutil
from pathlib import Path

import onnx

FILES = ("config.json", "operating_points.json")


def prepare(folder: Path, site: Path) -> None:
    """Write the copy.

    Args:
        folder: As `dynamic-exit run` wrote it, with one ONNX file.
        site: Where the copy lies; it may be there.
    """
    site.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(folder / name, site)
    model = onnx.load(folder / "model.onnx")
    kept = [each for each in model.graph.initializer if each.name != "thresholds"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, site / "model.onnx")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("site", type=Path)
    prepare(**vars(parser.parse_args()))
