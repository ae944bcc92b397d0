"""Sessions of parts."""

import numpy as np
import pytest
import torch

from dynamic_exit.errors import ExportError
from dynamic_exit.onnx.session import PartSession, open_session


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_the_session_answers_like_the_module_at_any_batch_size(part, network, images, batch):
    with torch.no_grad():
        wanted = network(torch.from_numpy(images[:batch])).numpy()
    np.testing.assert_allclose(PartSession(part).run(images[:batch]), wanted, atol=1e-5)


def test_an_unknown_provider_is_refused(part):
    with pytest.raises(ExportError, match="^onnxruntime has no provider 'NoSuchProvider' on this machine; it has "):
        open_session(part.proto, providers=["NoSuchProvider"])
