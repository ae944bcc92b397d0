"""The deployment files of recipes/examples/deploy, held against the command, the server and the lock file."""

import ast
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import documents
import pytest
import typer.main
import yaml
from commands import begun
from http_server import running
from pydantic import ValidationError

from dynamic_exit.cli.main import app
from dynamic_exit.serving import ServedFolder, ServingOptions
from dynamic_exit.serving.deployed_folder import DeployedFolder
from dynamic_exit.serving.options import READING_SECONDS, TOKEN_VARIABLE
from dynamic_exit.serving.uvicorn_server import make_server

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "recipes/examples/deploy"
#: Where KServe mounts what is at STORAGE_URI.
KSERVE_MOUNT = "/mnt/models"
SCALE_OUT = "docs/how-to/scale-out.md"


def instructions():
    """The Dockerfile's instructions in order: keyword and the rest, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def instruction(keyword):
    """The last instruction of a keyword, which is the one that counts."""
    return [rest for each, rest in instructions() if each == keyword][-1]


def health_command():
    return json.loads(instruction("HEALTHCHECK").partition("CMD")[2])


def parsed(arguments):
    """What the command makes of its arguments; whatever it does not know is an error."""
    name, *rest = arguments
    assert name == "serve"
    return typer.main.get_command(app).commands[name].make_context(name, [*rest]).params


def kubernetes():
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def kserve():
    return yaml.safe_load((DEPLOY / "kserve.yaml").read_text())


def rayservice():
    return yaml.safe_load((DEPLOY / "rayservice.yaml").read_text())


def pods():
    """Every pod that is described: its specification and where its model is."""
    return [(kubernetes()[0]["spec"]["template"]["spec"], "/model"), (kserve()["spec"]["predictor"], KSERVE_MOUNT)]


def probes(container):
    return {key: value["httpGet"] for key, value in container.items() if key.endswith("Probe")}


def test_the_image_is_made_of_locked_wheels_alone():
    copied = instruction("COPY")
    assert copied.startswith("--from=build"), "the last stage holds nothing else"
    *sources, _ = next(rest for keyword, rest in instructions() if keyword == "COPY").split()
    ignored, *kept = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert (ignored, kept) == ("*", [f"!{each}" for each in sources])
    lock, wheels = sources
    assert (ROOT / lock).is_file()
    assert f"requirements/build_wheel.py {Path(wheels).parent}" in (ROOT / "Makefile").read_text()
    installs = [shlex.split(part) for part in instruction("RUN").split("&&") if " install " in part]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0] and installs[0][-1] == f"/build/{Path(lock).name}"
    assert {"--no-deps", "--no-index"} <= {*installs[1]} and installs[1][-1] == "/build/*.whl"
    tested = re.search(r"--python-version (3\.\d+)", (ROOT / "Makefile").read_text())[1]
    assert dict(instructions())["ARG"] == f"PYTHON=python:{tested}-slim", "hashes are of wheels for one Python"


def test_the_image_needs_no_root_and_no_shell():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", instruction("USER"))
    assert json.loads(instruction("ENTRYPOINT")) == ["dynamic-exit"] and json.loads(instruction("CMD"))
    keywords = [keyword for keyword, _ in instructions()]
    assert keywords.count("USER") == 1 and "FROM" not in keywords[keywords.index("USER") :], "it is of the last stage"
    assert "ORT_DISABLE_TELEMETRY=1" in instruction("ENV").split()


def test_the_command_of_the_image_serves_at_the_port_that_it_exposes():
    arguments = json.loads(instruction("CMD"))
    found = parsed(arguments)
    assert (found["host"], str(found["port"])) == ("0.0.0.0", instruction("EXPOSE"))
    assert str(found["folder"]) == instruction("VOLUME")
    assert f"'127.0.0.1', {instruction('EXPOSE')}," in health_command()[-1]


def test_the_command_of_the_image_runs_and_its_health_check_knows(ran, tmp_path):
    arguments = [str(ran.folder) if each == "/model" else each for each in json.loads(instruction("CMD"))]
    command = begun(tmp_path / "log.txt", *arguments, "--port", "0")
    try:
        command.until(lambda: "serving" in command.said)
        port = re.search(r"http://0\.0\.0\.0:(\d+)", command.said)[1]
        program, *rest = (each.replace(f"{instruction('EXPOSE')},", f"{port},") for each in health_command())
        assert program == "python"
        check = [sys.executable, *rest]
        assert subprocess.run(check, capture_output=True).returncode == 0
    finally:
        assert command.signalled(signal.SIGTERM) == 143, command.said
    assert subprocess.run(check, capture_output=True).returncode == 1


def test_every_address_that_is_asked_answers(ran):
    _, service = kubernetes()
    template = kubernetes()[0]["spec"]["template"]
    paths = {probe["path"] for pod, _ in pods() for probe in probes(pod["containers"][0]).values()}
    paths |= {template["metadata"]["annotations"]["prometheus.io/path"]}
    paths |= {re.search(r"'GET', '([^']+)'", health_command()[-1])[1]}
    assert len(paths) == 4
    name = service["metadata"]["name"]
    with running(ServedFolder(ran.folder, name)) as server:
        assert {path: server.client.call("GET", path).status for path in paths} == dict.fromkeys(paths, 200)
    with running(ServedFolder(ran.folder, "another")) as server:
        assert server.client.call("GET", f"/v2/models/{name}/ready").status == 404, "readiness asks for the model"


@pytest.mark.parametrize(("pod", "model"), pods(), ids=["kubernetes", "kserve"])
def test_a_container_is_called_as_the_command_takes_it(pod, model):
    (container,) = pod["containers"]
    found = parsed(container["args"])
    (port,) = container["ports"]
    assert found["port"] == port["containerPort"] and found["host"] == "0.0.0.0"
    assert {probe["port"] for probe in probes(container).values()} <= {port["containerPort"], port.get("name")}
    assert str(found["folder"]) == model
    assert found["name"] == kserve()["metadata"]["name"] == kubernetes()[1]["metadata"]["name"]
    assert probes(container)["readinessProbe"]["path"] == f"/v2/models/{found['name']}/ready"
    limits, requests = container["resources"]["limits"], container["resources"]["requests"]
    assert str(found["threads"]) == limits["cpu"] == requests["cpu"]
    assert requests["memory"].endswith("Mi") and limits["memory"].endswith("Gi")


@pytest.mark.parametrize(("pod", "model"), pods(), ids=["kubernetes", "kserve"])
def test_a_container_has_no_more_rights_than_it_needs(pod, model):
    (container,) = pod["containers"]
    rights = {**pod.get("securityContext", {}), **container["securityContext"]}
    assert str(rights["runAsUser"]) == instruction("USER").partition(":")[0] and rights["runAsNonRoot"]
    assert rights["readOnlyRootFilesystem"] and rights["allowPrivilegeEscalation"] is False
    assert rights["capabilities"] == {"drop": ["ALL"]} and rights["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_deployment_holds_together():
    deployment, service = kubernetes()
    assert (deployment["kind"], service["kind"]) == ("Deployment", "Service")
    template = deployment["spec"]["template"]
    labels, (container,) = template["metadata"]["labels"], template["spec"]["containers"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    assert [each["targetPort"] for each in service["spec"]["ports"]] == [each["name"] for each in container["ports"]]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(container["ports"][0]["containerPort"])
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    assert {*mounts} == {each["name"] for each in template["spec"]["volumes"]}
    assert mounts["model"] == {"name": "model", "mountPath": "/model", "readOnly": True}
    assert [each["name"] for each in container["env"]] == [TOKEN_VARIABLE]


def test_a_pod_that_stops_has_time_to_answer_what_it_accepted(ran):
    pod = kubernetes()[0]["spec"]["template"]["spec"]
    program, pause = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    server = make_server(ServedFolder(ran.folder), ServingOptions())
    assert pod["terminationGracePeriodSeconds"] > float(pause) + server.config.timeout_graceful_shutdown


def test_kserve_is_told_what_the_server_takes():
    service = kserve()
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = service["spec"]["predictor"]
    (container,) = predictor["containers"]
    assert container["name"] == "kserve-container", "the one that KServe gives the model to"
    assert {each["name"]: each["value"] for each in container["env"]}.keys() == {"STORAGE_URI", "PROTOCOL"}
    assert {"name": "PROTOCOL", "value": "v2"} in container["env"]
    options = ServingOptions()
    assert (predictor["containerConcurrency"], predictor["timeout"]) == (options.max_requests, options.timeout)


def test_the_rayservice_holds_together():
    service = rayservice()
    assert (service["apiVersion"], service["kind"]) == ("ray.io/v1", "RayService")
    config, cluster = yaml.safe_load(service["spec"]["serveConfigV2"]), service["spec"]["rayClusterConfig"]
    (application,) = config["applications"]
    module, function = application["import_path"].split(":")
    tree = ast.parse((ROOT / "plugin" / f"{module.replace('.', '/')}.py").read_text())
    assert function in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}
    deployed = DeployedFolder(**application["args"])
    assert deployed.name == service["metadata"]["name"] == application["name"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0", "replicas are for workers"
    assert (workers["minReplicas"], workers["maxReplicas"]) == (deployed.min_replicas, deployed.max_replicas)
    assert workers["template"]["spec"]["terminationGracePeriodSeconds"] > deployed.options.timeout + READING_SECONDS
    for group, threads in ((head, 1), (workers, deployed.threads)):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert container["resources"]["limits"]["cpu"] == str(threads)
        assert {"name": "serve", "containerPort": config["http_options"]["port"]} in container["ports"]
        values = {each["name"]: each.get("value") for each in container["env"]}
        assert values == {"RAY_USAGE_STATS_ENABLED": "0", "ORT_DISABLE_TELEMETRY": "1", TOKEN_VARIABLE: None}
        (mount,), (volume,) = container["volumeMounts"], pod["volumes"]
        assert mount == {"name": volume["name"], "mountPath": deployed.folder, "readOnly": True}
        rights = {**pod["securityContext"], **container["securityContext"]}
        assert rights["runAsNonRoot"] and rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]} and rights["seccompProfile"] == {"type": "RuntimeDefault"}


def test_a_configuration_of_ray_is_as_the_page_shows_it_and_checked():
    (shown,) = (block.code for block in documents.blocks(SCALE_OUT) if block.language == "yaml")
    (application,) = yaml.safe_load(shown)["applications"]
    config = yaml.safe_load(rayservice()["spec"]["serveConfigV2"])
    assert application.keys() == config["applications"][0].keys()
    assert application["import_path"] == config["applications"][0]["import_path"]
    assert DeployedFolder(**application["args"]).max_replicas == 4
    assert DeployedFolder(folder="/model", options={"max_requests": 9}).options.max_requests == 9
    for wrong in (
        {"replicas": 2},
        {"min_replicas": 3, "max_replicas": 2},
        {"threads": 0},
        {"options": {"max_rowz": 1}},
    ):
        with pytest.raises(ValidationError):
            DeployedFolder(folder="/model", **wrong)
