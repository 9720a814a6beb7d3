"""The plain directory over WSGI, on a server written in C: fastwsgi (libuv, llhttp) or bjoern (libev)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from .plain import PlainDirectory, problem, read_options

REASONS = {200: "200 OK", 201: "201 Created"}


def application(directory: PlainDirectory) -> Callable[..., Iterable[bytes]]:
    def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if method == "POST" and path.startswith("/heartbeat/"):
            status, body = directory.heartbeat(path[11:])
        elif method == "GET" and path == "/discover":
            status, body = directory.discover(parse_qs(environ["QUERY_STRING"])["services"][0])
        elif method == "POST" and path == "/register":
            status, body = directory.register(environ["wsgi.input"].read())
        else:
            status, body = problem(404, "not_found")
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(REASONS.get(status) or f"{status} Refused", headers)
        return [body]

    return application


if __name__ == "__main__":
    options = read_options()
    server = importlib.import_module(options.server)
    server.run(application(PlainDirectory(options.nodes)), "127.0.0.1", options.port)
