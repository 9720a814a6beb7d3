"""The two families of errors."""

from __future__ import annotations

from openred_central.errors import CallerError


def test_a_problem_holds_cause_and_advice() -> None:
    error = CallerError(
        404,
        "node_not_found",
        "There is no node moon-1.",
        suggestion="Register it first: POST /register.",
    )
    assert error.problem() == {
        "type": "urn:openred:problem:node_not_found",
        "title": "Node not found",
        "status": 404,
        "detail": "There is no node moon-1.",
        "error": "node_not_found",
        "message": "There is no node moon-1.",
        "suggestion": "Register it first: POST /register.",
    }


def test_a_problem_names_every_wrong_field() -> None:
    fields = {"port": "must be 1 to 65535", "address": "is missing"}
    assert (
        CallerError(400, "bad_request", "Two fields are wrong.", fields=fields).problem()["fields"] == fields
    )


def test_a_problem_leaves_out_empty_members() -> None:
    problem = CallerError(400, "bad_request", "The body is no JSON.", fields={}).problem()
    assert "suggestion" not in problem
    assert "fields" not in problem


def test_a_registered_problem_type_brings_its_own_members() -> None:
    members = {"violated-policies": ["register"]}
    problem_type = "https://iana.org/assignments/http-problem-types#quota-exceeded"
    problem = CallerError(
        429, "rate_limited", "Too many.", problem_type=problem_type, members=members
    ).problem()
    assert (problem["type"], problem["error"]) == (problem_type, "rate_limited")
    assert problem["violated-policies"] == ["register"]


def test_changing_a_problem_document_does_not_change_the_error() -> None:
    error = CallerError(400, "bad_request", "One field is wrong.", fields={"port": "is missing"})
    error.problem()["fields"].clear()
    assert error.fields == {"port": "is missing"}


def test_error_lines_hold_status_code_and_message() -> None:
    assert str(CallerError(410, "node_dead", "It is dead.")) == "410 node_dead: It is dead."
