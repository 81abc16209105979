"""Messages as ticks that remember which message they are until the journal has them."""

from __future__ import annotations

from pydantic import PrivateAttr
from workflows.context.serializers import BaseSerializer
from workflows.runtime.types.step_id import StepId
from workflows.runtime.types.ticks import TickAddEvent, TickCancelRun, WorkflowTick

from django_workflows import serialization
from django_workflows.models import Message


class _MailedEvent(TickAddEvent):
    # The engine stamps a copy of the tick; a private attribute goes along.
    _message: int = PrivateAttr()


class _MailedCancel(TickCancelRun):
    _message: int = PrivateAttr()


class Mail:
    """Wraps messages for the engine, and unwraps the ticks that come back."""

    @staticmethod
    def tick(message: Message, using: BaseSerializer) -> WorkflowTick:
        """Return the tick that stands for a message.

        Raises:
            Exception: the stored event cannot be read, because the workflow no longer declares it.
        """
        tick: _MailedEvent | _MailedCancel
        if message.kind == Message.Kind.CANCEL:
            tick = _MailedCancel()
        else:
            event = serialization.load_event(message.data, using)
            tick = _MailedEvent(event=event, step_id=StepId.root(message.step) if message.step else None)
        tick._message = message.pk
        return tick

    @staticmethod
    def open(tick: WorkflowTick) -> tuple[int | None, WorkflowTick]:
        """Return the message that a tick stands for, and the tick as the engine's own class."""
        if isinstance(tick, _MailedEvent):
            return tick._message, TickAddEvent.model_construct(**dict(tick))
        if isinstance(tick, _MailedCancel):
            return tick._message, TickCancelRun()
        return None, tick
