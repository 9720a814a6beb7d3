"""The part of curl that the transcripts need, for machines without curl."""

from __future__ import annotations

import argparse
import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit


def main() -> None:
    """Make one request and print the answer. Options as in curl."""
    parser = argparse.ArgumentParser(prog="curl", allow_abbrev=False)
    parser.add_argument("-s", "--silent", action="store_true")
    parser.add_argument("-i", "--include", action="store_true")
    parser.add_argument("-X", "--request")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data")
    parser.add_argument("--json")
    parser.add_argument("url")
    options = parser.parse_args()
    url = urlsplit(options.url if "://" in options.url else f"http://{options.url}")
    body = options.data if options.json is None else options.json
    headers = {"accept": "*/*"}
    if body is not None:
        json = options.json is not None
        headers["content-type"] = "application/json" if json else "application/x-www-form-urlencoded"
    for header in options.header:
        name, _, value = header.partition(":")
        headers[name.strip().lower()] = value.strip()
    connection = HTTPConnection(url.netloc, timeout=30)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    connection.request(options.request or ("GET" if body is None else "POST"), target, body, headers)
    response = connection.getresponse()
    if options.include:
        print(f"HTTP/1.1 {response.status} {response.reason}")
        for name, value in response.getheaders():
            print(f"{name}: {value}")
        print(flush=True)
    sys.stdout.flush()
    sys.stdout.buffer.write(response.read())
    connection.close()


if __name__ == "__main__":
    main()
