"""A replica of a `custom` runtime: answers with what it was told to say and with its pid."""

import http.server
import json
import os
import signal
import sys
import threading
import time

time.sleep(float(os.environ.get("START_AFTER", "0")))
if "EXIT_WITH" in os.environ:
    print("no model here: " + os.environ.get("SECRET", ""), flush=True)
    sys.exit(int(os.environ["EXIT_WITH"]))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Nagle's algorithm and a delayed acknowledgement would add 40 ms to each answer.
    disable_nagle_algorithm = True

    def answer(self):
        length = int(self.headers.get("content-length", 0))
        if length:
            self.rfile.read(length)
        time.sleep(float(self.headers.get("x-take", "0")))
        body = json.dumps({
            "says": os.environ.get("SAYS", ""),
            "pid": os.getpid(),
            "secret_length": len(os.environ.get("SECRET", "")),
        }).encode()
        self.send_response(int(os.environ.get("ANSWER_WITH", "200")))
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
if os.environ.get("ON_TERM") == "stay":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("listening", os.environ["PORT"], flush=True)
server.serve_forever()
