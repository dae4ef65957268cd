"""The batch interface of the mock: files and batches as OpenAI documents them, at a speed of one's choice.

POST, GET, DELETE /v1/files (and /content); POST, GET /v1/batches (and /cancel). A batch is worked off line by line in a
task of its own; each line's text goes on the same bill as an online request's. What can be ordered through POST
/control, key `batches` (each given key replaces, the rest stays):

    supported     false: 404 to everything here, as a server without batches answers
    down          a status, such as 503, that everything here is answered with; null ends it
    holdAfter     so many lines are worked off, then it waits; null lets go
    end           "expired": what has not been worked off expires, also in a batch that is held
    failWith      the code that validation fails with, such as token_limit_exceeded; `failTimes` how often (default 1)
    lines         faults by text: [{"text": "piece", "kind": ..., "times": n}]; Status (with `status`), WrongDimension,
                  NotANumber, Zero, or Missing (the line is in neither file); billed unless Status
    cutOutput     so many bytes are missing at the end of every output file
    lose          "upload" or "create": the next such request is carried out, and is not answered

GET /batches shows what there is: {batches: [{id, status, lines, completed, failed, name}], files: [name, ...]}.
"""

from __future__ import annotations

import asyncio
import email.parser
import email.policy
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from stand.provider.openai_errors import ErrorAnswer

MAX_LINES: Final = 50_000
ENDED: Final = ("completed", "failed", "expired", "cancelled")
Produce = Callable[[Mapping[str, Any]], dict[str, Any]]
"""The body of a request to the body of its answer, billed; raises ErrorAnswer."""


@dataclass
class File:
    """An uploaded or produced file."""

    id: str
    name: str
    content: bytes
    purpose: str
    created_at: int = field(default_factory=lambda: int(time.time()))

    def as_json(self) -> dict[str, Any]:
        """As GET /v1/files shows it."""
        return {
            "id": self.id, "object": "file", "bytes": len(self.content), "created_at": self.created_at,
            "filename": self.name, "purpose": self.purpose, "status": "processed",
        }  # fmt: skip


@dataclass
class Batch:
    """One batch; `output` and `errors` are lines that were worked off."""

    id: str
    file: str
    metadata: dict[str, str]
    name: str
    created_at: int = field(default_factory=lambda: int(time.time()))
    status: str = "validating"
    lines: list[dict[str, Any]] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    missing: int = 0
    tokens: int = 0
    files: dict[str, str | None] = field(default_factory=lambda: {"output_file_id": None, "error_file_id": None})
    failed_with: str = ""
    cancelling: bool = False

    @property
    def worked(self) -> int:
        """Lines that are through."""
        return len(self.output) + len(self.errors) + self.missing

    def as_json(self) -> dict[str, Any]:
        """As GET /v1/batches/{id} shows it."""
        wrong = [{"code": self.failed_with, "message": "Enqueued token limit reached.", "param": None, "line": None}]
        counts = {"total": len(self.lines), "completed": len(self.output) + self.missing, "failed": len(self.errors)}
        return {
            "id": self.id, "object": "batch", "endpoint": "/v1/embeddings", "input_file_id": self.file,
            "completion_window": "24h", "status": self.status, "created_at": self.created_at, "metadata": self.metadata,
            "request_counts": counts, "errors": {"object": "list", "data": wrong} if self.failed_with else None,
            "usage": {"input_tokens": self.tokens, "output_tokens": 0, "total_tokens": self.tokens}, **self.files,
        }  # fmt: skip


