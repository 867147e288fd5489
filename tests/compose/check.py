"""Compares a value with a JSON schema, as far as the Compose Specification uses it: check.py SCHEMA.json VALUE.json

Prints what does not fit, one line each; ends with 1 if there is something. A word of the schema that is not known here ends it, too.
"""

import json
import re
import sys

KNOWN = {
    "$schema", "$id", "$defs", "$ref", "title", "description", "default", "deprecated", "examples", "type", "properties",
    "patternProperties", "additionalProperties", "required", "items", "uniqueItems", "enum", "oneOf", "anyOf", "allOf", "pattern",
    "minimum", "maximum", "format", "minItems", "unevaluatedProperties",
}
TYPES = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
}


def resolved(schema, root):
    while "$ref" in schema:
        found = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def evaluated(schema, root):
    """Names of fields, and patterns of names, that a schema and those beside it say something of."""
    schema = resolved(schema, root)
    names, patterns = set(schema.get("properties", {})), set(schema.get("patternProperties", {}))
    for of in schema.get("allOf", []) + schema.get("anyOf", []) + schema.get("oneOf", []):
        more = evaluated(of, root)
        names, patterns = names | more[0], patterns | more[1]
    return names, patterns


def problems(value, schema, root, place):
    """What does not fit, as sentences."""
    schema = resolved(schema, root)
    unknown = {word for word in schema if word not in KNOWN and not word.startswith("x-")}
    if unknown:
        sys.exit(f"the schema has words that are not known here: {sorted(unknown)}")
    types = schema.get("type")
    if types and not any(TYPES[name](value) for name in ([types] if isinstance(types, str) else types)):
        return [f"{place}: {value!r} is not of type {types}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{place}: {value!r} is none of {schema['enum']}")
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{place}: {value!r} does not match {schema['pattern']}")
    for word, is_wrong in (("minimum", lambda a, b: a < b), ("maximum", lambda a, b: a > b)):
        if word in schema and TYPES["number"](value) and is_wrong(value, schema[word]):
            found.append(f"{place}: {value} is beyond the {word} {schema[word]}")
    if isinstance(value, dict):
        found += [f"{place}: {name} is missing" for name in schema.get("required", []) if name not in value]
        for name, part in value.items():
            inner = f"{place}.{name}"
            schemas = [schema["properties"][name]] if name in schema.get("properties", {}) else []
            schemas += [of for pattern, of in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
            rest = schema.get("additionalProperties", True)
            if not schemas and rest is False:
                found.append(f"{inner}: there is no such field")
            elif not schemas and isinstance(rest, dict):
                schemas = [rest]
            for of in schemas:
                found += problems(part, of, root, inner)
        if schema.get("unevaluatedProperties", True) is False:
            names, patterns = evaluated(schema, root)
            unknown = [name for name in value if name not in names and not any(re.search(of, name) for of in patterns)]
            found += [f"{place}.{name}: there is no such field" for name in unknown]
    if isinstance(value, list):
        if schema.get("uniqueItems") and len({json.dumps(part, sort_keys=True) for part in value}) < len(value):
            found.append(f"{place}: something stands there twice")
        if len(value) < schema.get("minItems", 0):
            found.append(f"{place}: there are too few")
        for at, part in enumerate(value):
            found += problems(part, schema.get("items", {}), root, f"{place}[{at}]")
    for of in schema.get("allOf", []):
        found += problems(value, of, root, place)
    for word in ("oneOf", "anyOf"):
        if word in schema:
            tried = [problems(value, of, root, place) for of in schema[word]]
            if all(tried):
                found += min(tried, key=len)
    return found


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    with open(sys.argv[2], encoding="utf-8") as file:
        value = json.load(file)
    found = problems(value, schema, schema, "compose.yaml")
    print("\n".join(found))
    sys.exit(1 if found else 0)


main()
