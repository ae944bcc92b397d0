"""The server in an environment that holds the extra `serving` and nothing else."""

import environments

CODE = """
import http.client, json, threading
from pathlib import Path
import dynamic_exit.cli.main
from dynamic_exit.serving import ServedFolder, ServingOptions
from dynamic_exit.serving.server import listen
from dynamic_exit.serving.uvicorn_server import make_server

listener = listen("127.0.0.1", 0)
server = make_server(ServedFolder(Path(sys.argv[1]), "tiny"), ServingOptions())
thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
thread.start()

def call(method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=120)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()

data = {"name": "input", "datatype": "FP32", "shape": [1, 1, 6, 6], "data": [0.5] * 36}
print(call("POST", "/v2/models/tiny/infer", json.dumps({"inputs": [data]}))[0])
print(call("GET", "/metrics")[0])
(Path(sys.argv[1]) / "preprocessor_config.json").exists() or print("no processor")
print(call("POST", "/classify", b"x"))
server.should_exit = True
thread.join()
print(*(name for name in ("torch", "transformers", "onnx", "PIL", "neural_compressor") if name in sys.modules))
"""


def test_the_server_needs_no_more_than_the_extra_serving(ran, tmp_path):
    said = environments.run(environments.link("serving", tmp_path), CODE, ran.folder)
    assert said[:3] == ["200", "200", "no processor"]
    assert said[3].startswith("(501, ") and said[4] == "", "neither torch nor transformers is imported"