class Batches:
    """All files and batches of the mock, and what was ordered."""

    def __init__(self, changed: asyncio.Condition) -> None:
        """`changed` is notified by the control plane after each order."""
        self.changed = changed
        self.files: dict[str, File] = {}
        self.batches: dict[str, Batch] = {}
        self.orders: dict[str, Any] = {"supported": True}
        self._tasks: set[asyncio.Task[None]] = set()

    def order(self, orders: Mapping[str, Any]) -> None:
        """Apply the key `batches` of POST /control."""
        known = {"supported", "down", "holdAfter", "end", "failWith", "failTimes", "lines", "cutOutput", "lose"}
        if unknown := set(orders) - known:
            raise ValueError(f"unknown orders for batches: {', '.join(sorted(unknown))}")
        self.orders |= orders

    def close(self) -> None:
        """Nothing is worked off any more."""
        for task in self._tasks:
            task.cancel()

    def taken(self, name: str) -> bool:
        """Whether this answer is to be lost; ordered for one only."""
        lost = self.orders.get("lose") == name
        if lost:
            self.orders["lose"] = None
        return lost

    def keep(self, name: str, content: bytes, purpose: str) -> File:
        """A new file."""
        file = File(f"file-{secrets.token_hex(8)}", name, content, purpose)
        self.files[file.id] = file
        return file

    def create(self, asked: Mapping[str, Any], produce: Produce) -> Batch:
        """A new batch, at work."""
        file = self.files.get(str(asked.get("input_file_id")))
        if file is None or file.purpose != "batch":
            raise ErrorAnswer(400, "Invalid input_file_id.", param="input_file_id")
        if asked.get("endpoint") != "/v1/embeddings" or asked.get("completion_window") != "24h":
            raise ErrorAnswer(400, "Invalid endpoint or completion_window.", param="endpoint")
        batch = Batch(f"batch_{secrets.token_hex(8)}", file.id, dict(asked.get("metadata") or {}), file.name)
        self.batches[batch.id] = batch
        task = asyncio.create_task(self._work(batch, produce))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return batch

    async def _work(self, batch: Batch, produce: Produce) -> None:
        if not self._validate(batch):
            return
        batch.status = "in_progress"
        for line in batch.lines:
            async with self.changed:
                await self.changed.wait_for(lambda: self._may_go_on(batch))
            if batch.cancelling or self.orders.get("end"):
                break
            self._work_off(batch, line, produce)
            await asyncio.sleep(0)
        self._finish(batch)

    def _validate(self, batch: Batch) -> bool:
        code = self.orders.get("failWith")
        file = self.files.get(batch.file)
        if code:
            left = int(self.orders.get("failTimes", 1)) - 1
            self.orders |= {"failTimes": left} if left else {"failWith": None, "failTimes": 1}
        elif file is None:
            code = "file_not_found"
        else:
            batch.lines = [json.loads(line) for line in file.content.splitlines() if line]
            ids = {line["custom_id"] for line in batch.lines}
            if len(batch.lines) > MAX_LINES or not batch.lines:
                code = "invalid_request_count"
            elif len(ids) < len(batch.lines):
                code = "duplicate_custom_id"
            elif any(line["method"] != "POST" or line["url"] != "/v1/embeddings" for line in batch.lines):
                code = "mismatched_url"
        if code:
            batch.failed_with, batch.status, batch.lines = str(code), "failed", []
        return not code

    def _may_go_on(self, batch: Batch) -> bool:
        hold = self.orders.get("holdAfter")
        return batch.cancelling or bool(self.orders.get("end")) or hold is None or batch.worked < hold

    def _work_off(self, batch: Batch, line: Mapping[str, Any], produce: Produce) -> None:
        fault = self._fault(str(line["body"].get("input")))
        kind = fault["kind"] if fault else None
        try:
            if fault is not None and kind == "Status":
                raise ErrorAnswer(int(fault.get("status", 500)), "The server had an error while processing.")
            body = produce(line["body"])
        except ErrorAnswer as error:
            batch.errors.append(_line(line, {"status_code": error.status, "body": error.body()}, None))
            return
        batch.tokens += int(body["usage"]["total_tokens"])
        if kind == "Missing":
            batch.missing += 1
            return
        if kind:
            length = len(body["data"][0]["embedding"]) // 4 * 3 // 4
            vector = np.zeros(length + (kind == "WrongDimension"), dtype="<f4")
            vector[0] = np.nan if kind == "NotANumber" else kind != "Zero"
            body["data"][0]["embedding"] = [float(value) for value in vector]
        batch.output.append(_line(line, {"status_code": 200, "body": body}, None))

    def _fault(self, text: str) -> dict[str, Any] | None:
        for fault in self.orders.get("lines") or []:
            if fault["text"] in text and fault.get("times", 1) > 0:
                if "times" in fault:
                    fault["times"] -= 1
                return dict(fault)
        return None

    def _finish(self, batch: Batch) -> None:
        expired = not batch.cancelling and batch.worked < len(batch.lines)
        for line in batch.lines[batch.worked :] if expired else []:
            message = "This request could not be executed before the completion window expired."
            batch.errors.append(_line(line, None, {"code": "batch_expired", "message": message}))
        for name, lines in (("output", batch.output), ("error", batch.errors)):
            content = "".join(lines).encode()
            if name == "output" and (cut := self.orders.get("cutOutput")):
                content = content[:-cut]
            if lines:
                batch.files[f"{name}_file_id"] = self.keep(f"{batch.id}_{name}.jsonl", content, "batch_output").id
        batch.status = "cancelled" if batch.cancelling else "expired" if expired else "completed"


