"""Registers all passes with Neural Compressor; this happens on import."""

from neural_compressor.common.base_config import config_registry
from neural_compressor.torch.utils import algos_mapping
from neural_compressor.version import __version__

from ...passes import EarlyExitStanza, PruningStanza, TinySaverStanza, load_entry_points, registered_passes
from ...recipe.static_passes import with_passes
from . import algorithms
from .adapter import check_version, exclude_from_default_set, register
from .plan import DYNAMIC_EXIT
from .stanza import DynamicExitStanza

check_version(__version__)
exclude_from_default_set()
PruningConfig = register("pruning", PruningStanza, algorithms.pruning, local=True)
TinySaverConfig = register("tiny_saver", TinySaverStanza, algorithms.tiny_saver)
EarlyExitConfig = register("early_exit", EarlyExitStanza, algorithms.early_exit)
load_entry_points(taken=[*config_registry.get_cls_configs()["torch"], *algos_mapping])
for _name, _info in registered_passes().items():
    if _info.apply:
        register(_name, _info.stanza, algorithms.external)
DynamicExitConfig = register(DYNAMIC_EXIT, with_passes(DynamicExitStanza), algorithms.dynamic_exit)
