"""The reference page: an OpenAPI document as one HTML page that loads and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

SCHEMAS = "#/components/schemas/"
# A longer expression is unreadable; the description explains it.
PATTERN_SHOWN_MAX = 60
CHOICES_SHOWN_MAX = 12
KINDS = {"array": "list", "boolean": "true or false", "string": "text"}

Json = Mapping[str, Any]
# `html.escape` would bring a table of all entities into each start.
ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})

STYLE = Path(__file__).with_name("reference.css")


class DescribedOperation(NamedTuple):
    """One operation of the document, with its older paths."""

    method: str
    path: str
    operation: Json
    older: list[str]


def render(document: Json) -> str:
    """Return `document`, an OpenAPI 3.1 document as `openapi.describe` makes it, as HTML."""
    entries = list(_entries(document["paths"]))
    info = document["info"]
    common = _common_codes(entries)
    title = f"{escape(info['title'])} {escape(info['version'])}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}: HTTP API</title><style>{STYLE.read_text('utf-8')}</style></head><body>",
        '<a class="skip" href="#content">To the content</a><div class="frame">',
        *_navigation(document, entries),
        f'<main id="content"><h1>{escape(info["title"])}</h1>',
        f'<p class="soft">HTTP API, version {escape(info["version"])}. {_prose(info["summary"])}</p>',
        *(f"<p>{_prose(paragraph)}</p>" for paragraph in info["description"].split("\n\n")),
        '<p>For programs: <a href="/openapi.json">OpenAPI ',
        f"{escape(document['openapi'])}</a>.</p>",
        *_proofs(document["components"]["securitySchemes"]),
        *_operations(document["tags"], entries, common, document["x-problems"]),
        *_problems(document["x-problems"], common, document["x-problems-elsewhere"]),
        *_schemas(document["components"]["schemas"]),
        "</main></div></body></html>\n",
    ]
    return "".join(parts)


def _entries(paths: Json) -> Iterator[DescribedOperation]:
    """Yield the operations; older paths are merged into them."""
    older: dict[str, list[str]] = {}
    for path, item in paths.items():
        for operation in item.values():
            if operation.get("deprecated"):
                older.setdefault(operation["operationId"].partition("Older")[0], []).append(path)
    for path, item in paths.items():
        for method, operation in item.items():
            if not operation.get("deprecated"):
                yield DescribedOperation(method, path, operation, older.get(operation["operationId"], []))


def _navigation(document: Json, entries: list[DescribedOperation]) -> Iterator[str]:
    yield '<nav aria-label="Contents">'
    for tag in document["tags"]:
        yield f"<h4>{escape(tag['name'])}</h4><ul>"
        for entry in _tagged(entries, tag["name"]):
            yield f'<li><a href="#{_anchor(entry)}">{_method(entry.method)}'
            yield f'<span class="path">{_breakable(entry.path)}</span></a></li>'
        yield "</ul>"
    yield '<h4>More</h4><ul><li><a href="#proofs">Proofs</a></li>'
    yield '<li><a href="#errors">Errors</a></li><li><a href="#schemas">Objects</a></li></ul></nav>'


def _proofs(schemes: Json) -> Iterator[str]:
    yield '<h2 id="proofs">Proofs</h2><table>'
    for name, scheme in schemes.items():
        yield f'<tr id="proof-{escape(name)}"><th><code>{escape(name)}</code></th>'
        yield f"<td>{_prose(scheme['description'])}</td></tr>"
    yield "</table>"


def _operations(
    tags: Iterable[Json], entries: list[DescribedOperation], common: set[str], problems: Json
) -> Iterator[str]:
    for tag in tags:
        yield f"<h2>{escape(tag['name'])}</h2><p class='soft'>{_prose(tag['description'])}</p>"
        for entry in _tagged(entries, tag["name"]):
            yield from _card(entry, common, problems)


def _card(entry: DescribedOperation, common: set[str], problems: Json) -> Iterator[str]:
    operation = entry.operation
    yield f'<section class="card" id="{_anchor(entry)}"><h3>{_method(entry.method)}'
    yield f'<span class="path">{_breakable(entry.path)}</span></h3>'
    yield f'<p class="summary">{_prose(operation["summary"])}</p><p>{_prose(operation["description"])}</p>'
    for sample in operation.get("x-codeSamples", ()):
        yield f"<pre><code>{escape(sample['source'])}</code></pre>"
    if entry.older:
        paths = ", ".join(f"<code>{escape(path)}</code>" for path in entry.older)
        yield f'<p class="soft">Older path: {paths}</p>'
    if "security" in operation:
        ways = [_proof(way) for way in operation["security"]]
        yield f'<p class="soft">Proof: {" or ".join(ways)}</p>'
    for place, heading in (("path", "In the path"), ("query", "In the query"), ("header", "In the header")):
        rows = [
            _row(one["name"], one["schema"], one.get("required"), one.get("deprecated"), one["description"])
            for one in operation["parameters"]
            if one["in"] == place
        ]
        if rows:
            yield f"<h4>{heading}</h4><table>{''.join(rows)}</table>"
    if "requestBody" in operation:
        ((_, content),) = operation["requestBody"]["content"].items()
        needed = "" if operation["requestBody"]["required"] else " (optional)"
        yield f"<h4>JSON body{needed}</h4>"
        yield from _members(content["schema"])
    yield "<h4>Answers</h4><table>"
    for status, response in operation["responses"].items():
        yield from _answer(status, response, common, problems)
    yield '</table><p class="soft">And <a href="#errors">the errors of any request</a>.</p></section>'


def _answer(status: str, response: Json, common: set[str], problems: Json) -> Iterator[str]:
    """Yield the rows of one status: the reply, and each error that is not common to all requests."""
    codes = _codes(response)
    kind = "ok" if status < "400" else "no"
    successes = {
        media: content["schema"]
        for media, content in response.get("content", {}).items()
        if "problem" not in media
    }
    if successes or not codes:
        text = _prose(response["description"].partition("\n\n")[0])
        shapes = "".join(f" {_kind(schema)}" for schema in successes.values())
        yield f'<tr><th class="status {kind}">{status}</th><td>{text}{shapes}</td></tr>'
    for code in codes:
        if code not in common:
            yield f'<tr><th class="status {kind}">{status}</th>'
            yield f"<td><code>{escape(code)}</code> {_prose(problems[code]['when'])}</td></tr>"


def _problems(problems: Json, common: set[str], elsewhere: Iterable[str]) -> Iterator[str]:
    yield '<h2 id="errors">Errors</h2><p>Every error is a '
    yield f"{_kind({'$ref': SCHEMAS + 'Problem'})}. Any request may get these; "
    yield "each endpoint lists its own.</p>"
    yield '<div class="card"><table>'
    for code, problem in problems.items():
        if code in common or code in elsewhere:
            yield f'<tr><th class="status no">{problem["status"]}</th>'
            yield f"<td><code>{escape(code)}</code> {_prose(problem['when'])}</td></tr>"
    yield "</table></div>"


def _schemas(schemas: Json) -> Iterator[str]:
    yield '<h2 id="schemas">Objects</h2>'
    for name, schema in schemas.items():
        yield f'<section class="card" id="schema-{escape(name)}"><h3>{escape(name)}</h3>'
        if "description" in schema:
            yield f"<p>{_prose(schema['description'])}</p>"
        if "properties" in schema:
            yield from _members(schema)
        else:
            yield f"<p>{_kind(schema)}</p>"
        yield "</section>"


def _members(schema: Json) -> Iterator[str]:
    shapes = schema.get("anyOf", [schema])
    members = {name: member for shape in reversed(shapes) for name, member in shape["properties"].items()}
    older = {name for name, member in members.items() if member.get("deprecated")}
    # A member with two spellings is required in its newer one.
    needed = [set(shape.get("required", ())) for shape in shapes]
    required = {name for name in members if all(name in names or names & older for names in needed)}
    yield "<table>"
    for name, member in members.items():
        old = name in older
        yield _row(name, member, name in required and not old, old, member.get("description", ""))
    yield "</table>"


def _row(name: str, schema: Json, required: bool | None, old: bool | None, description: str) -> str:
    mark = (
        ' <span class="must">required</span>'
        if required
        else ' <span class="old">older</span>'
        if old
        else ""
    )
    more = f"<p>{_prose(description)}</p>" if description else ""
    return f"<tr><th><code>{escape(name)}</code>{mark}</th><td>{_kind(schema)}{more}</td></tr>"


def _kind(schema: Json) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(SCHEMAS))
        return f'<a href="#schema-{name}">{name}</a>'
    for word in ("anyOf", "oneOf"):
        if word in schema and "type" not in schema:
            return " or ".join(_kind(one) for one in schema[word])
    if "enum" in schema:
        shown = [f"<code>{escape(str(value))}</code>" for value in schema["enum"][:CHOICES_SHOWN_MAX]]
        return "one of " + " ".join(shown) + (" …" if len(schema["enum"]) > CHOICES_SHOWN_MAX else "")
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>" if schema["const"] != "" else "empty text"
    given = schema.get("type", "anything")
    kinds: list[str] = given if isinstance(given, list) else [given]
    text = " or ".join(KINDS.get(kind, kind) for kind in kinds)
    if "array" in kinds and "object" not in kinds:
        text = f"{text} of {_kind(schema['items'])}"
    return f'<span class="soft">{text}{"".join(_bounds(schema))}</span>'


def _bounds(schema: Json) -> Iterator[str]:
    if "minimum" in schema and "maximum" in schema:
        yield f", {schema['minimum']} to {schema['maximum']}"
    elif "minimum" in schema:
        yield f", at least {schema['minimum']}"
    if "exclusiveMinimum" in schema:
        yield f", above {schema['exclusiveMinimum']}"
    if "maxItems" in schema:
        yield f", at most {schema['maxItems']}"
    if "maxLength" in schema:
        yield f", at most {schema['maxLength']} characters"
    if "format" in schema:
        yield f", {escape(schema['format'])}"
    if 0 < len(schema.get("pattern", "")) <= PATTERN_SHOWN_MAX:
        yield f' <code class="pattern">{escape(schema["pattern"])}</code>'
    if schema.get("examples"):
        yield f", such as <code>{escape(str(schema['examples'][0]))}</code>"


def _codes(response: Json) -> list[str]:
    for media, content in response.get("content", {}).items():
        if "problem" in media:
            codes: list[str] = content["schema"]["allOf"][1]["properties"]["error"]["enum"]
            return codes
    return []


def _common_codes(entries: list[DescribedOperation]) -> set[str]:
    sets = [
        {code for response in entry.operation["responses"].values() for code in _codes(response)}
        for entry in entries
    ]
    return set.intersection(*sets) if sets else set()


def _tagged(entries: Iterable[DescribedOperation], tag: str) -> list[DescribedOperation]:
    return [entry for entry in entries if tag in entry.operation["tags"]]


def _anchor(entry: DescribedOperation) -> str:
    return escape(str(entry.operation["operationId"]))


def _method(method: str) -> str:
    return f'<span class="method {escape(method)}">{escape(method.upper())}</span>'


def _proof(way: Json) -> str:
    if not way:
        return "none if the node never signed"
    return " and ".join(f'<a href="#proof-{escape(name)}">{escape(name)}</a>' for name in way)


def escape(text: str) -> str:
    """Escape text as HTML."""
    return text.translate(ESCAPES)


def _breakable(path: str) -> str:
    """Escape a path, and allow line breaks behind its slashes."""
    return escape(path).replace("/", "/<wbr>")


def _prose(text: str) -> str:
    """Escape text as HTML, with code between backquotes."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
