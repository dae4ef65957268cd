"""A gate before the real API server: passes everything on, until it is told to be down, refuse or answer as it likes.

Plain HTTP on loopback, so that a load balancer's answers can be given too. Every request that arrives is counted.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

from stand.cluster import Cluster, write_kubeconfig

HTML = "<!doctype html><html><body>Access denied by the proxy</body></html>"
STATUS = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "Expired"}


class Gate:
    """`mode`: open; reset (each connection is cut at once); refused (nobody listens); or a kind of answer."""

    def __init__(self, cluster: Cluster, account: Path) -> None:
        """`account` is the kubeconfig of whoever goes through."""
        config = json.loads(account.read_text())
        self._upstream = config["clusters"][0]["cluster"]["server"]
        self._token = config["users"][0]["user"]["token"]
        self.kubeconfig = cluster.directory / "gate.kubeconfig"
        self.mode, self.arrived = "open", 0
        self.port = 0
        self._open: set[Any] = set()
        self._begun = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True).start()
        assert self._begun.wait(20)
        write_kubeconfig(self.kubeconfig, {"server": f"http://127.0.0.1:{self.port}"}, self._token)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)

    def turn(self, mode: str) -> None:
        """From now on; what is open is cut."""
        asyncio.run_coroutine_threadsafe(self._turn(mode), self._loop).result(20)

    async def _turn(self, mode: str) -> None:
        was, self.mode = self.mode, mode
        if mode == "refused":
            await self._site.stop()
        elif was == "refused":
            await self._listen()
        for transport in self._open:
            transport.abort()
        self._open.clear()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._client:
            await self._listen()
            self._begun.set()
            await self._end.wait()
            await self._runner.cleanup()

    async def _listen(self) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        assert self._runner.addresses
        self.port = self._runner.addresses[-1][1]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.arrived += 1
        self._open.add(request.transport)
        match self.mode:
            case "reset":
                assert request.transport is not None
                raw: socket.socket = request.transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                request.transport.abort()
                return web.Response()
            case "503":
                return web.Response(status=503, text="no healthy upstream")
            case "429":
                return web.Response(status=429, headers={"Retry-After": "1"}, text="too many")
            case "410":
                return web.json_response({**STATUS, "code": 410}, status=410)
            case "html":
                return web.Response(status=403, content_type="text/html", text=HTML)
        return await self._pass_on(request)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
        url = self._upstream + request.raw_path
        async with self._client.request(
            request.method, url, headers=headers, data=await request.read() or None, timeout=aiohttp.ClientTimeout()
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in ("transfer-encoding", "connection")}
            passed = web.StreamResponse(status=answer.status, headers=kept)
            await passed.prepare(request)
            async for chunk in answer.content.iter_any():
                await passed.write(chunk)
            await passed.write_eof()
            return passed
