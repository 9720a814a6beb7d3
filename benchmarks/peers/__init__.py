"""The plain directory on other engines, and the floor of all. Each module is a server."""
