"""Writes the folders of version 1 that tests load. It runs with the code that wrote that version, commit 2bc71a6:

    PYTHONPATH=plugin:tests/helpers python tests/artifact/folders_of_version_1/make.py FOLDER

Each folder holds what loading needs, and in `answers.npz` eight images with what the code of that time answered.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import tiny
import torch

from dynamic_exit.integrations.neural_compressor.serialization import save
from dynamic_exit.modeling.auto import AutoDynamicExitModel
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe
from dynamic_exit.runtime import DynamicExitModel

IN_FLOAT = {"quantization": None, "dynamic_exit__tiny_saver__fuse": "mean"}
SEQUENCE = {"count": 2, "training": {"epochs": 15}, "sequence": {"width": 16}}
RECIPES = {
    "single": {},
    "segments": {**IN_FLOAT, "export__layout": "segments"},
    "sequence": {**IN_FLOAT, "export__layout": "segments", "dynamic_exit__early_exit": SEQUENCE},
    "torch": {"export__target": "torch"},
}


def keep_answers(folder: Path, model) -> None:
    images, _ = tiny.samples("test")
    found = model(torch.from_numpy(images[:8]))
    values = {name: getattr(found, name).detach().numpy() for name in ("logits", "exit_index", "confidence")}
    np.savez(folder / "answers.npz", images=images[:8], **values)


def main() -> None:
    place = Path(sys.argv[1])
    torch.set_num_threads(1)
    for name, changes in RECIPES.items():
        with tempfile.TemporaryDirectory() as work:
            written = run(read_recipe(tiny.build(Path(work), **changes))).folder
            keep_answers(written, AutoDynamicExitModel.from_pretrained(written))
            for pattern in ("config.json", "operating_points.json", "answers.npz", "model.onnx", "stages/*"):
                for path in written.glob(pattern):
                    (place / name / path.relative_to(written)).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, place / name / path.relative_to(written))
    backbone = tiny.backbone()
    early, late = backbone[:3], backbone[3:]
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3)).eval()
    with torch.no_grad():
        head[2].weight.copy_(torch.linspace(-1, 1, 24).reshape(3, 8))
        head[2].bias.zero_()
    model = DynamicExitModel(
        [early, late], input_names=["input"], savers={"saver": tiny.saver()}, exits={"exit": (0, head)},
        fuse="mean", thresholds=[0.9, float("inf")],
    )  # fmt: skip
    images, _ = tiny.samples("test")
    save(model, place / "memory", torch.from_numpy(images[:2]))
    keep_answers(place / "memory", model)
    save(backbone, place / "static", torch.from_numpy(images[:2]))
    with torch.no_grad():
        np.savez(
            place / "static" / "answers.npz", images=images[:8], logits=backbone(torch.from_numpy(images[:8])).numpy()
        )


if __name__ == "__main__":
    main()
