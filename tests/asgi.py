import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from channels.generic.websocket import AsyncWebsocketConsumer

from django_workflows.asgi import get_asgi_application


class Echo(AsyncWebsocketConsumer):
    """A WebSocket of the site's own."""

    async def connect(self) -> None:
        await (self.accept() if self.scope["path"].endswith("/echo") else self.close())

    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await self.send(text_data)


application = get_asgi_application(websocket=Echo.as_asgi())
