"""What a server takes at once, for how long, and who may switch it."""

from dataclasses import dataclass, field
from pathlib import Path

#: Environment variable that holds the token; a command line would show it to every user of the machine.
TOKEN_VARIABLE = "DYNAMIC_EXIT_TOKEN"
MEGABYTE = 1_000_000
#: Seconds beyond the time-out of requests that clients have to read their last answers.
READING_SECONDS = 5
#: Seconds for which an unused connection stays, longer than with clients: a server must not close one that is used.
IDLE_SECONDS = 75


@dataclass(frozen=True)
class ServingOptions:
    """Limits of a server, and its token.

    Attributes:
        max_batch: Rows of several requests that are answered in one call; a request that has more is answered alone.
        max_delay: Seconds that a request waits for others; at 0 what arrived while the model was busy goes together.
        max_rows: Rows of one request.
        max_body: Bytes of one request.
        max_requests: Requests that are read, wait or are answered at the same time; further ones get the status 429.
        timeout: Seconds from the arrival of a request to its answer, the loading of a processor not counted.
        p99: Seconds that 99 % of the requests of any second may take: the server chooses operating points by load, and
            nobody else switches it. None: no such goal.
        lowest_point: Name of a point; with `p99`, no less accurate one is chosen. None allows all.
        token: Who knows it may switch the operating point; None: nobody may.
    """

    max_batch: int = 64
    max_delay: float = 0.0
    max_rows: int = 1024
    max_body: int = 16 * MEGABYTE
    max_requests: int = 64
    timeout: float = 30.0
    p99: float | None = None
    lowest_point: str | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class WatchOptions:
    """How a server watches its answers.

    Attributes:
        check_share: Share of batches that the backbone answers too, in 0..1.
        adapt: Whether thresholds are re-tuned where traffic has moved; the backbone answers until they are.
        agreement: The share of answers that must be the backbone's then, in (0, 1); None: as on test samples.
        state: JSON that a monitor goes on from if it exists, and that is kept; None: it begins anew at each start.
        inputs: Whether statistics of inputs are watched too, where the folder holds those of its test samples.
    """

    check_share: float = 0.01
    adapt: bool = False
    agreement: float | None = None
    state: Path | None = None
    inputs: bool = True
