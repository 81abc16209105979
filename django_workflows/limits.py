"""What the settings limit: how deep JSON is nested, how large events and states are, how many events a run writes.

What comes from outside is refused; a run that wants to write too much fails, and no other feels it.
"""

from __future__ import annotations

import json
from typing import Any

from django_workflows import conf
from django_workflows.exceptions import InvalidRequest, OverLimit, TooLarge

# --- from outside ------------------------------------------------------------------------------------


def load_json(data: bytes | str, what: str = "body") -> Any:
    """Read JSON from outside; ``what`` it is stands in the errors.

    Raises:
        InvalidRequest: it is no JSON, or nested deeper than MAX_JSON_DEPTH.
    """
    try:
        parsed = json.loads(data)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise InvalidRequest(f"Invalid JSON {what}: {error}") from None
    # Counting brackets is cheap, and most texts have fewer of them than they may have levels.
    brackets = (
        data.count(b"{") + data.count(b"[") if isinstance(data, bytes) else data.count("{") + data.count("[")
    )
    if brackets > conf.get().MAX_JSON_DEPTH:
        check_depth(parsed)
    return parsed


def check_depth(value: Any) -> None:
    """Raise InvalidRequest when a value that was read from JSON is nested deeper than MAX_JSON_DEPTH."""
    if _is_deeper(value, conf.get().MAX_JSON_DEPTH):
        raise _too_deep()


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"Invalid JSON: it is nested deeper than {conf.get().MAX_JSON_DEPTH} levels")


def _is_deeper(value: Any, levels: int) -> bool:
    """Tell whether there are more than so many objects and arrays inside each other."""
    level = [value]
    for _ in range(levels + 1):
        level = [one for one in level if isinstance(one, dict | list)]
        if not level:
            return False
        level = [child for one in level for child in (one.values() if isinstance(one, dict) else one)]
    return True


def json_type(value: Any) -> str:
    """Return what a value that was read from JSON is called."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def check_posted_event(data: str, name: str) -> None:
    """Raise TooLarge when an event from outside is larger than MAX_EVENT_SIZE."""
    limit = conf.get().MAX_EVENT_SIZE
    if _is_larger(data, limit):
        raise TooLarge(f"The event {name} is larger than {limit} bytes")


def check_posted_state(data: str) -> None:
    """Raise TooLarge when a state from outside is larger than MAX_STATE_SIZE."""
    limit = conf.get().MAX_STATE_SIZE
    if _is_larger(data, limit):
        raise TooLarge(f"The state is larger than {limit} bytes")


# --- from a run --------------------------------------------------------------------------------------


def check_written_event(data: str, name: str) -> None:
    """Raise OverLimit when an event of a run is larger than MAX_EVENT_SIZE."""
    limit = conf.get().MAX_EVENT_SIZE
    if _is_larger(data, limit):
        raise OverLimit(f"the event {name} is larger than {limit} bytes (MAX_EVENT_SIZE)")


def check_written_state(data: str) -> None:
    """Raise OverLimit when a run's state is larger than MAX_STATE_SIZE."""
    limit = conf.get().MAX_STATE_SIZE
    if _is_larger(data, limit):
        raise OverLimit(f"the run's state is larger than {limit} bytes (MAX_STATE_SIZE)")


def check_event_count(written: int) -> None:
    """Raise OverLimit when a run that has written so many events may write no more (MAX_EVENTS_PER_RUN)."""
    limit = conf.get().MAX_EVENTS_PER_RUN
    if limit is not None and written >= limit:
        raise OverLimit(f"the run has written {limit} events, and may not write more (MAX_EVENTS_PER_RUN)")


def _is_larger(data: str, limit: int | None) -> bool:
    # A character takes at most four bytes, so that what is far from the limit need not be encoded.
    return limit is not None and len(data) * 4 > limit and len(data.encode(errors="surrogatepass")) > limit
