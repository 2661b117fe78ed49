#!/usr/bin/env python3
"""Lints openapi.yaml: references, operations, error codes, keywords, examples.

usage: lint-openapi.py [openapi.yaml [daemon/base/err.h]]; needs python3-yaml. The validator here knows the
same keywords as tests/lib/openapi.c and is written apart from it on purpose: each checks the other.
"""
import re
import sys

import yaml

METHODS = {"get", "head", "put", "post", "patch", "delete"}
ANNOTATIONS = {"description", "example", "default", "format", "title"}
KEYWORDS = ANNOTATIONS | {
    "$ref", "type", "enum", "const", "pattern", "minLength", "maxLength", "minimum", "maximum", "items",
    "minItems", "maxItems", "properties", "required", "additionalProperties", "unevaluatedProperties",
    "maxProperties", "allOf", "oneOf"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int}

problems = []


def problem(where, text):
    problems.append(f"{where}: {text}")


class Document:
    def __init__(self, path):
        with open(path, encoding="utf-8") as stream:
            self.root = yaml.load(stream, Loader=StrictLoader)
        self.used = set()

    def resolve(self, ref, where):
        node = self.root
        for part in ref.removeprefix("#/").split("/"):
            if not isinstance(node, dict) or part not in node:
                problem(where, f"reference {ref} leads nowhere")
                return {}
            node = node[part]
        self.used.add(ref)
        return node

    def deref(self, node, where):
        return self.resolve(node["$ref"], where) if isinstance(node, dict) and "$ref" in node else node


