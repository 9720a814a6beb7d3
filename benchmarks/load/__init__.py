"""The load generator: requests to any server, in a closed or an open loop, counted and timed."""
