"""The same directory work on other engines, and the floor below all of them. Each module is a server."""
