"""A request signed for another directory is refused, however ours is spelt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.security.authority import Authorities, signed_authority
from openred_central.security.refusals import ProofError
from tests.support.signed_requests import refusal

OURS = Authorities(
    ["Directory.Example", "192.0.2.1:8000", "[2001:DB8:0::1]:8000", "[::1]:443", "a.example:80"]
)


@pytest.mark.parametrize(
    ("authority", "signed"),
    [
        ("Directory.EXAMPLE", "directory.example"),
        ("directory.example:80", "directory.example"),
        ("directory.example:443", "directory.example"),
        ("directory.example:8080", "directory.example:8080"),
        ("directory.example:4430", "directory.example:4430"),
        ("[2001:DB8::1]:80", "[2001:db8::1]"),
        ("[2001:db8::80]", "[2001:db8::80]"),
    ],
)
def test_a_signed_authority_is_lower_case_without_the_default_ports(authority: str, signed: str) -> None:
    assert signed_authority(authority) == signed


@pytest.mark.parametrize(
    "authority",
    [
        *("directory.example", "DIRECTORY.example:80", "directory.example:443", "192.0.2.1:8000"),
        *("[2001:db8::1]:8000", "[2001:db8:0:0::1]:8000", "[::1]", "[0:0::1]:80", "a.example"),
    ],
)
def test_ours_are_accepted(authority: str) -> None:
    OURS.check(authority)


@pytest.mark.parametrize(
    "authority",
    [
        *("other.example", "directory.example:8000", "directory.example.", "directory.example.other", ""),
        *("192.0.2.1", "192.0.2.1:8001", "2001:db8::1", "[2001:db8::2]:8000", "[::1", "[::g]", "ÿ", "a\nb"),
    ],
)
def test_others_are_refused(authority: str) -> None:
    assert refusal(OURS.check, authority) == "wrong_authority"


def test_the_refusal_names_ours() -> None:
    with pytest.raises(ProofError, match=r"this directory is directory\.example\. .*a proxy has changed"):
        Authorities(["directory.example"]).check("other.example")


def test_without_a_list_any_is_accepted() -> None:
    assert not Authorities()
    assert Authorities(["a"])
    Authorities().check("whatever")


def test_the_list_can_be_shown() -> None:
    assert list(OURS) == ["192.0.2.1:8000", "[2001:db8::1]:8000", "[::1]", "a.example", "directory.example"]


@pytest.mark.parametrize(
    "text", ["", "http://a", "a/b", "a:", "a:b", "a:65536", "[::1", "::1", "[1.2.3.4]", "[g::1]", "a b", "ÿ"]
)
def test_what_is_no_authority_is_refused_in_the_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"authority|IPv6"):
        Authorities([text])


@given(st.text())
def test_any_text_is_accepted_or_a_proof_error(authority: str) -> None:
    try:
        OURS.check(authority)
    except ProofError as error:
        assert error.code == "wrong_authority"  # noqa: PT017
    else:
        assert signed_authority(authority) in OURS
