"""Messages of requests that are handed on: whole in any pieces, as they came, and nothing else is one."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openred_central.cluster.asking import (
    MESSAGE_BYTES_MAX,
    BadMessage,
    Message,
    Splitter,
    pack_answer,
    pack_request,
    pack_sign,
    read_answer,
    read_request,
)
from openred_central.micro_engine.wire.messages import Headers, Request, Response

LATIN_1 = st.text(st.characters(max_codepoint=0xFF), max_size=20)
FIELDS = st.lists(st.tuples(LATIN_1, LATIN_1), max_size=4).map(tuple)
NUMBERS = st.integers(0, 2**64 - 1)
REQUESTS = st.builds(
    Request,
    st.sampled_from(["POST", "DELETE"]),
    LATIN_1,
    LATIN_1,
    st.sampled_from([10, 11]),
    LATIN_1,
    FIELDS.map(lambda fields: Headers(tuple((f"x-{name}", value) for name, value in fields))),
    body=st.binary(max_size=300),
)
RESPONSES = st.builds(
    Response,
    st.binary(max_size=300),
    status=st.integers(200, 599),
    content_type=st.none() | LATIN_1,
    headers=FIELDS,
)


def only(data: bytes) -> Message:
    splitter = Splitter()
    splitter.feed(data)
    message = splitter.next()
    assert message is not None
    assert splitter.next() is None
    return message


@given(NUMBERS, REQUESTS, LATIN_1)
def test_a_request_is_read_as_it_was(number: int, request: Request, request_id: str) -> None:
    message = only(pack_request(number, request, request_id, ""))
    read = read_request(message, "peer")
    assert message.number == number
    for name in ("method", "path", "query", "version", "authority", "body"):
        assert getattr(read, name) == getattr(request, name)
    assert read.headers.fields == request.headers.fields
    assert (read.id, read.peer, read.content_length) == (request_id, "peer", len(request.body))


@given(NUMBERS, RESPONSES)
def test_an_answer_is_read_as_it_was(number: int, response: Response) -> None:
    message = only(pack_answer(number, response))
    read = read_answer(message)
    assert message.number == number
    assert read is not None
    assert (read.status, read.content_type) == (response.status, response.content_type)
    assert (read.body, read.headers) == (response.body, response.headers)


@given(NUMBERS)
def test_a_sign_is_a_number_alone(number: int) -> None:
    message = only(pack_sign(number))
    assert message == Message(number, b"", b"")
    assert read_answer(message) is None


@given(st.lists(RESPONSES, max_size=6), st.lists(st.integers(0, 3_000), max_size=12))
def test_messages_are_the_same_in_any_pieces(responses: list[Response], cuts: list[int]) -> None:
    packed = [pack_answer(number, response) for number, response in enumerate(responses)]
    data, splitter, found = b"".join(packed), Splitter(), list[Message]()
    ends = [*sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in zip([0, *ends], ends, strict=False):
        splitter.feed(data[start:end])
        while (message := splitter.next()) is not None:
            found.append(message)
    assert found == [only(each) for each in packed]


@pytest.mark.parametrize("sizes", [(3, 1, 4), (MESSAGE_BYTES_MAX + 1, 1, 4), (2**32 - 1, 1, 4)])
def test_sizes_that_do_not_fit_are_no_message(sizes: tuple[int, int, int]) -> None:
    splitter = Splitter()
    splitter.feed(struct.pack("<IQI", *sizes))
    with pytest.raises(BadMessage, match=str(sizes[0])):
        splitter.next()


@pytest.mark.parametrize(
    "head", [b"{", b"{}", b"[]", b"7", b'["GET","/","",11,"","id",3]', b'["GET","/","",11,"","id",[["a"]]]']
)
def test_a_head_of_another_form_is_no_request(head: bytes) -> None:
    with pytest.raises(BadMessage):
        read_request(Message(1, head, b""), "")


@pytest.mark.parametrize("head", [b"[", b"[200]", b'[200,"text/plain",[7]]'])
def test_a_head_of_another_form_is_no_answer(head: bytes) -> None:
    with pytest.raises(BadMessage):
        read_answer(Message(1, head, b""))
