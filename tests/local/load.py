"""Clients that ask over and over, and a count of every request that was not answered right."""

import asyncio
import json
import threading


class Load:
    """Keep-alive clients that send one request over and over until told to stop, with so many seconds
    between an answer and the next request.

    A client opens a new connection only where HTTP asks for it: when the answer before said
    `Connection: close`. Nothing is sent twice, so a request that is lost is counted.
    """

    def __init__(self, address, path, body, right, clients=64, pause=0.0, host=None):
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host or address}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.request = head.encode() + body
        self.right, self.clients, self.pause = right, clients, pause
        self.answered, self.failures, self.seen = 0, [], {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive(), "a client waits for an answer that does not come"

    async def _run(self):
        await asyncio.gather(*(self._client() for _ in range(self.clients)))

    async def _client(self):
        reader = writer = None
        while not self._stop.is_set():
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(self.host, self.port)
                writer.write(self.request)
                status, headers, body = await asyncio.wait_for(answer(reader), 30)
            except (OSError, EOFError, asyncio.TimeoutError, ValueError) as error:
                self.failures.append(repr(error))
                if writer:
                    writer.close()
                writer = None
                await asyncio.sleep(0.01)
                continue
            if status != 200:
                self.failures.append(f"{status} {body[:200]}")
                await asyncio.sleep(0.01)
            else:
                self.answered += 1
                which = self.right(json.loads(body))
                self.seen[which] = self.seen.get(which, 0) + 1
                if which is None:
                    self.failures.append(f"wrong answer {body[:200]}")
            if headers.get("connection", "").lower() == "close":
                writer.close()
                writer = None
            if self.pause:
                await asyncio.sleep(self.pause)
        if writer:
            writer.close()


async def answer(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split()[1])
    headers = {}
    for line in head[1:]:
        if line:
            name, value = line.split(":", 1)
            headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return status, headers, body
