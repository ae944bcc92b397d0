"""The stanza `report`."""

from pydantic import Field

from ..passes import Stanza


class ReportStanza(Stanza):
    """The page `report.html`."""

    samples: int = Field(
        4,
        ge=0,
        le=24,
        description="test samples shown of each kind: left early, left late, lost; 0 shows and keeps none",
    )
