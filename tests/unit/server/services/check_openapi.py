"""Holds docs/openapi.yaml against the server's route table, against the codes of its refusals, which PROTOCOL.md lists, too, and
against itself.

usage: check_openapi.py LIST_ROUTES OPENAPI_YAML
"""

import re
import subprocess
import sys
from pathlib import Path

import yaml

METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}


def references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document, ref):
    node = document
    for part in ref.removeprefix("#/").split("/"):
        node = node[part]
    return node


def credential(document, operation):
    """What the router asks for: none, identity, or whatever the handler looks at."""
    schemes = [sorted(s) for s in operation.get("security", document["security"])]
    if not schemes:
        return "none"
    return "identity" if schemes == [["identity"]] else "handler"


def check(routes, document):
    described = {}
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            operation = item[method]
            described[method.upper(), path] = (credential(document, operation), operation.get("x-action", "-"))
            parameters = [resolve(document, p["$ref"]) if "$ref" in p else p for p in item.get("parameters", []) + operation.get("parameters", [])]
            named = {p["name"] for p in parameters if p["in"] == "path"}
            if named != set(re.findall(r"{(\w+)}", path)):
                yield f"{method.upper()} {path}: path parameters {sorted(named)} are not those of the path"
            if method in ("post", "put") and credential(document, operation) == "identity" and ("requestBody" in operation) == operation.get("x-no-body", False):
                yield f"{method.upper()} {path}: no requestBody, or one beside x-no-body"
    for route in sorted(routes.keys() | described.keys()):
        if route not in described:
            yield f"{' '.join(route)}: served, not described"
        elif route not in routes:
            yield f"{' '.join(route)}: described, not served"
        elif routes[route] != described[route]:
            yield f"{' '.join(route)}: served with {routes[route]}, described with {described[route]}"
    for ref in set(references(document)):
        try:
            resolve(document, ref)
        except KeyError:
            yield f"{ref}: leads nowhere"


def check_codes(tree, document):
    """A refusal has a status and, behind it, a code, whoever answers it."""
    served = {code for path in (tree / "server").glob("*.c") for code in re.findall(r'\b[45]\d\d, "([a-z-]+)"', path.read_text())}
    described = set(document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"])
    table = (tree / "PROTOCOL.md").read_text().partition("| code | status | meaning |")[2].partition("\n\n")[0]
    for where, codes in ("docs/openapi.yaml", described), ("PROTOCOL.md", set(re.findall(r"(?m)^\| `([a-z-]+)` \|", table))):
        yield from (f"code {code}: served, not in {where}" for code in sorted(served - codes))
        yield from (f"code {code}: in {where}, not served" for code in sorted(codes - served))


def main():
    listing = subprocess.run([sys.argv[1]], check=True, capture_output=True, text=True).stdout
    routes = {}
    for line in listing.splitlines():
        method, path, needs, action = line.split()
        routes[method, path] = (needs, action)
    with open(sys.argv[2], encoding="utf-8") as file:
        document = yaml.safe_load(file)
    mistakes = [*check(routes, document), *check_codes(Path(sys.argv[2]).resolve().parents[1], document)]
    if not routes or mistakes:
        sys.exit("\n".join(mistakes) or "no routes")
    print(f"{len(routes)} routes, all described, and all codes")


main()
