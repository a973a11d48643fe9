"""A receiver of OTLP over HTTP, in a process of its own.

``python otlp_receiver.py`` prints its port, then each span that it is sent as a line of JSON.
"""

from __future__ import annotations

import gzip
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Receiver(BaseHTTPRequestHandler):
    """Decodes what is posted to ``/v1/traces``."""

    def do_POST(self):
        assert self.path == "/v1/traces", self.path
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    print(json.dumps(shown(scope.scope.name, span)), flush=True)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Nothing besides."""


def shown(scope, span):
    return {
        "scope": scope,
        "name": span.name,
        "kind": span.kind,
        "ids": [span.trace_id.hex(), span.span_id.hex()],
        "links": [[each.trace_id.hex(), each.span_id.hex()] for each in span.links],
        "attributes": [each.key for each in span.attributes],
    }


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    print(server.server_port, flush=True)
    server.serve_forever()
