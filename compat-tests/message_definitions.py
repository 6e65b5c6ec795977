#!/usr/bin/env python3
"""Makes Rust of Kafka's own message definitions, which lie as JSON in the jar of kafka-clients 4.3.0.

    compat-tests/message_definitions.py [--update]

* `src/protocol/guard/shapes.rs`: the shape of every request, for the guard and for the declarations of APIs.
* `src/protocol/messages/generated.rs`: codecs of the messages in `OWN_CODECS`, which the crate kafka-protocol
  lacks or knows in older versions alone; they look as the crate's do.

`--update` writes the two; without it they are compared with what would be written (the suite `definitions`).
Maven is asked for the jar (the suite `kafka-tools` has it too).
"""

import json
import pathlib
import re
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
JAR = HERE / ".cache" / "kafka-tools" / "libs" / "kafka-clients-4.3.0.jar"
SHAPES = "src/protocol/guard/shapes.rs"
CODECS = "src/protocol/messages/generated.rs"

# APIs of which kafka-protocol 0.18 lacks a version, or everything.
OWN_CODECS = ["DescribeLogDirs", "ListOffsets", "OffsetCommit", "OffsetFetch", "WriteTxnMarkers"]

NEVER = 1 << 15
UPDATE = "compat-tests/message_definitions.py --update"


