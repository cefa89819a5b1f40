"""What a document in OpenAPI 3.1 says of a route's answers, and where an answer differs from it.

Owns the reading of such a document. It knows no document by name and holds nothing of any; what
must hold beyond a schema (the order of events, say) is elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

_MAX_MESSAGE = 200  # characters; a message quotes the value, which may be a whole response
_HERE = "#/"
_DOCUMENT = "urn:document"


class BadDocument(Exception):
    """The document does not say what is looked for; the text tells what."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One place of an answer that is not as the schema says; `path` is like `output.0.id`."""

    path: str
    message: str


class Document:
    """An OpenAPI document. `allowed` are values of `type` that it need not know."""

    def __init__(self, contents: dict[str, Any], allowed: Collection[str] = ()) -> None:
        """Raises BadDocument when nothing is said of the answers of POST /responses."""
        self._paths: dict[str, Any] = contents.get("paths") or {}
        self._schemas = _with_null((contents.get("components") or {}).get("schemas") or {})
        self._allowed = frozenset(allowed)
        whole = {"components": {"schemas": self._schemas}}
        self._registry: Registry[Any] = Registry().with_resource(
            _DOCUMENT, Resource(contents=whole, specification=DRAFT202012)
        )
        # oneOf is taken as anyOf: where two branches of a document overlap, that is the
        # document's doing and not the answer's.
        self._kind = extend(
            Draft202012Validator, {"oneOf": self._branches, "anyOf": self._branches}
        )
        self._validators: dict[str, Any] = {}
        self._response = self._needed("application/json")
        self._events = self._event_types(self._needed("text/event-stream"))

    @classmethod
    def read(cls, path: Path, allowed: Collection[str] = ()) -> Self:
        """The document in a file of YAML or JSON. Raises BadDocument."""
        try:
            text = path.read_text(encoding="utf-8")
            # The reader in C takes one second for three megabytes, the other one twelve.
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            contents = json.loads(text) if path.suffix == ".json" else yaml.load(text, loader)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise BadDocument(f"{path} cannot be read as YAML or JSON: {error}") from error
        if not isinstance(contents, dict):
            raise BadDocument(f"{path} is not an OpenAPI document: it holds no object.")
        return cls(contents, allowed)

    def check_response(self, value: Any) -> list[Violation]:
        """What is wrong with a response object."""
        return self._check(self._response, value)

    def check_event(self, value: Any) -> list[Violation]:
        """What is wrong with the data of an event of a stream."""
        kind = value.get("type") if isinstance(value, dict) else None
        if kind in self._events:
            return self._check(self._events[kind], value)
        if kind in self._allowed:
            return []
        return [Violation("type", f"event type {kind!r} is not in this schema")]

    def check_answer(self, method: str, route: str, value: Any) -> list[Violation]:
        """What is wrong with the answer of another route, if the document knows the route."""
        schema = self._answer(method, route, "application/json")
        return [] if schema is None else self._check(schema, value)

    def check_error(self, value: Any) -> list[Violation]:
        """What is wrong with the body of a refusal, if the document has an `ErrorResponse`."""
        known = "ErrorResponse" in self._schemas
        return self._check({"$ref": "#/components/schemas/ErrorResponse"}, value) if known else []

    def _needed(self, media: str) -> dict[str, Any]:
        schema = self._answer("post", "/responses", media)
        if schema is None:
            raise BadDocument(f"The document does not say what POST /responses answers as {media}.")
        return schema

    def _answer(self, method: str, route: str, media: str) -> dict[str, Any] | None:
        operation = (self._paths.get(route) or {}).get(method.lower()) or {}
        content = (operation.get("responses") or {}).get("200", {}).get("content") or {}
        return (content.get(media) or {}).get("schema")

    def _event_types(self, schema: dict[str, Any]) -> dict[str, Any]:
        whole = self._resolved(schema)
        branches = whole.get("oneOf") or whole.get("anyOf") or [whole]
        return {kind: each for each in branches for kind in self._tags(each, "type") or ()}

    def _check(self, schema: dict[str, Any], value: Any) -> list[Violation]:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            rooted = json.loads(key.replace(f'"{_HERE}', f'"{_DOCUMENT}{_HERE}'))
            self._validators[key] = self._kind(rooted, registry=self._registry)
        return [
            Violation(".".join(str(part) for part in error.absolute_path), _short(error.message))
            for error in self._validators[key].iter_errors(value)
        ]

    def _resolved(self, schema: Any) -> dict[str, Any]:
        while isinstance(schema, dict) and str(schema.get("$ref", "")).startswith(_HERE):
            schema = self._schemas.get(schema["$ref"].rpartition("/")[2])
        return schema if isinstance(schema, dict) else {}

    def _tags(self, schema: Any, name: str) -> set[str] | None:
        """The values that property `name` may have in a branch; None when it is not said."""
        schema = self._resolved(schema)
        tag = self._resolved((schema.get("properties") or {}).get(name))
        if "const" in tag or "enum" in tag:
            return {tag["const"]} if "const" in tag else set(tag["enum"])
        for part in schema.get("allOf") or ():
            if (found := self._tags(part, name)) is not None:
                return found
        parts = [self._tags(part, name) for part in schema.get("oneOf") or schema.get("anyOf", ())]
        known = [part for part in parts if part is not None]
        return set().union(*known) if known else None

    def _branches(
        self, validator: Any, branches: list[Any], value: Any, schema: dict[str, Any]
    ) -> Iterator[ValidationError]:
        """anyOf and oneOf: the branch that was meant says what is wrong, and not all of them."""
        if isinstance(value, dict):
            name = (schema.get("discriminator") or {}).get("propertyName", "type")
            tagged = [(branch, self._tags(branch, name)) for branch in branches]
            tag = value.get(name)
            if isinstance(tag, str) and any(tags for _, tags in tagged):
                meant = [branch for branch, tags in tagged if tags and tag in tags]
                meant = meant or [branch for branch, tags in tagged if tags is None]
                if all(self._is_null(branch) for branch in meant):
                    if tag not in self._allowed:
                        text = f"{name} {tag!r} is not in this schema"
                        yield ValidationError(text, path=[name])
                    return
                branches = meant
        failures: list[list[ValidationError]] = []
        for branch in branches:
            errors = list(validator.descend(value, branch))
            if not errors:
                return
            failures.append(errors)
        fitting = [errors for errors in failures if not any(map(_is_of_wrong_type, errors))]
        if fitting:
            yield from min(fitting, key=len)
        else:
            types = [str(e.validator_value) for errors in failures for e in errors]
            yield ValidationError(f"{value!r} is not of type {' or '.join(types)}")

    def _is_null(self, schema: Any) -> bool:
        return self._resolved(schema).get("type") == "null"


def _is_of_wrong_type(error: ValidationError) -> bool:
    return error.validator == "type" and not error.path


def _with_null(schema: Any) -> Any:
    """The same with `nullable`, which is OpenAPI 3.0's, put as JSON Schema puts it."""
    if isinstance(schema, list):
        return [_with_null(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _with_null(value) for name, value in schema.items()}
    if inner.get("nullable") is not True:
        return inner
    del inner["nullable"]
    return {"anyOf": [inner, {"type": "null"}]}


def _short(message: str) -> str:
    if len(message) <= _MAX_MESSAGE:
        return message
    half = _MAX_MESSAGE // 2
    return f"{message[:half]} … {message[-half:]}"
