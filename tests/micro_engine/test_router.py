"""Which handler answers which request."""

from __future__ import annotations

import pytest

from openred_central.errors import CallerError
from openred_central.micro_engine.router import Handler, Router
from openred_central.micro_engine.wire.messages import Headers, Request, Response


def handler(count: int = 0) -> Handler:
    async def none(request: Request) -> None: ...
    async def one(request: Request, first: str) -> None: ...
    async def two(request: Request, first: str, second: str) -> None: ...

    return (none, one, two)[count]


def router(*routes: tuple[str, str]) -> Router:
    made = Router(1000)
    for methods, template in routes:
        made.add(template, methods.split(), handler(template.count("{")))
    return made


def refused(made: Router, request: Request) -> CallerError:
    with pytest.raises(CallerError) as caught:
        made.admit(request)
    return caught.value


def test_literal_path_is_found() -> None:
    route, parameters = router(("GET", "/"), ("GET", "/nodes")).admit(Request("GET", "/nodes"))
    assert (route.template, parameters) == ("/nodes", ())


@pytest.mark.parametrize(
    ("path", "template", "parameters"),
    [
        ("/nodes/abc", "/nodes/{id}", ("abc",)),
        ("/nodes/a%2Fb", "/nodes/{id}", ("a/b",)),
        ("/nodes/j%C3%B6", "/nodes/{id}", ("jö",)),
        ("/n%6Fdes/abc", "/nodes/{id}", ("abc",)),
        ("/nodes/self", "/nodes/self", ()),
        ("/nodes/%73elf", "/nodes/self", ()),
        ("/nodes/self/keys", "/nodes/{id}/keys", ("self",)),
        ("/nodes/abc/keys/k", "/nodes/{id}/keys/{key}", ("abc", "k")),
        ("/nodes/..", "/nodes/{id}", ("..",)),
    ],
)
def test_parameters_are_decoded_and_literal_segments_go_first(
    path: str, template: str, parameters: tuple[str, ...]
) -> None:
    made = router(
        ("GET", "/nodes/{id}"),
        ("GET", "/nodes/self"),
        ("GET", "/nodes/{id}/keys"),
        ("GET", "/nodes/{id}/keys/{key}"),
    )
    route, found = made.admit(Request("GET", path))
    assert (route.template, found) == (template, parameters)


def test_earlier_literal_segment_goes_before_a_later_one() -> None:
    made = router(("GET", "/{kind}/self"), ("GET", "/nodes/{id}"))
    assert made.admit(Request("GET", "/nodes/self"))[0].template == "/nodes/{id}"
    assert made.admit(Request("GET", "/n%6Fdes/self"))[0].template == "/nodes/{id}"
    assert made.admit(Request("GET", "/keys/self"))[0].template == "/{kind}/self"


@pytest.mark.parametrize("path", ["/", "/node", "/nodes", "/nodes/", "/nodes/a/b", "//nodes", "/Nodes/a"])
def test_path_that_no_template_matches_is_not_found(path: str) -> None:
    assert refused(router(("GET", "/nodes/{id}")), Request("GET", path)).status == 404


def test_path_with_too_many_segments_is_not_decoded() -> None:
    made = router(("GET", "/nodes/{id}"))
    assert refused(made, Request("GET", "/nodes/%zz/b")).status == 404
    assert made.opens_refusal(Request("GET", "/nodes/%zz/b"))


@pytest.mark.parametrize("path", ["/nodes/%", "/nodes/%zz", "/nodes/%ff"])
def test_undecodable_path_keeps_the_connection(path: str) -> None:
    error = refused(router(("GET", "/nodes/{id}")), Request("GET", path))
    assert (error.status, error.close) == (400, False)


def test_405_names_the_methods_allowed() -> None:
    made = router(("GET", "/nodes"), ("POST", "/register"))
    error = refused(made, Request("POST", "/nodes"))
    assert (error.status, error.headers) == (405, (("Allow", "GET, HEAD, OPTIONS"),))


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "QUERY", "TRACE"])
def test_known_method_without_a_route_is_a_405(method: str) -> None:
    made = router(("GET", "/nodes"))
    error = refused(made, Request(method, "/nodes"))
    assert (error.status, error.headers) == (405, (("Allow", "GET, HEAD, OPTIONS"),))
    assert refused(made, Request(method, "/nowhere")).status == 404


@pytest.mark.parametrize("method", ["get", "BREW", "PROPFIND"])
@pytest.mark.parametrize("path", ["/nodes", "/nodes/a", "/nowhere"])
def test_unknown_method_is_a_501(method: str, path: str) -> None:
    made = router(("GET", "/nodes"), ("GET", "/nodes/{id}"))
    assert refused(made, Request(method, path)).status == 501


def test_head_works_wherever_get_does() -> None:
    assert router(("GET", "/nodes")).admit(Request("HEAD", "/nodes"))[0].template == "/nodes"


def test_head_can_have_its_own_handler() -> None:
    made = Router(1000)
    own = handler()
    made.add("/nodes", ["GET"], handler())
    made.add("/nodes", ["HEAD"], own)
    assert made.admit(Request("HEAD", "/nodes"))[0].handler is own


def options(made: Router, path: str, *fields: tuple[str, str]) -> dict[str, str]:
    route, parameters = made.admit(Request("OPTIONS", path, headers=Headers(fields)))
    with pytest.raises(StopIteration) as done:
        route.handler(Request("OPTIONS", path), *parameters).send(None)
    answer = done.value.value
    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (204, b"")
    return dict(answer.headers)


