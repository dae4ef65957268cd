"""From a pydantic model to the structural OpenAPI v3 schema of a CRD. Pure.

pydantic says what the types are; this turns its JSON schema into what a CRD may hold: no `$ref`, no null, no titles,
`int64` and `date-time`, CEL rules and map keys where the models state them. It refuses what would make a bad API or a
CRD that the server refuses, and names the field: a string or list without a bound, a float, a union of types, a field
without a description, an enum that is not PascalCase.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from vectorops.runtime.api import ApiModel

Schema = dict[str, Any]

NAME_BYTES = 63  # a DNS label, and the longest identifier of Postgres: whatever is built from a name stays one
PASCAL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*")
DROPPED = ("title", "$defs", "propertyNames", "const")  # no meaning in a CRD, or not allowed there
NOT_BOUNDS = ("type", "const", "enum", "title", "description")  # of a union's member: all the rest bounds it
ORDER = (  # how people read a field: what is it, what may it be, what is inside
    "description", "type", "format", "enum", "default", "pattern", "minLength", "maxLength", "minimum",
    "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "minProperties",
    "maxProperties", "x-kubernetes-int-or-string", "anyOf", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-validations", "required", "properties", "additionalProperties", "items",
)  # fmt: skip
STANDARD_FIELDS = {  # what Kubernetes itself says of them, for models of api.py that do not say it again
    "type": "What the condition is about, in CamelCase.",
    "status": "True, False or Unknown.",
    "reason": "Why, in one CamelCase word; the same word as in events and metrics.",
    "message": "The same for people, with what to do next.",
    "observedGeneration": "The metadata.generation that this was stated for.",
    "lastTransitionTime": "When the status last turned.",
    "time": "When it happened.",
}
STANDARD_MODELS = ("ConditionStatus", "HistoryEntry")


class NotAnApi(ValueError):
    """A model cannot be part of the API; the message names the field and the remedy."""


def structural(model: type[BaseModel], path: str) -> Schema:
    """The schema of `model` with everything inlined. `path` (`VectorIndex.spec`) leads the names in errors."""
    raw = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _node(raw, raw.get("$defs", {}), path)


def without_defaults(schema: Schema) -> Schema:
    """The schema without any `default`: a status holds what was written into it, nothing else."""
    kept = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in kept:
        kept["properties"] = {name: without_defaults(field) for name, field in kept["properties"].items()}
    for inner in ("items", "additionalProperties"):
        if isinstance(kept.get(inner), dict):
            kept[inner] = without_defaults(kept[inner])
    return kept


def rules_of(schema: Schema, path: str = "") -> Iterator[tuple[str, Mapping[str, str]]]:
    """Every CEL rule in a schema with the path at which it stands."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule
    for name, field in schema.get("properties", {}).items():
        yield from rules_of(field, f"{path}.{name}")
    for inner, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(inner), dict):
            yield from rules_of(schema[inner], path + mark)


class _Generator(GenerateJsonSchema):
    """pydantic's own generator, which at each model also knows the class and so its rules, map keys and factories."""

    def model_schema(self, schema: Any) -> Schema:
        made = super().model_schema(schema)
        cls: type[BaseModel] = schema["cls"]
        fields = made.get("properties", {})
        if issubclass(cls, ApiModel):
            if cls.rules:
                made["x-kubernetes-validations"] = [{"rule": r.rule, "message": r.message} for r in cls.rules]
            for name, keys in cls.map_lists.items():
                if name not in fields:
                    raise NotAnApi(f"{cls.__name__}.map_lists names {name}, which is no field (camelCase?)")
                fields[name] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
        for attribute, info in cls.model_fields.items():
            name = info.alias or attribute
            if info.default_factory is not None:
                _factory_default(info.get_default(call_default_factory=True, validated_data={}), fields[name])
            if cls.__name__ in STANDARD_MODELS and name in STANDARD_FIELDS:
                fields[name].setdefault("description", STANDARD_FIELDS[name])
        return made


def _factory_default(value: Any, field: Schema) -> None:
    """A part that is made when absent: its whole default, for the server checks the rules inside against just that."""
    if isinstance(value, BaseModel):
        field["default"] = value.model_dump(mode="json", by_alias=True, exclude_none=True)


def _node(raw: Schema, defs: Mapping[str, Schema], path: str) -> Schema:
    """One schema node, made structural, checked and put in order."""
    node = _merged(raw, defs, path)
    if "const" in node:
        node["enum"] = [node["const"]]
    node = {key: value for key, value in node.items() if key not in DROPPED}
    if node.get("default", ...) is None:
        del node["default"]
    if "description" in node:
        node["description"] = " ".join(str(node["description"]).split("\n\n")[0].split())
    _check(node, path)
    if node.get("type") == "integer":
        node["format"] = "int64"
        _inclusive(node)
    _inside(node, defs, path)
    return {key: node[key] for key in sorted(node, key=lambda key: _rank(key, path))}


