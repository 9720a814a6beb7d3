"""An HTTP/1.1 engine for coroutine handlers, on uvloop. It knows nothing of what it serves."""

from ..errors import CallerError
from .engine import Engine
from .limits import EngineLimits
from .wire.messages import Request, Response, StreamingResponse

__all__ = ["CallerError", "Engine", "EngineLimits", "Request", "Response", "StreamingResponse"]