@dataclass(frozen=True)
class Door:
    """The interface over HTTP. `check` raises ErrorAnswer for a wrong key."""

    now: Callable[[], Batches]
    check: Callable[[Request], None]
    produce: Produce

    def guarded(self, answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        """The answer as a response, or the error."""

        async def route(request: Request) -> Response:
            try:
                if not self.now().orders["supported"]:
                    raise ErrorAnswer(404, f"Invalid URL ({request.method} {request.url.path})")
                if down := self.now().orders.get("down"):
                    raise ErrorAnswer(int(down), "The server had an error while processing your request.")
                self.check(request)
                found = await answer(request)
            except ErrorAnswer as error:
                return JSONResponse(error.body(), error.status, headers=dict(error.headers))
            except KeyError:
                return JSONResponse(ErrorAnswer(404, "No such object.").body(), 404)
            return found if isinstance(found, Response) else JSONResponse(found)

        return route

    async def files(self, request: Request) -> Any:
        """GET, POST /v1/files."""
        if request.method == "GET":
            purpose = request.query_params.get("purpose")
            return _page(request, [file for file in self.now().files.values() if purpose in (None, file.purpose)])
        form = _form(request.headers["content-type"], await request.body())
        file = self.now().keep(form["file"][0], form["file"][1], form["purpose"][1].decode())
        return _broken() if self.now().taken("upload") else file.as_json()

    async def file(self, request: Request) -> Any:
        """GET, DELETE /v1/files/{id}."""
        found = self.now().files[request.path_params["id"]]
        if request.method == "DELETE":
            del self.now().files[found.id]
            return {"id": found.id, "object": "file", "deleted": True}
        return found.as_json()

    async def content(self, request: Request) -> Any:
        """GET /v1/files/{id}/content."""
        return Response(self.now().files[request.path_params["id"]].content, media_type="application/octet-stream")

    async def batches(self, request: Request) -> Any:
        """GET, POST /v1/batches."""
        if request.method == "GET":
            return _page(request, list(self.now().batches.values()))
        batch = self.now().create(await request.json(), self.produce)
        return _broken() if self.now().taken("create") else batch.as_json()

    async def batch(self, request: Request) -> Any:
        """GET /v1/batches/{id}."""
        return self.now().batches[request.path_params["id"]].as_json()

    async def cancel(self, request: Request) -> Any:
        """POST /v1/batches/{id}/cancel."""
        found = self.now().batches[request.path_params["id"]]
        if found.status in ENDED:
            raise ErrorAnswer(409, f"Cannot cancel a batch with status '{found.status}'.")
        async with self.now().changed:
            found.cancelling, found.status = True, "cancelling"
            self.now().changed.notify_all()
        return found.as_json()

    async def overview(self, _: Request) -> Response:
        """GET /batches, for tests."""
        shown = [
            {"id": b.id, "status": b.status, "lines": len(b.lines), "completed": len(b.output), "failed": len(b.errors),
             "name": b.name} for b in self.now().batches.values()
        ]  # fmt: skip
        return JSONResponse({"batches": shown, "files": [file.name for file in self.now().files.values()]})

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/v1/files", self.guarded(self.files), methods=["GET", "POST"]),
            Route("/v1/files/{id}", self.guarded(self.file), methods=["GET", "DELETE"]),
            Route("/v1/files/{id}/content", self.guarded(self.content)),
            Route("/v1/batches", self.guarded(self.batches), methods=["GET", "POST"]),
            Route("/v1/batches/{id}", self.guarded(self.batch)),
            Route("/v1/batches/{id}/cancel", self.guarded(self.cancel), methods=["POST"]),
            Route("/batches", self.overview),
        ]


def _line(asked: Mapping[str, Any], response: dict[str, Any] | None, error: dict[str, Any] | None) -> str:
    if response is not None:
        response = {"request_id": f"req_{secrets.token_hex(4)}", **response}
    line = {"id": f"batch_req_{secrets.token_hex(8)}", "custom_id": asked["custom_id"]}
    return json.dumps(line | {"response": response, "error": error}) + "\n"


def _page(request: Request, newest_last: list[Any]) -> dict[str, Any]:
    """Newest first, from behind `after`, as OpenAI pages its lists."""
    found = newest_last[::-1]
    after, limit = request.query_params.get("after"), int(request.query_params.get("limit", 20))
    if after:
        found = found[[one.id for one in found].index(after) + 1 :]
    data = [one.as_json() for one in found[:limit]]
    return {"object": "list", "data": data, "has_more": len(found) > limit, "last_id": data[-1]["id"] if data else None}


def _form(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """The parts of multipart/form-data: name to file name and content."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    parts: dict[str, tuple[str, bytes]] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        parts[str(name)] = (part.get_filename() or "", content if isinstance(content, bytes) else b"")
    return parts


def _broken() -> Response:
    """The connection closes before the first byte of the body that the headers promise."""

    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    return StreamingResponse(nothing(), headers={"content-length": "100"}, media_type="application/json")
