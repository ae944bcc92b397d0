"""What the environment tells of a launcher such as `torchrun` or `accelerate launch`; imports nothing heavy."""

import os


def is_distributed() -> bool:
    """Whether a launcher started this process as one of several; the launcher also ends them."""
    return {"RANK", "MASTER_ADDR"} <= os.environ.keys() and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_rank_zero() -> bool:
    """Whether this process talks to the user: the only one, or the first of those that a launcher started."""
    return not is_distributed() or os.environ["RANK"] == "0"
