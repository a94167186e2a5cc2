"""The rows that engine/src/otlp/json/schema.rs must have, from opentelemetry-proto's descriptors."""

import re

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ROOTS = (ExportTraceServiceRequest, ExportMetricsServiceRequest, ExportLogsServiceRequest)
HEX_FIELDS = {"trace_id", "span_id", "parent_span_id"}
KINDS = {
    FieldDescriptor.TYPE_STRING: "Text",
    FieldDescriptor.TYPE_BOOL: "Bool",
    FieldDescriptor.TYPE_DOUBLE: "Double",
    FieldDescriptor.TYPE_INT32: "Int32",
    FieldDescriptor.TYPE_UINT32: "UInt32",
    FieldDescriptor.TYPE_SINT32: "SInt32",
    FieldDescriptor.TYPE_INT64: "Int64",
    FieldDescriptor.TYPE_UINT64: "UInt64",
    FieldDescriptor.TYPE_FIXED32: "Fixed32",
    FieldDescriptor.TYPE_FIXED64: "Fixed64",
    FieldDescriptor.TYPE_SFIXED64: "SFixed64",
}


def constant(descriptor: Descriptor) -> str:
    """`ExponentialHistogramDataPoint.Buckets` is `EXPONENTIAL_HISTOGRAM_DATA_POINT_BUCKETS`."""
    parts = [descriptor.name]
    while descriptor.containing_type is not None:
        descriptor = descriptor.containing_type
        parts.insert(0, descriptor.name)
    return "_".join(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part).upper() for part in parts)


def kind(field: FieldDescriptor) -> str:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return f"Nested(&{constant(field.message_type)})"
    if field.type == FieldDescriptor.TYPE_ENUM:
        name = field.enum_type.name
        parent = field.enum_type.containing_type
        return f"Enum({constant(parent) + '_' if parent else ''}{re.sub(r'(?<=[a-z])(?=[A-Z])', '_', name).upper()})"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "Hex" if field.name in HEX_FIELDS else "Base64"
    return KINDS[field.type]


def presence(field: FieldDescriptor) -> str:
    if field.is_repeated:
        return "Repeated"
    return "Explicit" if field.has_presence else "Implicit"


def messages() -> list[Descriptor]:
    """Every message that a request can hold, parents first."""
    found: list[Descriptor] = []

    def visit(descriptor: Descriptor) -> None:
        if descriptor in found:
            return
        found.append(descriptor)
        for field in descriptor.fields:
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                visit(field.message_type)

    for root in ROOTS:
        visit(root.DESCRIPTOR)
    return found


def enums() -> dict[str, list[tuple[str, int]]]:
    """Constant name to the enum's values."""
    return {
        kind(field)[5:-1]: [(value.name, value.number) for value in field.enum_type.values]
        for message in messages()
        for field in message.fields
        if field.type == FieldDescriptor.TYPE_ENUM
    }


def table() -> str:
    """The whole of the tables, as Rust."""
    lines: list[str] = []
    for message in messages():
        lines.append(f"pub(in super::super) static {constant(message)}: Message = Message(&[")
        for field in sorted(message.fields, key=lambda field: field.number):
            names = f'"{field.json_name}", "{field.name}"'
            lines.append(f"    field({field.number}, {names}, {presence(field)}, {kind(field)}),")
        lines.append("]);")
    for name, values in enums().items():
        lines.append(f"const {name}: Names = &[")
        lines += [f'    ("{value}", {number}),' for value, number in values]
        lines.append("];")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
