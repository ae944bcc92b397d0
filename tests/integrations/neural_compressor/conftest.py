import copy

import pytest
import tiny
import torch


@pytest.fixture
def model():
    """A model that must come out of a test bit for bit as it went in."""
    model = tiny.backbone()
    before, hooks = copy.deepcopy(model.state_dict()), len(model._forward_pre_hooks)
    yield model
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert len(model._forward_pre_hooks) == hooks
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
