"""Keys that make a request safe to repeat: a start that happens once, an event that is delivered once.

Over HTTP they come in the ``Idempotency-Key`` header of the IETF's draft of that name (draft-ietf-httpapi-
idempotency-key-header), from Python as an argument. Only their digests are stored.
"""

from __future__ import annotations

import hashlib
import re

from django_workflows.exceptions import InvalidRequest

HEADER = "Idempotency-Key"
MAX_LENGTH = 255

# A string of RFC 9651, as the draft has it; and what most clients send instead, without quotes.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-~]+")


def read_header(value: str | None) -> str | None:
    """Return the key that a request's header names, None without the header.

    Raises:
        InvalidRequest: it names none.
    """
    if value is None:
        return None
    value = value.strip(" \t")
    if quoted := _QUOTED.fullmatch(value):
        return check(re.sub(r"\\(.)", r"\1", quoted[1]))
    if not _BARE.fullmatch(value):
        raise InvalidRequest(f'{HEADER} must be visible ASCII characters, best in quotes: "8e03978e-40d5"')
    return check(value)


def check(key: object) -> str:
    """Return a key from outside.

    Raises:
        InvalidRequest: it cannot be one.
    """
    if not isinstance(key, str):
        raise InvalidRequest(f"The idempotency key must be a string, got {type(key).__name__}")
    if not 1 <= len(key) <= MAX_LENGTH:
        raise InvalidRequest(f"The idempotency key must have 1 to {MAX_LENGTH} characters, got {len(key)}")
    if not key.isprintable():
        raise InvalidRequest("The idempotency key must not contain control characters")
    return key


def of_start(key: str, owner: int | None, workflow: str) -> str:
    """Return what is stored of a start's key: it is one caller's, for one workflow."""
    return _digest("anonymous" if owner is None else f"owner {owner}", workflow, key)


def of_event(key: str) -> str:
    """Return what is stored of an event's key, beside the run that it is for."""
    return _digest(key)


def _digest(*parts: str) -> str:
    # No part but the last can contain a line break, so different parts are different texts.
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
