"""The plain directory on aiohttp with uvloop, without an access log."""

from __future__ import annotations

import uvloop
from aiohttp import web

from .plain import Answer, PlainDirectory, read_options

JSON = "application/json"


def application(directory: PlainDirectory) -> web.Application:
    def reply(answer: Answer) -> web.Response:
        status, body = answer
        return web.Response(body=body, status=status, content_type=JSON)

    async def heartbeat(request: web.Request) -> web.Response:
        return reply(directory.heartbeat(request.match_info["node_id"]))

    async def discover(request: web.Request) -> web.Response:
        return reply(directory.discover(request.query["services"]))

    async def register(request: web.Request) -> web.Response:
        return reply(directory.register(await request.read()))

    app = web.Application()
    app.router.add_post("/heartbeat/{node_id}", heartbeat)
    app.router.add_get("/discover", discover)
    app.router.add_post("/register", register)
    return app


if __name__ == "__main__":
    options = read_options()
    web.run_app(
        application(PlainDirectory(options.nodes)),
        host="127.0.0.1",
        port=options.port,
        access_log=None,
        print=None,
        backlog=4_096,
        keepalive_timeout=3_600,
        loop=uvloop.new_event_loop(),
    )
