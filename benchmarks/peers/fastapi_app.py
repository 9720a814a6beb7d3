"""The plain directory on FastAPI, served by uvicorn with uvloop and httptools, without an access log."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI, Request, Response

from .plain import Answer, PlainDirectory, read_options

JSON = "application/json"


def application(directory: PlainDirectory) -> FastAPI:
    app = FastAPI()

    def reply(answer: Answer) -> Response:
        status, body = answer
        # Bytes avoid FastAPI's own serialisation, which is slower.
        return Response(body, status, media_type=JSON)

    async def heartbeat(node_id: str) -> Response:
        return reply(directory.heartbeat(node_id))

    async def discover(services: str, max_results: int = 50) -> Response:
        return reply(directory.discover(services, max_results))

    async def register(request: Request) -> Response:
        return reply(directory.register(await request.body()))

    app.add_api_route("/heartbeat/{node_id}", heartbeat, methods=["POST"])
    app.add_api_route("/discover", discover, methods=["GET"])
    app.add_api_route("/register", register, methods=["POST"])
    return app


if __name__ == "__main__":
    options = read_options()
    uvicorn.run(
        application(PlainDirectory(options.nodes)),
        port=options.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        backlog=4_096,
        timeout_keep_alive=3_600,
    )
