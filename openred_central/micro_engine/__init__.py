"""An HTTP/1.1 engine for coroutine handlers, on uvloop. It knows nothing of what it serves.

`engine.Engine` is where to begin. `wire` is pure, and needs neither uvloop nor a loop.
"""
