"""Options for torch's inductor with which compiled code runs on the processor that it was compiled for only."""

from collections.abc import Mapping


def inductor_options(options: Mapping[str, object] | None = None, mode: str | None = None) -> dict[str, object]:
    """Return options for `torch.compile`, with the width of this processor's vectors among them.

    torch's cache of generated code tells processors apart only if that width is an option: without it, code made where
    there are wider vectors is taken from the cache of a shared home, and returns wrong numbers.

    Args:
        options: Further options of inductor.
        mode: A mode of `torch.compile`, which cannot be given beside options; None for the default.
    """
    from torch._inductor import list_mode_options
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    of_mode = list_mode_options(mode) if mode is not None else {}
    return {"cpp.simdlen": pick_vec_isa().bit_width(), **of_mode, **(options or {})}
