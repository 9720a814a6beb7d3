"""Which addresses a caller may register: in strict mode only addresses of the caller's own network."""

from __future__ import annotations

from ...directory.state.node import Profile
from ...errors import CallerError
from ...limits.origins import Origin, is_at, may_be_at


def check_addresses(origin: Origin, profile: Profile, *, strict: bool) -> None:
    """Raise `CallerError` 400 ``bad_request`` for an address outside the caller's network, if `strict`.

    Such an address may be a victim's. Names are not looked up. `profile` holds the endpoints that the request
    names.
    """
    if not strict or origin.exempt:
        return
    named = [("address", "", profile.address)]
    named += [
        ("addresses", f"[{place}] ", endpoint.address) for place, endpoint in enumerate(profile.addresses)
    ]
    wrong = [each for each in named if not may_be_at(origin, each[2])]
    if wrong:
        rule = f"has to be in the network that the request came from, as {origin.address} is"
        raise CallerError(
            400,
            "bad_request",
            f"The request came from {origin.address}, and registers {wrong[0][2]} in another network.",
            suggestion="Register from the network of the address, or register a DNS name.",
            # If one field has several wrong addresses, the reply names the first.
            fields={name: f"{place}{rule}" for name, place, _ in reversed(wrong)},
        )


def is_observed(origin: Origin, profile: Profile) -> bool:
    """Return whether the caller was seen at the one address of all endpoints of `profile`."""
    return is_at(origin, profile.address) and all(
        is_at(origin, endpoint.address) for endpoint in profile.addresses
    )