def snake(name):
    """`GroupsNames` -> `groups_names`, `ReplicaIdISR` -> `replica_id_isr`."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])|(?<=[A-Z])([A-Z])(?=[a-z])", r"_\1\2", name).lower()


def versions(text):
    """`"3+"`, `"0-9"`, `"4"`, `"none"` -> first and last."""
    if text is None or text == "none":
        return NEVER, -1
    if text.endswith("+"):
        return int(text[:-1]), NEVER
    first, _, last = text.partition("-")
    return int(first), int(last or first)


class Field:
    def __init__(self, definition):
        self.name = snake(definition["name"])
        self.since, self.until = versions(definition["versions"])
        self.null_since = versions(definition.get("nullableVersions"))[0]
        self.type = definition["type"]
        self.is_array = self.type.startswith("[]")
        self.element = self.type.removeprefix("[]")
        self.entity = definition.get("entityType")
        self.default = definition.get("default")
        self.is_ignorable = definition.get("ignorable", False)
        self.tag = definition.get("tag")
        if self.tag is not None:
            tagged, _ = versions(definition["taggedVersions"])
            assert tagged == self.since, f"{self.name} is tagged only later"
        # A structure that is declared here, or elsewhere under `commonStructs`.
        self.fields = [Field(each) for each in definition.get("fields", [])] or None


class Message:
    def __init__(self, text):
        definition = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
        self.name, self.key, self.kind = definition["name"], definition.get("apiKey"), definition["type"]
        self.first, self.last = versions(definition["validVersions"])
        # A version that may still change is nobody's.
        self.stable = self.last - 1 if definition.get("latestVersionUnstable") else self.last
        self.flexible, _ = versions(definition.get("flexibleVersions"))
        self.listeners = definition.get("listeners", [])
        common = {each["name"]: [Field(field) for field in each["fields"]] for each in definition.get("commonStructs", [])}
        self.structs = {}
        self.fields = [Field(each) for each in definition.get("fields", [])]
        self.gather(self.fields, common)

    def gather(self, fields, common):
        """Every structure by its name, those inside of others first."""
        for field in fields:
            if not field.element[0].isupper():
                continue
            inner = field.fields or common[field.element]
            if field.element not in self.structs:
                self.gather(inner, common)
                self.structs[field.element] = inner


def messages():
    if not JAR.exists():
        sys.exit(f"{JAR} is not there; `compat-tests/run definitions` fetches it")
    with zipfile.ZipFile(JAR) as jar:
        names = [name for name in jar.namelist() if re.fullmatch(r"common/message/\w+(Request|Response)\.json", name)]
        every = [Message(jar.read(name).decode()) for name in names]
    return [each for each in every if each.kind in ("request", "response") and each.last >= 0]


# --- shapes

KINDS = {
    "bool": "Bool", "int8": "Int8", "int16": "Int16", "uint16": "Int16", "int32": "Int32", "int64": "Int64",
    "float64": "Int64", "uuid": "Uuid", "string": "String", "bytes": "Bytes", "records": "Bytes",
}


def constant(name):
    return snake(name).upper()


def shape_of(api, field):
    kind = KINDS.get(field.element) or f"Struct({api}_{constant(field.element)})"
    kind = f"Array(&{kind})" if field.is_array else kind
    text = f'field("{field.name}", {kind})'
    text += f".since({field.since})" if field.since > 0 else ""
    text += f".until({field.until})" if field.until < NEVER else ""
    text += f".null_since({max(field.null_since, field.since)})" if field.null_since < NEVER else ""
    text += f".tag({field.tag})" if field.tag is not None else ""
    return text


def shapes(requests):
    out = [
        "//! The shape of every request that Kafka 4.3.0 has, with Kafka's own names.",
        "//!",
        f"//! Generated from the message definitions in Kafka's jar: `{UPDATE}`.",
        "",
        "use super::schema::Kind::{Array, Bool, Bytes, Int8, Int16, Int32, Int64, String, Struct, Uuid};",
        "use super::schema::{Field, NEVER, Shape, field};",
        "",
        "/// In the order of their keys.",
        "pub static ALL: &[&Shape] = &[",
    ]
    out += [f"    &{constant(each.name.removesuffix('Request'))}," for each in requests]
    out += [
        "];",
        "",
        "/// The request of an API.",
        "pub fn find(api_key: i16) -> Option<&'static Shape> {",
        "    let found = ALL.binary_search_by_key(&api_key, |shape| shape.key).ok()?;",
        "    ALL.get(found).copied()",
        "}",
    ]
    for each in requests:
        api = each.name.removesuffix("Request")
        prefix = constant(api)
        flexible = each.flexible if each.flexible < NEVER else "NEVER"
        listeners = ", ".join(f"on_{name}s: {str(name in each.listeners).lower()}" for name in ("broker", "controller"))
        out += [
            "",
            f"pub static {prefix}: Shape = Shape {{",
            f'    key: {each.key}, name: "{api}", versions: ({each.first}, {each.last}), last_stable: {each.stable},',
            f"    flexible_since: {flexible}, {listeners},",
            f"    fields: &[{''.join(chr(10) + '        ' + shape_of(prefix, field) + ',' for field in each.fields)}",
            "    ],",
            "};",
        ]
        for name, fields in each.structs.items():
            body = "".join(f"\n    {shape_of(prefix, field)}," for field in fields)
            out += ["", f"const {prefix}_{constant(name)}: &[Field] = &[{body}", "];"]
    return "\n".join(out) + "\n"


# --- codecs

RUST = {
    "bool": "bool", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uuid": "Uuid", "string": "StrBytes",
    "bytes": "Bytes", "records": "Bytes",
}
NEW_TYPES = {
    "topicName": "TopicName", "groupId": "GroupId", "brokerId": "BrokerId", "producerId": "ProducerId",
    "transactionalId": "TransactionalId",
}


class Codec:
    """One structure of a message as Rust."""

    def __init__(self, message, name, fields):
        self.message, self.name, self.fields = message, name, fields

    def is_nullable(self, field):
        return field.null_since < NEVER

    def rust_type(self, field):
        if field.element not in RUST and not field.element[0].isupper():
            sys.exit(f"{self.name}.{field.name}: codecs have no {field.element} yet; give value.rs and RUST one")
        element = NEW_TYPES.get(field.entity) or RUST.get(field.element, field.element)
        whole = f"Vec<{element}>" if field.is_array else element
        return f"Option<{whole}>" if self.is_nullable(field) else whole

    def default(self, field, kind="Default"):
        if self.is_nullable(field):
            return "None" if field.default == "null" else "Some(Default::default())"
        if field.is_array or field.default in (None, ""):
            return f"<{kind}>::default()" if kind != "Default" else "Default::default()"
        text = str(field.default).lower()
        return f"{NEW_TYPES[field.entity]}({text})" if field.entity in NEW_TYPES else text

    def when(self, field):
        """The condition for a version that has the field; nothing when all do."""
        parts = []
        if field.since > self.message.first:
            parts.append(f"version >= {field.since}")
        if field.until < self.message.last:
            parts.append(f"version <= {field.until}")
        return " && ".join(parts)

    def lines(self):
        message = self.message
        if any(field.tag is not None for field in self.fields):
            sys.exit(f"{self.name}: codecs have no tagged fields yet, but unknown ones")
        out = ["    #[derive(Debug, Clone, PartialEq)]", "    #[non_exhaustive]", f"    pub struct {self.name} {{"]
        for field in self.fields:
            condition = self.when(field).replace("version ", "").replace(" && ", ", ")
            out += [f"        /// In versions {condition}."] if condition else []
            out += [f"        pub {field.name}: {self.rust_type(field)},"]
        out += ["        pub unknown_tagged_fields: BTreeMap<i32, Bytes>,", "    }", ""]

        out += [f"    impl Default for {self.name} {{", "        fn default() -> Self {", "            Self {"]
        out += [f"                {field.name}: {self.default(field)}," for field in self.fields]
        out += ["                unknown_tagged_fields: BTreeMap::new(),", "            }", "        }", "    }", ""]

        out += [f"    impl {self.name} {{"]
        for field in self.fields:
            out += [
                f"        pub fn with_{field.name}(mut self, value: {self.rust_type(field)}) -> Self {{",
                f"            self.{field.name} = value;",
                "            self",
                "        }",
            ]
        out += ["    }", ""]

        out += [f"    impl Value for {self.name} {{"]
        out += ["        fn put<B: ByteBufMut>(&self, buf: &mut B, form: Form) -> anyhow::Result<()> {"]
        out += ["            let version = form.version;"] if any(map(self.when, self.fields)) else []
        for field in self.fields:
            written = f"self.{field.name}.put(buf, form)?;"
            condition = self.when(field)
            if not condition:
                out += [f"            {written}"]
                continue
            out += [f"            if {condition} {{", f"                {written}"]
            if not field.is_ignorable:
                out += [f"            }} else if self.{field.name} != {self.default(field, self.rust_type(field))} {{"]
                out += [f'                return not_in_version("{field.name}", form);']
            out += ["            }"]
        out += ["            put_unknown_tagged_fields(&self.unknown_tagged_fields, buf, form)", "        }", ""]
        out += ["        fn take<B: ByteBuf>(buf: &mut B, form: Form) -> anyhow::Result<Self> {"]
        out += ["            let version = form.version;"] if any(map(self.when, self.fields)) else []
        out += ["            let mut message = Self::default();"]
        for field in self.fields:
            taken = f"message.{field.name} = Value::take(buf, form)?;"
            condition = self.when(field)
            out += [f"            if {condition} {{", f"                {taken}", "            }"] if condition else [f"            {taken}"]
        out += ["            message.unknown_tagged_fields = take_unknown_tagged_fields(buf, form)?;", "            Ok(message)"]
        out += ["        }", "    }", ""]
        if self.name != message.name:
            return out
        form = f"form(version, {message.first}, {message.last}, {message.flexible})?"
        out += [f"    impl Encodable for {self.name} {{"]
        out += ["        fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> anyhow::Result<()> {"]
        out += [f"            self.put(buf, {form})", "        }", ""]
        out += ["        fn compute_size(&self, version: i16) -> anyhow::Result<usize> {", "            encoded_size(self, version)"]
        out += ["        }", "    }", "", f"    impl Decodable for {self.name} {{"]
        out += ["        fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> anyhow::Result<Self> {"]
        out += [f"            Self::take(buf, {form})", "        }", "    }", ""]
        return out


def codecs(every):
    by_name = {each.name: each for each in every}
    out = [
        "//! Codecs of the messages that kafka-protocol lacks, or lacks versions of.",
        "//!",
        f"//! Generated from the message definitions in Kafka's jar: `{UPDATE}`.",
        "",
        "#![allow(clippy::all)]",
    ]
    for name in [f"{api}{kind}" for api in OWN_CODECS for kind in ("Request", "Response")]:
        message = by_name[name]
        structs = [*message.structs.items(), (name, message.fields)]
        body = [line for struct, fields in structs for line in Codec(message, struct, fields).lines()]
        text = "\n".join(body)
        entities = sorted({new for new in NEW_TYPES.values() if re.search(rf"\b{new}\b", text)})
        uses = ["use std::collections::BTreeMap;", "", "use bytes::Bytes;"]
        uses += [f"use kafka_protocol::messages::{{{', '.join(entities)}}};"] if entities else []
        more = [", StrBytes"] if "StrBytes" in text else []
        uses += [
            "use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};",
            f"use kafka_protocol::protocol::{{Decodable, Encodable{''.join(more)}}};",
        ]
        uses += ["use uuid::Uuid;"] if re.search(r"\bUuid\b", text) else []
        uses += ["", "use super::super::value::{"]
        uses += ["    Form, Value, encoded_size, form, not_in_version, put_unknown_tagged_fields, take_unknown_tagged_fields,", "};", ""]
        out += ["", f"/// {name}, versions {message.first} to {message.last}.", "#[allow(unused_imports)]", f"pub mod {snake(name)} {{"]
        out += [f"    {line}" if line else "" for line in uses] + body[:-1] + ["}"]
    return "\n".join(out) + "\n"


def main():
    every = messages()
    requests = sorted((each for each in every if each.kind == "request"), key=lambda each: each.key)
    made = {SHAPES: shapes(requests), CODECS: codecs(every)}
    failed = 0
    for path, text in made.items():
        file = ROOT / path
        if "--update" in sys.argv:
            file.write_text(text)
        is_up_to_date = file.exists() and file.read_text() == text
        failed += not is_up_to_date
        print("PASS" if is_up_to_date else "FAIL", f"{path} is what Kafka's message definitions say", flush=True)
        if not is_up_to_date:
            print(f"    run {UPDATE}")
    print(f"{len(made) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
