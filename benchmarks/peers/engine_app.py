"""The plain directory on our engine, which shows how much of our cost is HTTP."""

from __future__ import annotations

from openred_central.micro_engine.engine import Engine
from openred_central.micro_engine.limits import EngineLimits
from openred_central.micro_engine.wire.messages import Request, Response
from openred_central.micro_engine.wire.target import parse_query

from .plain import Answer, PlainDirectory, read_options


def application(directory: PlainDirectory) -> Engine:
    engine = Engine(limits=EngineLimits(connections_max=100_000, exempt_networks=("127.0.0.0/8",)))

    def reply(answer: Answer) -> Response:
        status, body = answer
        return Response(body, status=status)

    @engine.route("/heartbeat/{node_id}", methods=["POST"])
    async def heartbeat(request: Request, node_id: str) -> Response:
        return reply(directory.heartbeat(node_id))

    @engine.route("/discover")
    async def discover(request: Request) -> Response:
        query = dict(parse_query(request.query))
        return reply(directory.discover(query["services"]))

    @engine.route("/register", methods=["POST"])
    async def register(request: Request) -> Response:
        return reply(directory.register(request.body))

    return engine


if __name__ == "__main__":
    options = read_options()
    application(PlainDirectory(options.nodes)).run(host="127.0.0.1", port=options.port)
