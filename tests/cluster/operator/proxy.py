"""A proxy between the operator and the API server that breaks what it can.

It speaks plain HTTP to the operator and HTTPS to the API server, one request a connection. Faults
come from a seeded generator; each request is counted, so that a test may do something at the n-th.
"""

import asyncio
import json
import random
import threading

HEAD_LIMIT = 1 << 16


class Faults:
    """How often what goes wrong. All are chances per request."""

    def __init__(self, seed, refuse=0.0, swallow=0.0, delay=0.0, cut_watch=0.0, lag=0.0):
        self.random = random.Random(seed)
        # Answered in the API server's place: 409, 429 with Retry-After, 500, 503.
        self.refuse = refuse
        # The request takes effect, and the answer is lost.
        self.swallow = swallow
        self.delay = delay
        # A watch ends within seconds.
        self.cut_watch = cut_watch
        # No chance: seconds that a watch is late.
        self.lag = lag


class Proxy:
    """Runs in a thread of its own until it is closed."""

    def __init__(self, api, faults, on_request=None):
        self.api = api
        self.faults = faults
        self.on_request = on_request or (lambda number, method, path: None)
        self.requests = 0
        self.log = []
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.started.wait(10)

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        )
        self.port = self.server.sockets[0].getsockname()[1]
        self.started.set()
        self.loop.run_forever()

    def close(self):
        async def stop():
            self.server.close()
            tasks = asyncio.all_tasks(self.loop) - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=5)
            self.loop.stop()

        asyncio.run_coroutine_threadsafe(stop(), self.loop)
        self.thread.join(10)

    def kubeconfig(self):
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "p", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "p", "user": {}}],
            "contexts": [{"name": "p", "context": {"cluster": "p", "user": "p"}}],
            "current-context": "p",
        }

    async def _serve(self, reader, writer):
        try:
            await self._forward(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            # The proxy is closed.
            pass
        finally:
            writer.close()

    async def _forward(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = [line for line in lines[1:] if line]
        length = 0
        for line in headers:
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                length = int(value)
        body = await reader.readexactly(length) if length else b""
        is_watch = "watch=true" in target
        is_lease = "/leases" in target
        self.requests += 1
        self.log.append((method, target))
        self.on_request(self.requests, method, target)

        faults, chance = self.faults, self.faults.random.random
        # Without its Lease an operator does nothing: that is another test's matter.
        if not is_lease and chance() < faults.delay:
            await asyncio.sleep(chance())
        if not is_lease and chance() < faults.refuse:
            writer.write(self._refusal(method))
            await writer.drain()
            return
        swallow = not is_lease and not is_watch and chance() < faults.swallow
        cut_after = 0.1 + chance() * 3 if is_watch and chance() < faults.cut_watch else None

        upstream_reader, upstream = await asyncio.open_connection(
            self.api.server.hostname, self.api.server.port, ssl=self.api.context, limit=1 << 20
        )
        try:
            kept = [
                line
                for line in headers
                if line.partition(":")[0].lower() not in ("connection", "host")
            ]
            kept += [f"Host: {self.api.server.netloc}", "Connection: close"]
            request = "\r\n".join([lines[0], *kept, "", ""]).encode("latin-1") + body
            upstream.write(request)
            await upstream.drain()
            if swallow:
                await upstream_reader.readuntil(b"\r\n\r\n")
                return
            pipe = self._pipe(upstream_reader, writer, faults.lag if is_watch else 0)
            if cut_after is None:
                await pipe
            else:
                try:
                    await asyncio.wait_for(pipe, cut_after)
                except asyncio.TimeoutError:
                    pass
        finally:
            upstream.close()

    async def _pipe(self, reader, writer, lag):
        while chunk := await reader.read(1 << 16):
            if lag:
                self.loop.call_later(lag, writer.write, chunk)
            else:
                writer.write(chunk)
            await writer.drain()
        await asyncio.sleep(lag)

    def _refusal(self, method):
        codes = [429, 500, 503] + ([409] if method in ("PATCH", "PUT", "POST", "DELETE") else [])
        code = self.faults.random.choice(codes)
        reasons = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError"}
        status = {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": reasons.get(code, "ServiceUnavailable"), "message": "a test says no",
        }
        retry = ""
        if code == 429:
            status["details"] = {"retryAfterSeconds": 1}
            retry = "Retry-After: 1\r\n"
        body = json.dumps(status)
        return (
            f"HTTP/1.1 {code} No\r\nContent-Type: application/json\r\n{retry}"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
        ).encode()
