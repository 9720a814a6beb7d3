"""The load generator: a closed or an open loop of requests to any server, counted and timed."""
