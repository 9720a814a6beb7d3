"""The library `cryptography`, each of its modules imported on first use.

The import takes as long as the rest of a start, and a server answers many requests before it needs a key.
This is the only file that imports the library: all others write ``crypto.rsa``, ``crypto.hashes`` and so on.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import __about__
    from cryptography import exceptions as exceptions
    from cryptography import x509 as x509
    from cryptography.hazmat.primitives import hashes as hashes
    from cryptography.hazmat.primitives import serialization as serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519 as ed25519
    from cryptography.hazmat.primitives.asymmetric import mldsa as mldsa
    from cryptography.hazmat.primitives.asymmetric import padding as padding
    from cryptography.hazmat.primitives.asymmetric import rsa as rsa
    from cryptography.hazmat.primitives.ciphers import aead as aead
    from cryptography.hazmat.primitives.kdf import hkdf as hkdf

    about = __about__
else:
    _ASYMMETRIC = ("ed25519", "mldsa", "padding", "rsa")
    _PLACES = {
        "about": "__about__",
        "exceptions": "exceptions",
        "x509": "x509",
        "hashes": "hazmat.primitives.hashes",
        "serialization": "hazmat.primitives.serialization",
        "aead": "hazmat.primitives.ciphers.aead",
        "hkdf": "hazmat.primitives.kdf.hkdf",
        **{name: f"hazmat.primitives.asymmetric.{name}" for name in _ASYMMETRIC},
    }

    def __getattr__(name):
        """Import the module called `name` and keep it (PEP 562). Raises `ImportError` where it is missing."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = globals()[name] = import_module(f"cryptography.{_PLACES[name]}")
        return module
