"""An application with three pages, which reads paths as servlet containers do.

`python -m tests.adversarial.pages PORT`
"""

from __future__ import annotations

import posixpath
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

PAGES = {"/public": b"welcome", "/x": b"for members", "/admin": b"the secret"}


class Pages(BaseHTTPRequestHandler):
    """Cuts parameters, decodes, then resolves: `/public/..;/admin` is `/admin`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with a page, or 404."""
        path = re.sub(r";[^/]*", "", self.path.partition("?")[0])
        body = PAGES.get(posixpath.normpath(unquote(path)))
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def do_OPTIONS(self) -> None:
        """Answer as to GET."""
        self.do_GET()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Pages).serve_forever()
