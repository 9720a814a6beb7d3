"""``/admin/cluster/...``: what an operator decides where the database of a cluster went back."""

from __future__ import annotations

from ...errors import CallerError
from ...micro_engine.wire.messages import Request, Response
from .admission import AdminEndpoint, ClusterDesk, Desk


def _of_cluster(desk: Desk) -> ClusterDesk:
    """Return the part of `desk` for a cluster. Raises `CallerError` 409 ``no_cluster`` without one."""
    if desk.cluster is None:
        raise CallerError(
            409,
            "no_cluster",
            "This server is in no cluster.",
            suggestion="Ask an instance: a server whose OPENRED_DATABASE is a PostgreSQL.",
        )
    return desk.cluster


async def accept_database(desk: Desk, request: Request) -> Response:
    """Answer 200: this instance takes a database that is of long ago as it is, and may lead there."""
    accepted = _of_cluster(desk).accept_database()
    if accepted:
        message = "The database is taken as it is. An instance leads there within seconds."
    else:
        message = "This instance does not refuse the database."
    return Response.json({"status": "accepted" if accepted else "not_refused", "message": message})


ACCEPT_DATABASE = AdminEndpoint(
    "POST", "/admin/cluster/accept-database", accept_database, "accept database", anywhere=True
)


async def list_lost(desk: Desk, request: Request) -> Response:
    """Answer 200 with the nodes of which this instance knew acknowledged changes that are lost."""
    lost = _of_cluster(desk).losses
    changes = [{"node_id": each.node_id, "loss": each.loss.value} for each in lost.named]
    return Response.json({"changes": changes, "total": lost.total})


LIST_LOST = AdminEndpoint("GET", "/admin/cluster/lost", list_lost, "list lost changes")
