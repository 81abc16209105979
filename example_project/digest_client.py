"""Have documents digested, and decide as their editor, from the command line.

::

    python -m example_project.digest_client                       the project's own documentation
    python -m example_project.digest_client notes.md minutes.txt  these files
    python -m example_project.digest_client --handler ID          go on with a digest that waits

It needs to know the server's URL and nothing else of it: it talks to the workflow through the client of
LlamaIndex, as it would to their own server. The question and the answer are two separate visits, so the server
may be restarted, and this program be left, while the editor thinks.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from llama_agents.client import WorkflowClient
from llama_agents.client.protocol import HandlerData
from llama_agents.client.protocol.serializable_events import EventEnvelopeWithMetadata as Envelope

# Seconds for which a server that went away in the middle is awaited.
PATIENCE = 30


class Failure(Exception):
    """What the person at the terminal has to be told."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = _parser().parse_args(arguments)
    client = WorkflowClient(base_url=options.url.rstrip("/"))
    try:
        handler = asyncio.run(begin(client, options))
        event, cursor = (handler.result, -1) if handler.result else asyncio.run(follow(client, handler.handler_id))
        if event.type == "ApprovalRequired":
            print(draft(event.value))
            decision = {"approve": True} if options.yes else ask(handler.handler_id)
            event, cursor = asyncio.run(decide(client, handler.handler_id, decision, cursor))
        print(result(event))
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m example_project.digest_client",
        description="Have documents digested, decide on the draft, and see it published.",
    )
    parser.add_argument(
        "files", nargs="*", type=Path, help="Markdown or text (default: the project's documentation)"
    )
    parser.add_argument("--url", default="http://127.0.0.1:8080/workflows", help="default: %(default)s")
    parser.add_argument("--title", default="Digest", help="title of the issue (default: %(default)s)")
    parser.add_argument(
        "--sentences", type=int, default=3, help="sentences for each document (default: %(default)s)"
    )
    parser.add_argument("--handler", metavar="ID", help="go on with this handler instead of a new one")
    parser.add_argument("--yes", action="store_true", help="approve the draft without a question")
    return parser


# --- visits to the server ------------------------------------------------------------------------------


async def begin(client: WorkflowClient, options: argparse.Namespace) -> HandlerData:
    """Start a digest, or find the one to go on with."""
    if options.handler:
        return await _answered(client, client.get_handler(options.handler))
    start = {
        "title": options.title,
        "sentences": options.sentences,
        "documents": [{"title": path.name, "text": _read(path)} for path in options.files],
    }
    return await _answered(client, client.run_workflow_nowait("digest", start_event=start))


async def follow(client: WorkflowClient, handler_id: str, cursor: int | str = -1) -> tuple[Envelope, int | str]:
    """Show a run's progress until it asks something or ends; return that event and its place in the stream.

    When the server goes away, the run goes on at its return, and so does this: from the place it had reached.
    """
    bar = ProgressBar()
    gone_for = 0
    while gone_for < PATIENCE:
        stream = client.get_workflow_events(handler_id, after_sequence=cursor)
        try:
            async for event in stream:
                cursor, gone_for = stream.last_sequence, 0
                if event.type == "Progress":
                    bar.show(**event.value)
                elif event.type == "ApprovalRequired" or _is_end(event):
                    bar.close()
                    return event, cursor
        except ConnectionError:
            bar.note("waiting for the server")
        except ValueError as error:
            raise Failure(f"{error}: {handler_id}") from None
        except httpx.HTTPStatusError as error:
            raise Failure(str(error)) from None
        await asyncio.sleep(1)
        gone_for += 1
    bar.close()
    raise Failure(f"{_unreachable(client)} Later, go on with --handler {handler_id}")


async def decide(
    client: WorkflowClient, handler_id: str, decision: dict[str, Any], cursor: int | str
) -> tuple[Envelope, int | str]:
    """Send the editor's decision and follow the run to its end."""
    event = {"type": "EditorDecision", "value": decision}
    await _answered(client, client.send_event(handler_id, event))
    return await follow(client, handler_id, cursor)


async def _answered(client: WorkflowClient, call: Any) -> Any:
    try:
        return await call
    except httpx.HTTPStatusError as error:
        raise Failure(str(error)) from None
    except (httpx.RequestError, httpx.InvalidURL):
        raise Failure(_unreachable(client)) from None


def _unreachable(client: WorkflowClient) -> str:
    return f"No server answers at {client.base_url}. Start one with: python manage.py runworkflows"


def _is_end(event: Envelope) -> bool:
    return "StopEvent" in (event.type, *(event.types or []))


# --- the person at the terminal ------------------------------------------------------------------------


class ProgressBar:
    """One line on the terminal's error output that is written over and over; nothing where it is a file."""

    WIDTH = 30

    def __init__(self) -> None:
        self._shown = 0

    def show(self, done: int, total: int, what: str) -> None:
        filled = self.WIDTH * done // max(total, 1)
        self.note(f"[{'#' * filled}{'.' * (self.WIDTH - filled)}] {done}/{total} {what[:60]}")

    def note(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{text:{self._shown}}", end="", file=sys.stderr, flush=True)
            self._shown = len(text)

    def close(self) -> None:
        if self._shown:
            print(file=sys.stderr)
            self._shown = 0


def draft(value: dict[str, Any]) -> str:
    """Return the draft as the editor reads it."""
    lines = [value["title"], "=" * len(value["title"])]
    for entry in value["entries"]:
        lines += ["", entry["title"], "-" * len(entry["title"]), *entry["sentences"]]
    return "\n".join([*lines, ""])


def ask(handler_id: str) -> dict[str, Any]:
    """Ask for the decision."""
    try:
        while (answer := input("Publish? [y/n] ").strip().casefold()) not in ("y", "yes", "n", "no"):
            pass
        return {"approve": answer.startswith("y"), "note": input("A note (or nothing): ").strip()}
    except EOFError:
        raise Failure(f"Nobody there to decide. The draft waits; go on with --handler {handler_id}") from None
    except KeyboardInterrupt:
        print(f"\nThe draft waits; go on with --handler {handler_id}", file=sys.stderr)
        raise


def result(event: Envelope) -> str:
    """Say how the run ended.

    Raises:
        Failure: it failed or was cancelled.
    """
    value = event.value
    if event.type != "DigestFinished":
        raise Failure(f"The digest came to no end: {event.type} {value}")
    note = f" ({value['note']})" if value["note"] else ""
    return f"Issue {value['issue']}, {value['title']}: {value['status']}{note}."


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise Failure(f"{path} cannot be read: {reason}") from None


if __name__ == "__main__":
    sys.exit(main())
