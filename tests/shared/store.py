"""A store for models: a web server, and the part of S3 that reading one object needs."""

import contextlib
import http.server
import json
import ssl
import sys
import threading


class Store:
    """Serves `objects` by path. `status` is what every request gets in place of its object; a body is
    sent only up to `gate` bytes until that is opened."""

    def __init__(self, objects):
        self.objects = objects
        self.status = None
        self.requests = []
        self.gate = threading.Event()
        self.gate.set()

    @contextlib.contextmanager
    def serve(self, address="127.0.0.1", port=0, certificate=None):
        """With a file of a certificate and its key, by TLS."""
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = self.path.split("?")[0]
                store.requests.append((path, self.headers.get("authorization", "")))
                body = store.objects.get(path)
                if store.status is not None or body is None:
                    self.send_response(store.status or 404)
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
                span, status = body, 200
                wanted = self.headers.get("range")
                if wanted:
                    first, last = wanted.removeprefix("bytes=").split("-")
                    first, last = int(first), min(int(last or len(body)), len(body) - 1)
                    span, status = body[first : last + 1], 206
                self.send_response(status)
                self.send_header("etag", '"1"')
                self.send_header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
                self.send_header("accept-ranges", "bytes")
                self.send_header("content-length", str(len(span)))
                if status == 206:
                    self.send_header("content-range", f"bytes {first}-{last}/{len(body)}")
                self.end_headers()
                if self.command != "HEAD":
                    half = len(span) // 2
                    self.wfile.write(span[:half])
                    if half:
                        store.gate.wait(timeout=60)
                    self.wfile.write(span[half:])

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer((address, port), Handler)
        server.daemon_threads = True
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'https' if certificate else 'http'}://{address}:{server.server_port}"
        finally:
            self.gate.set()
            server.shutdown()
            thread.join()
            server.server_close()


if __name__ == "__main__":
    # ADDRESS PORT [CERTIFICATE], with the objects as JSON in the first line of stdin, until that ends.
    objects = json.loads(sys.stdin.readline())
    store = Store({path: text.encode() for path, text in objects.items()})
    with store.serve(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]):
        print("ready", flush=True)
        sys.stdin.read()
