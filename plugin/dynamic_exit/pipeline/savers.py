"""The step that puts savers before the backbone."""

from dataclasses import replace

from ..candidates.evaluation import select_candidates
from ..candidates.pool import CandidatePool
from .stages import Build


def add_savers(build: Build, pool: CandidatePool | None) -> Build:
    """Try the candidates of a pool, and put the best of them before the backbone.

    Args:
        build: With its backbone exported.
        pool: Candidates for savers; None for none.

    Returns:
        The build with savers, the table of candidates and their notes.

    Raises:
        ModelError: No candidate can be used.
    """
    if pool is None:
        return build
    stages, candidates = select_candidates(pool, build.stages, build.target)
    return replace(
        build,
        stages=stages,
        candidates=candidates,
        candidates_seconds=pool.seconds,
        notes=(*build.notes, *pool.notes),
    )
