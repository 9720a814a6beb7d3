"""The table of errors: what the code makes and what the documents tell."""

from __future__ import annotations

import re

from jsonschema import Draft202012Validator

from openred_central.api.problems import ALWAYS, ELSEWHERE, FOR_OPERATORS, PROBLEM, PROBLEMS, WITH_A_BODY
from openred_central.errors import CallerError
from tests.house.test_docs import all_codes
from tests.support.project import documents, sources

ALL = PROBLEMS | FOR_OPERATORS


def test_the_table_has_exactly_the_errors_of_the_code() -> None:
    assert ALL.keys() == all_codes()
    assert not PROBLEMS.keys() & FOR_OPERATORS.keys()


def test_the_groups_are_of_known_errors() -> None:
    assert {*ALWAYS, *ELSEWHERE, *WITH_A_BODY} <= PROBLEMS.keys()


def test_the_table_has_the_status_of_each_error() -> None:
    made = set()
    for source in sources().values():
        made |= set(re.findall(r'Error\(\s*([45]\d\d),\s*"([a-z_]+)"', source))
    assert len(made) > 20
    assert {(ALL[code].status, code) for _, code in made} == {(int(status), code) for status, code in made}


def test_the_documents_give_the_status_of_each_error() -> None:
    table = documents()["openred_central/docs/http-api.md"]
    for code, problem in ALL.items():
        assert f"| `{code}` | {problem.status} |" in table


def test_a_problem_document_is_as_described() -> None:
    error = CallerError(
        400, "bad_request", "It is wrong.", suggestion="Fix it.", fields={"port": "has to be a number"}
    )
    Draft202012Validator(PROBLEM).validate(error.problem())
