"""OpenRed Central: an empathic directory server for decentralised networks."""

__version__ = "3.0.0"
