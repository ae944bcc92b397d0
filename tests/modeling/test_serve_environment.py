"""The classes that users load, in an environment that holds the extra `serve` and nothing else."""

import environments
import numpy as np
import tiny

from dynamic_exit.modeling import DynamicExitModelForImageClassification

CODE = """
import numpy as np
from dynamic_exit import DynamicExitModelForImageClassification
inputs, place, *folders = sys.argv[1:]
for index, folder in enumerate(folders):
    model = DynamicExitModelForImageClassification.from_pretrained(folder)
    for name in model.operating_points.names:
        model.set_operating_point(name)
        np.save(f"{place}/{index}-{name}.npy", model(np.load(inputs)).logits)
print(*(name for name in ("neural_compressor", "timm", "torch_pruning", "matplotlib") if name in sys.modules))
"""


def test_the_classes_need_no_more_than_the_extra_serve(ran, ran_segments, ran_torch, tmp_path):
    place = tmp_path / "environment"
    place.mkdir()
    environment, (inputs, _) = environments.link("serve", place), tiny.samples("test")
    np.save(tmp_path / "inputs.npy", inputs)
    folders = [made.folder for made in (ran, ran_segments, ran_torch)]
    assert environments.run(environment, CODE, tmp_path / "inputs.npy", tmp_path, *folders) == [""]
    for index, folder in enumerate(folders):
        model = DynamicExitModelForImageClassification.from_pretrained(folder)
        for name in model.operating_points.names:
            model.set_operating_point(name)
            assert np.array_equal(np.load(tmp_path / f"{index}-{name}.npy"), model(inputs).logits)
