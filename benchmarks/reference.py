"""The reference with the workflows of the benchmarks: ``python -m benchmarks.reference PORT``.

Its store comes from the environment: BENCHMARK_SQLITE is a file, BENCHMARK_POSTGRESQL a URL; otherwise
it is memory.
"""

from __future__ import annotations

import os
import sys

import uvicorn
from llama_agents.server import AbstractWorkflowStore, SqliteWorkflowStore, WorkflowServer

from benchmarks import workflows


def _store() -> AbstractWorkflowStore | None:
    if file := os.environ.get("BENCHMARK_SQLITE"):
        return SqliteWorkflowStore(file)
    if url := os.environ.get("BENCHMARK_POSTGRESQL"):
        # Not exported by the package, since it needs the extra asyncpg.
        from llama_agents.server._store.postgres_workflow_store import PostgresWorkflowStore

        return PostgresWorkflowStore(url)
    return None


def main() -> None:
    idle_timeout = float(os.environ.get("BENCHMARK_IDLE_TIMEOUT", "60"))
    server = WorkflowServer(workflow_store=_store(), idle_timeout=idle_timeout)
    for name in workflows.SERVED:
        server.add_workflow(name, workflows.make(name))
    uvicorn.run(
        server.app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        backlog=4096,
        http="httptools",
        loop="uvloop",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
