"""URLs of directories."""

from __future__ import annotations

import pytest

from openred_central.client.address import Address


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "signed"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, "127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://Directory.Example/", "directory.example", 80, "directory.example", "directory.example"),
        ("https://directory.example", "directory.example", 443, "directory.example", "directory.example"),
        ("https://a.example:443", "a.example", 443, "a.example:443", "a.example"),
        ("http://a.example.:1", "a.example.", 1, "a.example.:1", "a.example.:1"),
        ("http://[::1]:8000", "::1", 8000, "[::1]:8000", "[::1]:8000"),
    ],
)
def test_a_url_says_where_to_connect_and_what_is_signed(
    url: str, host: str, port: int, authority: str, signed: str
) -> None:
    address = Address.of(url)
    assert (address.host, address.port, address.authority) == (host, port, authority)
    assert address.signed_authority == signed
    assert address.tls == url.startswith("https")
    assert Address.of(address.url) == address


def test_a_unix_socket_stands_for_host_and_port() -> None:
    assert Address.of("http://localhost", "/run/openred.sock").unix_socket == "/run/openred.sock"


@pytest.mark.parametrize(
    "url",
    [
        *("", "directory.example:8000", "ftp://a", "http://", "http://a/b", "http://a?b", "http://a#b"),
        *("http://u:p@a", "http://a:70000", "http://a:x", "http://[::1", "http://[::g]", "http://a b"),
        "http://bücher.example",
        *("http://a..b", "http://.a", "http://..", f"http://{'a' * 64}.b", f"http://{'a.' * 127}a"),
    ],
)
def test_what_is_no_url_of_a_directory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not where a directory is; allowed is"):
        Address.of(url)
