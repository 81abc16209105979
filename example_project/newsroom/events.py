"""Events that several workflows of the newsroom share."""

from workflows.events import Event


class Progress(Event):
    """How far a run has come, for those who watch it; no step waits for it."""

    # Parts that are done, of how many.
    done: int
    total: int
    # What was done last.
    what: str