class StrictLoader(yaml.SafeLoader):
    """Refuses duplicate keys and leaves times alone."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in {k for k in keys if keys.count(k) > 1}:
            problem(f"line {node.start_mark.line + 1}", f"key {key!r} twice")
        return super().construct_mapping(node, deep)


StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in pairs if tag != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()}


def walk(node, where=""):
    yield where, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from walk(value, f"{where}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk(value, f"{where}/{index}")


def is_type(value, name):
    if name == "integer" and isinstance(value, bool):
        return False
    return isinstance(value, TYPES[name])


def check(doc, schema, value, where, errors):
    """The members of `value` that the schema speaks of; what is wrong goes to `errors`."""
    seen = set()
    if "$ref" in schema:
        seen |= check(doc, doc.resolve(schema["$ref"], where), value, where, errors)
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(is_type(value, t) for t in types):
        errors.append(f"{where}: {value!r} is none of {types}")
        return seen
    if "enum" in schema and value not in schema["enum"] or "const" in schema and value != schema["const"]:
        errors.append(f"{where}: {value!r} is not one of the values")
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            errors.append(f"{where}: {value!r} does not match {schema['pattern']}")
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1 << 62):
            errors.append(f"{where}: length")
    if isinstance(value, int) and not isinstance(value, bool):
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            errors.append(f"{where}: {value} is out of range")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 1 << 62):
            errors.append(f"{where}: number of items")
        for index, item in enumerate(value):
            check(doc, schema.get("items", {}), item, f"{where}/{index}", errors)
    for part in schema.get("allOf", []):
        seen |= check(doc, part, value, where, errors)
    if "oneOf" in schema:
        attempts = []
        for part in schema["oneOf"]:
            bad = []
            attempts.append((bad, check(doc, part, value, where, bad)))
        fitting = [names for bad, names in attempts if not bad]
        if len(fitting) != 1:
            errors.append(f"{where}: fits {len(fitting)} of oneOf: {[bad for bad, _ in attempts]}")
        else:
            seen |= fitting[0]
    if isinstance(value, dict):
        seen |= check_members(doc, schema, value, where, errors, seen)
    return seen


def check_members(doc, schema, value, where, errors, seen):
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            errors.append(f"{where}: '{name}' is missing")
    if len(value) > schema.get("maxProperties", 1 << 62):
        errors.append(f"{where}: too many members")
    spoken = seen | (set(properties) & set(value))
    for name, member in value.items():
        if name in properties:
            check(doc, properties[name], member, f"{where}/{name}", errors)
        elif schema.get("additionalProperties") is False:
            errors.append(f"{where}: '{name}' is not known")
        elif isinstance(schema.get("additionalProperties"), dict):
            check(doc, schema["additionalProperties"], member, f"{where}/{name}", errors)
            spoken.add(name)
        elif schema.get("unevaluatedProperties") is False and name not in spoken:
            errors.append(f"{where}: '{name}' is not known")
    return spoken


def lint_schema(doc, schema, where):
    """Only keywords that both validators know, patterns that POSIX and ECMA read alike, true examples."""
    if isinstance(schema, bool):
        return
    for word in set(schema) - KEYWORDS:
        if not word.startswith("x-"):
            problem(where, f"keyword '{word}' is not one of the subset")
    if "pattern" in schema and re.search(r"\\[a-zA-Z]|\(\?", schema["pattern"]):
        problem(where, "pattern goes beyond POSIX extended")
    for name in schema.get("required", []):
        if "properties" in schema and name not in schema["properties"] and "additionalProperties" in schema:
            problem(where, f"required member '{name}' is not described")
    if schema.get("type") == "object" and "properties" in schema:
        closed = {"additionalProperties", "unevaluatedProperties"} & set(schema)
        if not closed and not where.endswith(("Fields", "Details")):
            problem(where, "an object that is not closed")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            lint_schema(doc, schema[key], f"{where}/{key}")
    for key in ("allOf", "oneOf"):
        for index, part in enumerate(schema.get(key, [])):
            lint_schema(doc, part, f"{where}/{key}/{index}")
    for name, part in schema.get("properties", {}).items():
        lint_schema(doc, part, f"{where}/properties/{name}")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            problem(where, f"'{name}' is not lower_snake_case")
    for key in ("example", "default"):
        if key in schema:
            errors = []
            check(doc, schema, schema[key], f"{where}/{key}", errors)
            problems.extend(errors)


def lint_response(doc, response, where):
    response = doc.deref(response, where)
    headers = response.get("headers", {})
    for name in ("Server", "X-Request-Id"):
        if name not in headers:
            problem(where, f"the header {name} is missing")
    for name, header in headers.items():
        lint_schema(doc, doc.deref(header, where).get("schema", {}), f"{where}/{name}")
    for media in response.get("content", {}).values():
        lint_schema(doc, media.get("schema", {}), where)
    return headers


def lint_operation(doc, path, method, shared, op, ids):
    where = f"{method.upper()} {path}"
    codes = doc.root["x-error-codes"]
    for key in ("operationId", "tags", "summary", "responses", "x-codes"):
        if key not in op:
            problem(where, f"no {key}")
    if op.get("operationId") in ids:
        problem(where, f"operationId {op['operationId']} twice")
    ids.add(op.get("operationId"))
    if op.get("tags", [""])[0] not in {tag["name"] for tag in doc.root["tags"]}:
        problem(where, "a tag that is not declared")
    parameters = [doc.deref(p, where) for p in shared + op.get("parameters", [])]
    names = [(p["in"], p["name"]) for p in parameters]
    for name in {n for n in names if names.count(n) > 1}:
        problem(where, f"parameter {name} twice")
    for parameter in parameters:
        lint_schema(doc, parameter["schema"], f"{where} {parameter['name']}")
        if not parameter.get("description"):
            problem(where, f"parameter {parameter['name']} has no description")
    in_path = {name for place, name in names if place == "path"}
    if in_path != set(re.findall(r"\{(\w+)\}", path)):
        problem(where, "the path's parameters are not those of the template")
    for code in op.get("x-codes", []) + doc.root["x-common-codes"]:
        if code not in codes:
            problem(where, f"unknown code {code}")
        elif str(codes[code]["status"]) not in op["responses"]:
            problem(where, f"no response for {code} ({codes[code]['status']})")
    told = {str(codes[c]["status"]) for c in op.get("x-codes", []) + doc.root["x-common-codes"] if c in codes}
    for status, response in op.get("responses", {}).items():
        if status >= "400" and status not in told:
            problem(where, f"response {status} without a code in x-codes")
        headers = lint_response(doc, response, f"{where} {status}")
        if (status in ("201", "202")) != ("Location" in headers):
            problem(where, f"{status}: 201 and 202 go with Location, and nothing else does")
    for media in op.get("requestBody", {}).get("content", {}).values():
        lint_schema(doc, media.get("schema", {}), where)


def lint_codes(doc, header):
    with open(header, encoding="utf-8") as stream:
        table = re.findall(r'X\(\w+,\s*"(\w+)",\s*(\d+),\s*"([^"]*)"\)', stream.read())
    there = {code: (int(status), text) for code, status, text in table}
    here = {code: (v["status"], v["description"]) for code, v in doc.root["x-error-codes"].items()}
    for code in sorted(set(there) | set(here)):
        if there.get(code) != here.get(code):
            problem(header, f"{code}: {there.get(code)} there, {here.get(code)} in x-error-codes")
    enum = doc.root["components"]["schemas"]["ErrorBody"]["properties"]["code"]["enum"]
    if sorted(enum) != sorted(here):
        problem("ErrorBody", "the enum of codes is not the table's")


def main(argv):
    doc = Document(argv[1] if len(argv) > 1 else "openapi.yaml")
    ids = set()
    if doc.root.get("openapi") != "3.1.0":
        problem("openapi", "is not 3.1.0")
    for where, node in walk(doc.root):
        if isinstance(node, dict) and "$ref" in node:
            doc.resolve(node["$ref"], where)
        if isinstance(node, dict) and None in node:
            problem(where, "a key that is null: quote it")
    for name, schema in doc.root["components"]["schemas"].items():
        lint_schema(doc, schema, name)
    for path, item in doc.root["paths"].items():
        for method, op in item.items():
            if method in METHODS:
                lint_operation(doc, path, method, item.get("parameters", []), op, ids)
            elif method != "parameters":
                problem(path, f"unknown key {method}")
    for response in doc.root["components"]["responses"].values():
        lint_response(doc, response, "components/responses")
    for kind in doc.root["components"]:
        for name in doc.root["components"][kind]:
            if f"#/components/{kind}/{name}" not in doc.used and name not in {"MethodNotAllowed", "Forbidden"}:
                problem(f"components/{kind}/{name}", "is not used")
    lint_codes(doc, argv[2] if len(argv) > 2 else "daemon/base/err.h")
    for line in problems:
        print(f"openapi: {line}", file=sys.stderr)
    print(f"openapi: {len(ids)} operations, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
