"""The documentation page: the OpenAPI document for people to read. It loads nothing and runs nothing."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'"}

_METHODS = ("get", "post", "put", "patch", "delete")

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ info.title }} API</title>
<style>
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent) }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1.5rem }
h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line) }
code, summary .path { font-family: ui-monospace, monospace; font-size: .93em }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: 0 1rem }
summary { cursor: pointer; padding: .5rem 0 }
.method { display: inline-block; min-width: 4.2rem; font-weight: 700; text-transform: uppercase; font-size: .8em }
.quiet { opacity: .7 }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-top: 1px solid var(--line) }
th { font-weight: 600; border: 0 }
</style>
</head>
<body>
<h1>{{ info.title }} API <span class="quiet">{{ info.version }}</span></h1>
<p>{{ info.description }}</p>
<p>The same for machines: <a href="/openapi.json">/openapi.json</a></p>
{% macro table(rows) %}
<table><tr><th>name</th><th>type</th><th></th></tr>
{% for row in rows %}
<tr><td><code>{{ row.name }}</code>{% if row.required %} *{% endif %}</td><td>{{ row.type }}</td>
<td>{{ row.description }}</td></tr>
{% endfor %}</table>
{% endmacro %}
{% for group in groups %}
<h2>{{ group.name }}</h2><p class="quiet">{{ group.description }}</p>
{% for operation in group.operations %}
<details>
<summary><span class="method">{{ operation.method }}</span> <span class="path">{{ operation.path }}</span>
<span class="quiet">{{ operation.summary }}</span></summary>
{% if operation.description %}<p>{{ operation.description }}</p>{% endif %}
{% if operation.parameters %}<h4>Parameters</h4>{{ table(operation.parameters) }}{% endif %}
{% if operation.body %}<h4>Body</h4>{{ table(operation.body) }}{% endif %}
{% for answer in operation.answers %}
<h4>{{ answer.status }} <span class="quiet">{{ answer.description }}</span></h4>
{% if answer.fields %}{{ table(answer.fields) }}{% endif %}
{% endfor %}
</details>
{% endfor %}{% endfor %}
</body>
</html>
"""


def page(document: Mapping[str, Any]) -> str:
    """Return the page for an OpenAPI document."""
    operations = []
    for path, methods in document["paths"].items():
        for method, operation in ((method, methods[method]) for method in _METHODS if method in methods):
            parameters = [*methods.get("parameters", []), *operation.get("parameters", [])]
            shown = {
                **operation,
                "path": path,
                "method": method,
                "parameters": [_row(p["name"], p["schema"], p) for p in parameters],
                "body": _fields(document, operation.get("requestBody", {})),
                "answers": [
                    {**answer, "status": status, "fields": _fields(document, answer)}
                    for status, answer in operation["responses"].items()
                    if status[0] == "2"
                ],
            }
            operations.append(shown)
    groups = [
        {**tag, "operations": [entry for entry in operations if tag["name"] in entry["tags"]]}
        for tag in document["tags"]
    ]
    template = Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    return template.render(info=document["info"], groups=groups)


def _fields(document: Mapping[str, Any], part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of a body, or of the items of a list. Return nothing if the body is not an object."""
    content = part.get("content", {}).get("application/json", {})
    schema = _resolved(document, content.get("schema", {}))
    if "next_cursor" in schema.get("properties", {}):
        schema = _resolved(document, schema["properties"]["items"]["items"])
    required = schema.get("required", [])
    return [
        _row(name, field, {"required": name in required, "description": field.get("description", "")})
        for name, field in schema.get("properties", {}).items()
    ]


def _row(name: str, schema: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    description = about.get("description", "")
    if schema.get("enum"):
        description = f"{description} One of {', '.join(map(str, schema['enum']))}.".strip()
    return {
        "name": name,
        "type": _type(schema),
        "required": about.get("required", False),
        "description": description,
    }


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kinds = schema.get("type", "any")
    word = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    return f"{word} ({schema['format']})" if schema.get("format") else word


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema without a reference. One that has several forms gets the fields of all of them."""
    if "$ref" in schema:
        return _resolved(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    parts = [_resolved(document, part) for part in (*schema.get("allOf", ()), *schema.get("oneOf", ()))]
    if not parts:
        return schema
    properties = {name: field for part in parts for name, field in part.get("properties", {}).items()}
    required = [name for name in properties if all(name in part.get("required", ()) for part in parts)]
    return {"properties": properties, "required": [*required, *schema.get("required", ())]}
