"""JSON Schemas for kubeconform, made from what an API server says of itself (`/openapi/v2`)."""

import json

# kubeconform looks for a file of this name for each object.
LOCATION = "{{.ResourceKind}}{{.KindSuffix}}.json"


def write(openapi, folder):
    """One schema for each kind that has a group, version and kind of its own."""
    definitions = {name: strict(schema) for name, schema in openapi["definitions"].items()}
    for name, schema in definitions.items():
        for kind in openapi["definitions"][name].get("x-kubernetes-group-version-kind", []):
            # As kubeconform calls them: the first part of the group, then the version.
            group = kind["group"].split(".")[0]
            suffix = f"-{group}-{kind['version']}" if group else f"-{kind['version']}"
            needed = closure(definitions, schema)
            whole = {**schema, "definitions": {one: definitions[one] for one in needed}}
            (folder / f"{kind['kind'].lower()}{suffix}.json").write_text(json.dumps(whole))


def strict(schema):
    """The schema with nothing allowed that it does not name, and with what OpenAPI v2 cannot say."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    # The server takes a quantity as a number too.
    if "Quantity is a fixed-point representation" in schema.get("description", ""):
        return {"type": ["string", "number"]}
    changed = {name: strict(value) for name, value in schema.items() if not name.startswith("x-")}
    if isinstance(schema.get("enum"), list):
        # That of 1.29 names some values twice, which no JSON Schema may.
        changed["enum"] = list(dict.fromkeys(schema["enum"]))
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            changed["additionalProperties"] = False
    return changed


def closure(definitions, schema):
    """Every definition that a schema leads to."""
    found, open_ends = set(), [schema]
    while open_ends:
        for name in references(open_ends.pop()):
            if name not in found:
                found.add(name)
                open_ends.append(definitions[name])
    return found


def references(schema):
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].rsplit("/", 1)[1]
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)
