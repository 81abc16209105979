"""The reference server with the workflows of these tests: ``python -m tests.wire.reference PORT``."""

from __future__ import annotations

import asyncio
import os
import sys

from llama_agents.server import WorkflowServer

from tests.wire import workflows


async def serve(port: int) -> None:
    server = WorkflowServer(
        sse_heartbeat_interval=0.5, accept_context_api=os.environ.get("SITE_ACCEPT_CONTEXT_API") == "1"
    )
    for name, (_, _, events) in workflows.SERVED.items():
        server.add_workflow(name, workflows.make(name), additional_events=events)
    await server.serve("127.0.0.1", port, uvicorn_config={"log_level": "warning"})


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
