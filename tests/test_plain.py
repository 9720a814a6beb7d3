"""Plain classes do what those of `dataclasses` do, as far as they go."""

from __future__ import annotations

import dataclasses
import pickle
import typing
from typing import Any

import pytest

from openred_central.plain import NamedTuple, field, fields, plain, replace, values


@plain(frozen=True)
class Limit:
    """A limit, and how often it was met."""

    name: str
    most: int = 3
    met: list[int] = field(default_factory=list)
    text: str = field(init=False)

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"most is {self.most}, allowed is 1 or more")
        object.__setattr__(self, "text", f"{self.name}: {self.most}")


@dataclasses.dataclass(frozen=True, slots=True)
class Twin:
    """The same by other means."""

    name: str
    most: int = 3
    met: list[int] = dataclasses.field(default_factory=list)
    text: str = dataclasses.field(init=False)

    __post_init__ = Limit.__post_init__


@plain()
class Count:
    """What changes."""

    number: int = 0


@plain(frozen=True, kw_only=True)
class Base:
    """Others are made of it."""

    one: int = field(default=1, metadata={"meaning": "the first"})


@plain(frozen=True, kw_only=True)
class More(Base):
    """One of them."""

    two: int


class Pair(NamedTuple):
    """Two of them."""

    first: Undefined  # type: ignore[name-defined]  # noqa: F821
    second: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Of the second."""
        return len(self.second)

    @classmethod
    def of(cls, *numbers: int) -> Pair:
        return cls(0, numbers)


class TypedPair(typing.NamedTuple):
    """Two of them."""

    first: Undefined  # type: ignore[name-defined]  # noqa: F821
    second: tuple[int, ...] = ()

    length = Pair.length
    of = Pair.of


GIVEN: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("a",), {}),
    (("a", 2), {}),
    (("a",), {"most": 2}),
    ((), {"met": [1], "name": "a"}),
    (("a", 2, [1]), {}),
    ((), {}),
    (("a", 2, [1], "text"), {}),
    (("a",), {"name": "b"}),
    (("a",), {"fewest": 2}),
    ((), {"most": 1}),
    ((), {"text": "a"}),
    (("a", 0), {}),
]


def outcome(cls: type[Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    try:
        made = cls(*args, **named)
    except (TypeError, ValueError) as error:
        return type(error)
    return made.name, made.most, made.met, made.text, repr(made).partition("(")[2]


@pytest.mark.parametrize(("args", "named"), GIVEN)
def test_an_instance_is_made_of_the_same_values_or_refused_alike(
    args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    assert outcome(Limit, args, named) == outcome(Twin, args, named)


def test_the_error_says_what_was_wrong() -> None:
    with pytest.raises(TypeError, match=r"Limit was given too much or too little: fewest, name$"):
        Limit(most=2, fewest=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Base was given too many values; it has one$"):
        Base(1)  # type: ignore[misc]


def test_each_instance_has_a_default_of_its_own_where_that_is_made() -> None:
    assert Limit("a").met is not Limit("a").met


def test_what_is_frozen_does_not_change() -> None:
    limit = Limit("a")
    for change in (lambda: setattr(limit, "most", 9), lambda: delattr(limit, "most")):
        with pytest.raises(AttributeError, match="most of Limit cannot be changed"):
            change()
    assert limit.most == 3


def test_what_is_not_frozen_changes_and_has_no_hash() -> None:
    count = Count()
    count.number += 1
    assert count == Count(1) != Count()
    with pytest.raises(TypeError, match="unhashable"):
        hash(count)


def test_there_is_no_room_for_what_is_no_field() -> None:
    assert not hasattr(Count(), "__dict__")
    with pytest.raises(AttributeError):
        Count().other = 1  # type: ignore[attr-defined]


def test_equal_values_make_equal_instances_of_one_class() -> None:
    assert Base() == Base(one=1) != Base(one=2)
    assert hash(Base()) == hash(Base(one=1))
    assert Count(1) != Base()


def test_fields_are_inherited_and_stand_first() -> None:
    more = More(two=2)
    assert [each.name for each in fields(More)] == ["one", "two"]
    assert (values(more), values(replace(more, one=5))) == ((1, 2), (5, 2))
    assert fields(more)[0].metadata == {"meaning": "the first"}


def test_a_replacement_is_checked_like_any_other() -> None:
    assert replace(Limit("a"), most=5).text == "a: 5"
    with pytest.raises(ValueError, match="most is 0"):
        replace(Limit("a"), most=0)
    with pytest.raises(TypeError, match="fewest"):
        replace(Limit("a"), fewest=0)


def test_a_named_tuple_is_what_typing_makes() -> None:
    pair = Pair.of(1, 2)
    assert (pair.length, pair._fields, pair._asdict()) == (
        2,
        ("first", "second"),
        {"first": 0, "second": (1, 2)},
    )
    assert (repr(pair), pair, pair._replace(first=5)) == (
        "Pair(first=0, second=(1, 2))",
        (0, (1, 2)),
        (5, (1, 2)),
    )
    names = (
        "_fields",
        "_field_defaults",
        "__doc__",
        "__module__",
        "__slots__",
        "__match_args__",
        "__bases__",
    )
    for name in names:
        assert getattr(Pair, name, None) == getattr(TypedPair, name, None), name
    assert dir(Pair) == [name for name in dir(TypedPair) if name != "__orig_bases__"]
    assert Pair.__annotations__["second"] == "tuple[int, ...]"
    assert Pair.__qualname__ == "Pair"
    assert pickle.loads(pickle.dumps(pair)) == pair
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        Pair()  # type: ignore[call-arg]
