"""A written folder in MLflow's local file store, loaded from there in another process."""

import subprocess
import sys

import numpy as np
import pytest
import tiny

from dynamic_exit import load_runner
from dynamic_exit.errors import InputError

mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")


@pytest.fixture(scope="module")
def logged(ran, tmp_path_factory):
    """The run of MLflow, the model's URI and the store, which is removed from the process afterwards."""
    from dynamic_exit.tracking import log_folder

    store = tmp_path_factory.mktemp("mlflow") / "runs"  # made by MLflow
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow.set_tracking_uri(store.as_uri())
        with mlflow.start_run() as run:
            uri = log_folder(ran.folder)
        yield mlflow.get_run(run.info.run_id), uri, store
        mlflow.set_tracking_uri(before)


def test_recipe_and_figures_are_parameters_and_metrics(ran, logged):
    run, _, _ = logged
    assert run.data.params["dynamic_exit.tuning.max_accuracy_drop"] == "0.01"
    assert run.data.params["model.source"] == "python"
    row = ran.result.metrics.rows[-1]
    assert run.data.metrics[f"{row.name}/accuracy"] == row.accuracy
    assert run.data.metrics["accuracy-drop-1/cost_ratio"] == ran.result.points.points[0].cost_ratio
    assert len(run.data.metrics) == 4 * len(ran.result.metrics.rows)


def test_pictures_and_pages_are_artifacts(logged):
    run, _, _ = logged
    names = {each.path for each in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert names >= {"front.png", "report.html", "README.md", "metrics.json"}


def test_the_model_answers_as_the_folder_does_at_the_point_that_is_asked_for(ran, logged):
    model, (inputs, _) = mlflow.pyfunc.load_model(logged[1]), tiny.samples("test")
    for point in ran.result.points.names:
        answer = model.predict(inputs, params={"operating_point": point})
        wanted = load_runner(ran.folder, point)(inputs)
        assert np.array_equal(answer["logits"], wanted.logits)
        assert np.array_equal(answer["exit_index"], wanted.exit_index)


def test_it_loads_in_another_process_and_holds_no_pickle_and_no_log(logged, tmp_path):
    _, uri, store = logged
    place = mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))
    files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert "model.onnx" in files and "run.log" not in files and not any(name.endswith(".pkl") for name in files)
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; import mlflow, numpy as np\n"
        f"model = mlflow.pyfunc.load_model({place!r})\n"
        "print(model.predict(np.zeros((2, 1, 6, 6), np.float32))['logits'].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["(2, 3)"], done.stderr


def test_what_is_no_array_is_refused(ran):
    from dynamic_exit.tracking import PyfuncModel

    with pytest.raises(InputError, match="takes an array, or a dict of arrays by name; got list"):
        PyfuncModel(str(ran.folder)).predict([1, 2])