def _merged(raw: Schema, defs: Mapping[str, Schema], path: str) -> Schema:
    """Follow `$ref`, collapse an optional to what it is when present; what stands at the field wins."""
    node = dict(raw)
    if "anyOf" in node:
        members = [_merged(member, defs, path) for member in node.pop("anyOf") if member.get("type") != "null"]
        node = (members[0] if len(members) == 1 else _int_or_string(members, path)) | node
    if "allOf" in node and len(node["allOf"]) == 1:
        node = _merged(node.pop("allOf")[0], defs, path) | node
    if "$ref" in node:
        name = node.pop("$ref").removeprefix("#/$defs/")
        node = _merged(defs[name], defs, path) | node
    return node


def _int_or_string(members: list[Schema], path: str) -> Schema:
    """`int | Literal["Auto"]`: the one union that a CRD knows. Bounds of both sides stand side by side."""
    if sorted(str(member.get("type")) for member in members) != ["integer", "string"]:
        raise NotAnApi(f"{path}: a union is not structural; use a discriminator `type` with one field a member")
    bounds: Schema = {}
    for member in members:
        words = [member["const"]] if "const" in member else member.get("enum", [])
        if words:
            bounds |= {"pattern": f"^({'|'.join(words)})$", "maxLength": max(map(len, words))}
        bounds |= {key: value for key, value in member.items() if key not in NOT_BOUNDS}
    return bounds | {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}


def _inclusive(node: Schema) -> None:
    """OpenAPI v3.0 has exclusive bounds as booleans; for integers the next one says the same."""
    if "exclusiveMinimum" in node:
        node["minimum"] = node.pop("exclusiveMinimum") + 1
    if "exclusiveMaximum" in node:
        node["maximum"] = node.pop("exclusiveMaximum") - 1


def _check(node: Schema, path: str) -> None:
    """Refuse what makes a bad API, in words that name the field."""
    kind = node.get("type")
    if kind is None and "x-kubernetes-int-or-string" not in node:
        raise NotAnApi(f"{path}: has no type; any value at all cannot be part of the API")
    if kind == "number":
        raise NotAnApi(f"{path}: is a float; use an integer with its unit in the name, or a Decimal string")
    if kind == "string" and not node.keys() & {"maxLength", "enum", "format"}:
        raise NotAnApi(f"{path}: a string needs max_length, an enum or a format")
    if kind == "array" and "maxItems" not in node:
        raise NotAnApi(f"{path}: a list needs max_length (how many items)")
    if isinstance(node.get("additionalProperties"), dict) and "maxProperties" not in node:
        raise NotAnApi(f"{path}: a map needs max_length (how many entries)")
    if kind == "object" and "properties" not in node and not isinstance(node.get("additionalProperties"), dict):
        raise NotAnApi(f"{path}: an object without fields; name them")
    for word in node.get("enum", ()):
        if not PASCAL_CASE.fullmatch(str(word)):
            raise NotAnApi(f"{path}: the enum value {word!r} is not PascalCase")


def _inside(node: Schema, defs: Mapping[str, Schema], path: str) -> None:
    """Make what is inside structural, in place. Every property must say what it is."""
    if "uniqueItems" in node:  # a set; the API server refuses the keyword and has a word of its own
        del node["uniqueItems"]
        node["x-kubernetes-list-type"] = "set"
    if "properties" in node:
        node["properties"] = {
            name: _described(_node(field, defs, f"{path}.{name}"), f"{path}.{name}")
            for name, field in node["properties"].items()
        }
    if isinstance(node.get("additionalProperties"), dict):
        node["additionalProperties"] = _node(node["additionalProperties"], defs, f"{path}{{}}")
    elif node.get("additionalProperties") is not None:
        del node["additionalProperties"]  # true and false say nothing beside properties; unknown fields are pruned
    if "items" in node:
        node["items"] = _node(node["items"], defs, f"{path}[]")


def _described(node: Schema, path: str) -> Schema:
    name = path.rsplit(".", 1)[-1]
    if not node.get("description"):
        raise NotAnApi(f"{path}: needs a description, by Field(description=...) or the docstring of its model")
    if len(name.encode()) > NAME_BYTES:
        raise NotAnApi(f"{path}: the name is longer than {NAME_BYTES} bytes")
    return node


def _rank(key: str, path: str) -> int:
    if key not in ORDER:
        raise NotAnApi(f"{path}: {key} has no place in a CRD")
    return ORDER.index(key)
