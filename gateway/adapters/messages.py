"""The messages of `ext_authz.proto`, made at import: no generated code, no compiler.

They live in a pool of their own, so that other libraries may bring Envoy's whole API.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_TEXT = files(__package__).joinpath("ext_authz.proto").read_text(encoding="ascii")
_MESSAGE = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^  (repeated )?(\w+) (\w+) = (\d+);$", re.MULTILINE)
_SCALARS = {
    "bool": Field.TYPE_BOOL,
    "bytes": Field.TYPE_BYTES,
    "int32": Field.TYPE_INT32,
    "string": Field.TYPE_STRING,
}


def _describe(text: str) -> FileDescriptorProto:
    """Read the few things that our own file uses of the language."""
    package = re.findall(r"^package (.+);$", text, re.MULTILINE)[0]
    file = FileDescriptorProto(name="ext_authz.proto", package=package, syntax="proto3")
    for message, fields in _MESSAGE.findall(text):
        described = file.message_type.add(name=message)
        for repeated, kind, name, number in _FIELD.findall(fields):
            described.field.add(
                name=name,
                number=int(number),
                label=Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL,
                type=_SCALARS.get(kind, Field.TYPE_MESSAGE),
                type_name=None if kind in _SCALARS else f".{package}.{kind}",
            )
    return file


def _classes(file: FileDescriptorProto) -> dict[str, Any]:
    pool = DescriptorPool()
    pool.Add(file)
    return {
        each.name: GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{each.name}"))
        for each in file.message_type
    }


_CLASSES = _classes(_describe(_TEXT))

CheckRequest = _CLASSES["CheckRequest"]
CheckResponse = _CLASSES["CheckResponse"]
HealthRequest = _CLASSES["HealthRequest"]
HealthResponse = _CLASSES["HealthResponse"]