def test_options_names_the_methods_of_a_path() -> None:
    made = router(("GET POST", "/nodes"), ("DELETE", "/keys"))
    assert options(made, "/nodes") == {"Allow": "GET, HEAD, OPTIONS, POST"}


def test_options_of_the_server_names_all_methods() -> None:
    made = router(("GET POST", "/nodes"), ("DELETE", "/keys"))
    assert options(made, "*") == {"Allow": "DELETE, GET, HEAD, OPTIONS, POST"}


def test_options_of_nothing_is_not_found() -> None:
    assert refused(router(("GET", "/nodes")), Request("OPTIONS", "/nowhere")).status == 404


def test_pages_of_any_origin_may_read_but_not_write() -> None:
    made = router(("GET POST", "/nodes"))
    asked = [("origin", "https://example.org"), ("access-control-request-method", "GET")]
    assert options(made, "/nodes", *asked)["Access-Control-Allow-Origin"] == "*"
    asked[1] = ("access-control-request-method", "POST")
    assert options(made, "/nodes", *asked) == {"Allow": "GET, HEAD, OPTIONS, POST"}


def test_route_may_keep_pages_of_other_origins_out() -> None:
    made = Router(1000)
    made.add("/admin", ["GET"], handler(), cors=False)
    assert "Access-Control-Allow-Origin" not in options(
        made, "/admin", ("access-control-request-method", "GET")
    )


def test_only_reading_is_open_to_pages_of_any_origin() -> None:
    made = router(("GET POST", "/nodes"))
    assert made.admit(Request("GET", "/nodes"))[0].cors
    assert not made.admit(Request("POST", "/nodes"))[0].cors


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_refusals_are_open_where_get_is_or_nothing_is(method: str) -> None:
    made = router(("GET", "/nodes/{id}"), ("POST", "/register"))
    made.add("/admin", ["GET"], handler(), cors=False)
    opened = {
        path: made.opens_refusal(Request(method, path))
        for path in ("/nodes/a", "/nodes/%zz", "/nowhere", "/register", "/admin")
    }
    assert opened == {
        "/nodes/a": True,
        "/nodes/%zz": True,
        "/nowhere": True,
        "/register": False,
        "/admin": False,
    }
    assert not any(made.opens_refusal(Request("POST", path)) for path in opened)


def with_body(content_type: str | None, length: int | None = 5) -> Request:
    fields = () if content_type is None else (("content-type", content_type),)
    return Request("POST", "/register", headers=Headers(fields), content_length=length)


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON", "application/json; charset=utf-8"]
)
@pytest.mark.parametrize("length", [5, None])
def test_json_is_accepted_however_its_type_is_spelt(content_type: str, length: int | None) -> None:
    router(("POST", "/register")).admit(with_body(content_type, length))


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/jsonp", "application/x-json"])
@pytest.mark.parametrize("length", [5, None])
def test_415_names_the_header_to_send(content_type: str | None, length: int | None) -> None:
    error = refused(router(("POST", "/register")), with_body(content_type, length))
    assert (error.status, error.close) == (415, False)
    assert "Content-Type: application/json" in str(error.suggestion)


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x"])
def test_body_with_a_content_coding_is_refused(coding: str) -> None:
    made = router(("POST", "/register"))
    fields = (("content-type", "application/json"), ("content-encoding", coding))
    error = refused(made, Request("POST", "/register", headers=Headers(fields), content_length=5))
    assert (error.status, error.headers) == (415, (("Accept-Encoding", "identity"),))


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_body_with_the_identity_coding_is_accepted(coding: str) -> None:
    fields = (("content-type", "application/json"), ("content-encoding", coding))
    sent = Request("POST", "/register", headers=Headers(fields), content_length=5)
    router(("POST", "/register")).admit(sent)


def test_no_body_needs_no_content_type() -> None:
    router(("POST", "/register")).admit(with_body(None, 0))


def test_announced_length_above_the_limit_is_refused() -> None:
    made = Router(1000)
    made.add("/register", ["POST"], handler(), body_bytes_max=10)
    made.admit(with_body("application/json", 10))
    error = refused(made, with_body("application/json", 11))
    assert (error.status, error.close) == (413, True)


def test_refusal_of_the_parser_goes_first() -> None:
    request = Request("GET", "/", refusal=CallerError(417, "expectation_failed", "no"))
    assert refused(router(("GET", "/")), request).status == 417


@pytest.mark.parametrize(
    "template", ["", "nodes", "/no{d}es", "/{}", "/{a b}", "/nodes%20", "/nodes?x", "/{node", "*"]
)
def test_malformed_template_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"template|parameter"):
        Router(1000).add(template, ["GET"], handler())


def test_taken_route_is_refused() -> None:
    made = router(("GET", "/nodes/{id}"))
    with pytest.raises(ValueError, match="has a handler"):
        made.add("/nodes/{id}", ["GET"], handler(1))
    with pytest.raises(ValueError, match="same paths"):
        made.add("/nodes/{name}", ["POST"], handler(1))


def test_handler_that_does_not_take_the_parameters_is_refused() -> None:
    with pytest.raises(TypeError):
        Router(1000).add("/nodes/{id}", ["GET"], handler(0))


def test_handler_that_is_no_coroutine_function_is_refused() -> None:
    with pytest.raises(TypeError, match="async def"):
        Router(1000).add("/", ["GET"], lambda request: None)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("method", ["get", "", "G T"])
def test_malformed_method_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match="method"):
        Router(1000).add("/", [method], handler())


def test_body_limit_of_the_engine_holds_for_every_route() -> None:
    made = Router(10)
    made.add("/register", ["POST"], handler(), body_bytes_max=1000)
    assert refused(made, with_body("application/json", 11)).status == 413
