"""A value for a JSON Schema, from the request's material where names match, else with placeholders.

For each place: const; the option or value that a fact of its name gives, rows with its columns; the schema's
default; null; a text that says it is left open, or the smallest value allowed. Of these the first that the
schema accepts is taken. Numbers, options and the like cannot say that they are placeholders: a text beside
them does.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from blocks.offline.facts import fact_key, facts_of, number_or_text, rows_like, rows_of, told_in
from blocks.offline.material import Material
from blocks.offline.schemas import FORMATS, as_object, merge, numbers_for, texts_for, types_of
from blocks.offline.words import phrase
from blocks.offline.writing import write_document
from blocks.schemas.checking import Unchecked, budget_for, matches, spend, spending, validator

KNOWN, MARKED, GUESSED = "known", "marked", "guessed"
"""How a value came about: given by material or schema, a placeholder that says so, one that cannot."""
Made = tuple[Any, str]
_DEPTH, _LEAN_DEPTH = 24, 5
"""From the second on only what is required is made, so that recursive schemas come to an end."""
_ROWS = 20
_EMPTY = {"object": {}, "array": [], "string": "", "integer": 0, "number": 0, "boolean": False}
"""What stands for a value that takes too much work."""
_WEIGHTS = {"object": 2, "array": 1}
_TEXT_CHARS = 100_000
_NUMERIC = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_TITLE = re.compile(r"title|subject", re.I)
_TASK = re.compile(r"title|subject|.*(?:query|queries|question|instruction|goal|task|topic|purpose)", re.I)
"""What a title is called, and arguments that say what a tool is asked to do."""
_BODY = ("body", "markdown", "正文")
_UNDECIDED = ("other", "others", "unknown", "unclear", "undecided", "none", "n/a", "其他", "未知")


def fill_schema(
    schema: Any, material: Material, name: str = "", *, root: Any = None, hint: str = "", marked: bool = False
) -> Any:
    """A value that satisfies the schema as far as fixed rules can, and as far as the work goes.

    `root` is the schema that references are looked up in, `hint` a line whose words win where there is a
    choice; `marked`: a text beside placeholders names them.
    """
    filler = _Filler(material, schema if root is None else root, hint, marked)
    try:
        with spending(filler.budget):
            return filler.make(schema, name, 0)[0]
    except Unchecked:
        return _EMPTY.get(types_of(as_object(schema))[0])


class _Filler:
    def __init__(self, material: Material, root: Any, hint: str, marked: bool) -> None:
        self.budget = budget_for(root, None)
        self._material, self._root, self._hint, self._marked = material, root, hint, marked
        self._salt = 0
        """Counts the items of a list, so that each can be another one."""
        self._facts = facts_of(material)
        self._told = told_in(material.instruction)
        self._validator = validator(root)
        self._open = phrase("placeholder", material.chinese)

    def make(self, schema: Any, name: str, depth: int) -> Made:
        """A value for one place; the first that was tried where none fits."""
        if depth > _DEPTH:
            return None, GUESSED
        spend(2 + len(self._told) // 32)
        schema = self._resolve(as_object(schema))
        first: Made | None = None
        for made in self._candidates(schema, name, depth):
            if self._fits(made[0], schema):
                return made
            first = first or made
        return first or (None, GUESSED)

    def _fits(self, value: Any, schema: Any) -> bool:
        try:
            with spending(budget_for(schema, value)):
                return bool(self._validator.evolve(schema=schema).is_valid(value))
        except Unchecked:
            return False

    def _resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        """References followed and `allOf` merged."""
        spend(1 + len(schema))
        for _ in range(_DEPTH):
            if "$ref" not in schema:
                break
            target = self._validator._resolver.lookup(schema["$ref"]).contents
            schema = merge(as_object(target), _without(schema, "$ref"))
        parts, schema = schema.get("allOf", []), _without(schema, "allOf")
        for part in parts:
            schema = merge(schema, self._resolve(as_object(part)))
        return schema

    def _candidates(self, schema: dict[str, Any], name: str, depth: int) -> Iterator[Made]:
        """Values to try, the most telling first."""
        if "const" in schema or schema.get("enum"):
            yield from self._options(schema, name)
            return
        fact = None if self._salt else self._fact(name, schema)
        if fact is not None and "object" not in types_of(schema):
            spelt = [str(fact)] if type(fact) in (int, float) else []
            yield from ((value, KNOWN) for value in (fact, number_or_text(fact), *spelt))
        yield from [(schema["default"], KNOWN)] if "default" in schema else []
        if not schema.get("anyOf") and not schema.get("oneOf") and "null" not in types_of(schema):
            yield from self._shape_values(schema, name, depth)
        else:
            # What may be null is left open so, unless something is known of it.
            shaped = self._shape_values(schema, name, depth) if depth < _LEAN_DEPTH else iter(())
            yield from (made for made in itertools.islice(shaped, 8) if made[1] == KNOWN)
            yield None, MARKED
            yield from self._shape_values(schema, name, depth)
        yield from ((example, GUESSED) for example in schema.get("examples", [])[:1])
        if "type" not in schema:  # what the keywords are about may be forbidden, another type is not
            others: tuple[Any, ...] = (self._open, 0, True, None, [], {}, 1.5)
            yield from ((other, GUESSED) for other in others)

    def _options(self, schema: dict[str, Any], name: str) -> Iterator[Made]:
        """What the hint or a fact names, a table's name where one is asked for; else what decides nothing."""
        if "const" in schema:
            yield schema["const"], KNOWN
            return
        options = schema["enum"]
        spend(len(options))
        texts = [option for option in options if isinstance(option, str)] if not self._salt else []
        for said in (self._hint, str(self._fact(name, schema) or "")):
            yield from ((option, KNOWN) for option in texts if _names_option(said, option))
        if texts and re.search(r"table|data|csv|rows", name, re.I):
            tables = {document.name for document in self._material.documents if rows_of(document)}
            yield from ((option, KNOWN) for option in texts if option in tables)
        yield from ((option, GUESSED) for option in texts if option.lower() in _UNDECIDED)
        place = self._salt % len(options)
        yield from ((option, GUESSED) for option in options[place:] + options[:place])

    def _fact(self, name: str, schema: Mapping[str, Any]) -> Any:
        """The fact of a place: by its name, or by a key of the instruction that its description holds."""
        if (key := fact_key(name)) in self._facts:
            return self._facts[key]
        described = fact_key(str(schema.get("description", "")) + str(schema.get("title", "")))
        found = [fact for fact in self._told if len(fact) > 1 and fact in described]
        return self._told[max(found, key=len)] if found else None

    def _shape_values(self, schema: dict[str, Any], name: str, depth: int) -> Iterator[Made]:
        """Values for the alternatives of a schema, then for its types."""
        for keys, options in self._alternatives(schema, depth):
            for option in options:
                branch = merge(_without(schema, *keys), self._resolve(as_object(option)))
                yield self.make(branch, name, depth + 1)
        if not schema.get("anyOf") and not schema.get("oneOf"):
            for kind in types_of(schema):
                yield from self._values_of_type(schema, kind, name, depth)

    def _alternatives(self, schema: dict[str, Any], depth: int) -> Iterator[tuple[list[str], list[Any]]]:
        """Keywords that offer further schemas, with the schemas that can stand for them."""
        for key in ("anyOf", "oneOf"):
            options = [self._resolve(as_object(option)) for option in schema.get(key) or ()]
            # Null last, and deep down what leads no further first.
            heavy = _WEIGHTS if depth >= _LEAN_DEPTH else {"null": 1}
            options.sort(key=lambda option: heavy.get(types_of(option)[0], 0))
            others = [[other for other in options if other is not option] for option in options]
            alone = [merge(o, {"not": {"anyOf": rest}}) for o, rest in zip(options, others, strict=True)]
            if options:
                yield [key], options + (alone if key == "oneOf" else [])
                return
        if "if" in schema:
            held = merge(as_object(schema["if"]), self._resolve(as_object(schema.get("then", {}))))
            yield ["if", "then", "else"], [held, schema.get("else", {})]
        if schema.get("dependentSchemas"):
            yield ["dependentSchemas"], [{"allOf": list(schema["dependentSchemas"].values())}]

    def _values_of_type(self, schema: dict[str, Any], kind: str, name: str, depth: int) -> Iterator[Made]:
        if kind in _WEIGHTS:
            make = self._object if kind == "object" else self._list
            yield from (make(schema, name, depth, rich) for rich in [True, False][depth >= _LEAN_DEPTH :])
        elif kind in ("integer", "number"):
            asked = {key: schema[key] for key in _NUMERIC if key in schema}
            fitting = [n for n in numbers_for(asked, whole=kind == "integer") if self._fits(n, asked)]
            place = self._salt % len(fitting) if fitting else 0
            yield from ((number, GUESSED) for number in fitting[place:] + fitting[:place])
        elif kind == "string":
            yield from self._strings(schema, name)
        elif kind == "boolean":
            yield from ((truth, GUESSED) for truth in ((True, False) if self._salt % 2 else (False, True)))
        else:
            yield None, MARKED

    def _strings(self, schema: dict[str, Any], name: str) -> Iterator[Made]:
        least, most = min(int(schema.get("minLength", 0)), _TEXT_CHARS), schema.get("maxLength", math.inf)
        if schema.get("format") in FORMATS:
            yield FORMATS[schema["format"]], GUESSED
        if pattern := schema.get("pattern"):
            words = re.findall(r"\w(?:[\w@.:/-]*\w)?", self._hint) if not self._salt else []
            yield from ((word, KNOWN) for word in words if matches(pattern, word, whole=True))
            texts = list(dict.fromkeys(itertools.islice(texts_for(pattern, least, most), 32)))
            yield from ((text, GUESSED) for text in [*texts[self._salt % max(1, len(texts)) :], *texts])
        if self._material.task and (_TITLE.fullmatch(name) or (not self._marked and _TASK.match(name))):
            yield self._fit_length(self._material.task, least, most), KNOWN
        if self._marked and (name in _BODY or "Markdown" in str(schema.get("description", ""))):
            yield self._fit_length(write_document(self._material), least, most), KNOWN
        yield self._fit_length(self._open, least, most), MARKED

    def _fit_length(self, text: str, least: int, most: float) -> str:
        """The text as long as is asked for, another one for every item of a list."""
        text = text if len(text) >= least else (text + " ") * (least // (len(text) + 1) + 1)
        mark = f" {self._salt + 1}" if self._salt else ""
        mark = mark if len(mark) <= most else chr(0x61 + self._salt % 26)[: int(most)]
        return text[: int(min(most, max(least, len(text)) + len(mark))) - len(mark)] + mark

    def _object(self, schema: dict[str, Any], name: str, depth: int, rich: bool) -> Made:
        """What is required, where it is to be `rich` also what the material knows; more where it must be."""
        required = _required_names(schema)
        made: dict[str, Made] = {}
        # Written order first: people read the value.
        for key in dict.fromkeys([*schema.get("properties", {}), *required]) if rich else required:
            made_of_key = self.make(_place_of(schema, key), key, depth + 1)
            if key in required or made_of_key[1] == KNOWN:
                made[key] = made_of_key
        for key in _free_names(schema):
            if len(made) >= schema.get("minProperties", 0):
                break
            spend(1 + len(key) // 256)
            if key not in made and self._fits(key, schema.get("propertyNames", {})):
                place = _place_of(schema, key)
                value = self.make(place, "", depth + 1)
                made |= {key: value} if self._fits(value[0], place) else {}
        return self._mark(schema, made)

    def _mark(self, schema: Mapping[str, Any], made: dict[str, Made]) -> Made:
        """The object; a free text in it names the values that are placeholders and cannot say so."""
        values = {key: value for key, (value, _) in made.items()}
        how = _combine_origins([how for _, how in made.values()])
        guessed = [key for key, (_, how) in made.items() if how == GUESSED]
        told = phrase("guesses", self._material.chinese, ", ".join(guessed))
        texts = [key for key, value in values.items() if isinstance(value, str) and key not in guessed]
        # First a text that is left open itself, else the longest.
        texts.sort(key=lambda key: (made[key][1] != MARKED, -len(values[key])))
        for key in texts if guessed and self._marked else ():
            place = self._resolve(as_object(_place_of(schema, key)))
            text = f"{values[key]} {told}"
            if not {"enum", "const", "format", "pattern"} & place.keys() and self._fits(text, place):
                return {**values, key: text}, KNOWN if how == KNOWN else MARKED
        return values, how

    def _list(self, schema: dict[str, Any], name: str, depth: int, rich: bool) -> Made:
        """Rows of a table or one item where it is to be `rich`, then as few as allowed."""
        first, rest = _positions(schema)
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems", math.inf)
        keep = len(first) if rich else min(len(first), least)
        made = [self.make(part, name, depth + 1) for part in first[:keep]]
        items = self._resolve(as_object(rest))
        if rich and rest is not False:
            rows = (row for row in rows_like(items, self._material.documents) if self._fits(row, items))
            room = int(max(0, min(most, _ROWS) - len(made)))
            made += ((row, KNOWN) for row in itertools.islice(rows, room))
            item = self.make(items, "", depth + 1) if not made and most >= 1 else (None, GUESSED)
            open_item = item[1] != GUESSED or isinstance(item[0], dict)
            made += [item] if open_item and self._fits(item[0], items) else []
        if "contains" in schema:
            held = merge(items, self._resolve(as_object(schema["contains"])))
            self._add(made, held, len(made) + int(schema.get("minContains", 1)), depth, schema)
        if rest is not False:
            self._add(made, items, min(most, max(least, len(made))), depth, schema)
        made = made[: int(min(most, len(made)))]
        return [value for value, _ in made], _combine_origins([how for _, how in made])

    def _add(self, made: list[Made], items: dict[str, Any], wanted: float, depth: int, schema: Any) -> None:
        """Items until there are as many as wanted; each another one where that can be."""
        outer, unique = self._salt, bool(schema.get("uniqueItems"))
        scalar = types_of(items)[0] in ("integer", "number") or "enum" in items
        for n in range(int(4 * wanted) + 4):
            spend(1)
            if len(made) >= wanted:
                break
            self._salt = outer + n if scalar or unique else outer
            item = self.make(items, "", depth + 1)
            # As JSON: true is not 1.
            known = any(item[0] == o and isinstance(item[0], bool) == isinstance(o, bool) for o, _ in made)
            made += [item] if not unique or not known else []
        self._salt = outer


def _without(schema: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in keys}


def _combine_origins(hows: list[str]) -> str:
    return next((how for how in (KNOWN, GUESSED) if how in hows), MARKED)


def _names_option(text: str, option: str) -> bool:
    """Whether a text holds an option as a word of its own."""
    # Most options stand nowhere, and a pattern for each of thousands takes long to build.
    held = bool(option) and option in text
    return held and bool(re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text, re.ASCII))


def _required_names(schema: Mapping[str, Any]) -> dict[str, None]:
    """The required keys in order, with what they bring along."""
    names = dict.fromkeys(schema.get("required", []))
    brought = schema.get("dependentRequired", {})
    for _ in brought:
        for name in list(names):
            names |= dict.fromkeys(brought.get(name, []))
    return names


def _place_of(schema: Mapping[str, Any], name: str) -> Any:
    """The schema of a key's value."""
    asked = [schema["properties"][name]] if name in schema.get("properties", {}) else []
    asked += [part for pattern, part in schema.get("patternProperties", {}).items() if matches(pattern, name)]
    free = schema.get("additionalProperties", True)
    asked = asked or [{"type": "string"} if free is True else free]
    if any(part is False for part in asked):
        return False
    return asked[0] if len(asked) == 1 else {"allOf": [as_object(part) for part in asked]}


def _free_names(schema: Mapping[str, Any]) -> Iterator[str]:
    """Keys to try where an object needs more than the required ones."""
    wanted = range(1, int(schema.get("minProperties", 0)) + 1)
    names = as_object(schema.get("propertyNames", {}))
    yield from (*schema.get("properties", {}), *map(str, names.get("enum", [])))
    patterns = [
        pattern for pattern in (*schema.get("patternProperties", {}), names.get("pattern")) if pattern
    ]
    for n in wanted if patterns else ():
        spend(1)
        for pattern in patterns:
            yield from (f"{text}{n}" for text in texts_for(pattern, 0, math.inf))
            yield from texts_for(pattern, n, math.inf)
    for n in wanted:
        yield from (f"item-{n}", "a" * n)


def _positions(schema: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """The schemas of the first items, and of the rest; older drafts write both as `items`."""
    items = schema.get("items", True)
    first, rest = (items, schema.get("additionalItems", True)) if isinstance(items, list) else (
        schema.get("prefixItems", []), items)  # fmt: skip
    return list(first), {"type": "string"} if rest is True else rest
