"""The metadata service of AWS, as far as an agent asks it whether its machine is about to be taken.

    python metadata.py ADDRESS PORT

leaves the machine alone, or takes it, as each line of its input says: `leave` or `take`.
"""

import http.server
import sys
import threading


class Metadata(http.server.ThreadingHTTPServer):
    def __init__(self, address, says):
        super().__init__(address, Handler)
        self.says = says
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        self.answer(200, "token")

    def do_GET(self):
        is_action = self.path == "/latest/meta-data/spot/instance-action"
        if self.server.says == "take" and is_action and self.headers["X-aws-ec2-metadata-token"] == "token":
            return self.answer(200, '{"action": "terminate", "time": "2026-09-18T08:22:00Z"}')
        self.answer(404, "")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def main():
    server = Metadata((sys.argv[1], int(sys.argv[2])), "leave")
    for line in sys.stdin:
        server.says = line.strip()


if __name__ == "__main__":
    main()
