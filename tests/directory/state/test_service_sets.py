"""Sets of services, each kept once."""

from __future__ import annotations

import pytest

from openred_central.directory.state.service_sets import ServiceSets
from openred_central.errors import InternalBug


def test_equal_sets_are_kept_once_and_regions_apart() -> None:
    sets = ServiceSets()
    first = sets.acquire("chat,mail", "eu")
    assert sets.acquire("chat,mail", "eu") == first
    assert sets.acquire("chat,mail", "us") != first
    assert len(sets) == 2
    assert (sets[first].names, sets[first].region, sets[first].nodes) == ({"chat", "mail"}, "eu", 2)


def test_no_services_are_a_set_too() -> None:
    sets = ServiceSets()
    assert sets[sets.acquire("", "")].names == frozenset()


def test_a_set_goes_with_its_last_node() -> None:
    sets = ServiceSets()
    number = sets.acquire("chat", "")
    sets.acquire("chat", "")
    sets.release(number)
    assert len(sets) == 1
    sets.release(number)
    assert len(sets) == 0
    with pytest.raises(InternalBug, match="not in use"):
        sets[number]
    assert sets.acquire("mail", "") == number


def test_many_nodes_at_once_are_counted_like_one_by_one() -> None:
    sets = ServiceSets()
    mail = sets.acquire("mail", "")
    numbers = sets.acquire_many([b"mail", b"chat", b"mail"], [b"", "ü".encode(), b""])
    assert numbers == [mail, sets.acquire("chat", "ü"), mail]
    assert (sets[mail].nodes, sets[numbers[1]].nodes, len(sets)) == (3, 2, 2)


def test_many_of_one_region_are_counted_like_one_by_one() -> None:
    sets = ServiceSets()
    first = sets.acquire("mail", "ü")
    numbers = sets.acquire_many([b"chat", b"mail", b"chat"], ["ü".encode()] * 3)
    assert numbers == [numbers[2], first, numbers[2]]
    assert [(sets[number].services, sets[number].region, sets[number].nodes) for number in numbers[:2]] == [
        ("chat", "ü", 2),
        ("mail", "ü", 2),
    ]
