"""Tables of refused input: rows of (id, changes of the recipe, change of the folder or None, the exact sentence)."""

import re

import pytest
import tiny


def file(name, content):
    """A change that writes a file."""

    def change(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def rows(table):
    """Run a test for every row."""
    ids = [row[0] for row in table]
    return pytest.mark.parametrize(("changes", "change", "message"), [row[1:] for row in table], ids=ids)


def without_steps(err):
    """The lines of stderr, without that of the first step, which is done before some refusals."""
    return [line for line in err.splitlines(True) if not line.startswith("model and data: ")]


def assert_refused(command, name, folder, changes, change, message):
    """A command refuses a changed recipe and a changed folder with one sentence, and leaves everything as it was."""
    tiny.write(folder, tiny.recipe(**changes))
    if change:
        change(folder)
    before = tiny.tree(folder)
    code, out, err = command(name, folder / "recipe.yaml")
    err = "".join(line for line in without_steps(err) if not line.startswith("note: "))  # as of random weights
    sentence = f"dynamic-exit: {message.replace('{w}', str(folder))}\n"
    if name == "validate":  # it says where, and faults of further splits or entries of a list may follow
        err = re.sub(rf"{re.escape(str(folder))}/recipe.yaml:\d+:\d+: ", "", err).splitlines(True)[0]
    assert (code, out, err) == (2, "", sentence)
    assert tiny.tree(folder) == before
