"""How steps are repeated that failed for a reason which passes."""

from django.db import InterfaceError, OperationalError
from workflows.retry_policy import (
    retry_if_exception_type,
    retry_policy,
    stop_after_attempt,
    wait_exponential,
)

# The database is locked or restarted: try again after 1, 2, 4 and 8 seconds.
WHEN_THE_DATABASE_IS_AWAY = retry_policy(
    retry=retry_if_exception_type((OperationalError, InterfaceError)),
    wait=wait_exponential(),
    stop=stop_after_attempt(5),
)
