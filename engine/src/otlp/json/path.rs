//! Where a field stands, as JSON would name it: `resourceLogs[0].scopeLogs[0].logRecords[3].body.stringValue`.

use super::schema::{self, Kind, Presence};
use crate::otlp::wire::{Reader, WireError};
use crate::otlp::Signal;

/// The path of the innermost field that begins at or around `offset` of a request.
pub fn path_of(signal: Signal, request: &[u8], offset: usize) -> Result<String, WireError> {
    let mut path = String::new();
    let mut message = schema::request(signal);
    let mut reader = Reader::new(request);
    'down: loop {
        let mut seen = Vec::new();
        while let Some(field) = reader.next_field()? {
            let Some(spec) = message.position(field.number).map(|index| &message.0[index]) else { continue };
            let index = seen.iter().filter(|number| **number == field.number).count();
            seen.push(field.number);
            if !(field.start..field.end).contains(&offset) {
                continue;
            }
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(spec.json_name);
            if spec.presence == Presence::Repeated {
                path.push_str(&format!("[{index}]"));
            }
            if let Kind::Nested(inner) = spec.kind {
                if offset >= field.payload {
                    (message, reader) = (inner, reader.nested(&field)?);
                    continue 'down;
                }
            }
            return Ok(path);
        }
        return Ok(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{any_value::Value, AnyValue, KeyValue};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use prost::Message;

    #[test]
    fn a_path_leads_to_the_field_at_an_offset() {
        let value = |text: &str| Some(AnyValue { value: Some(Value::StringValue(text.into())) });
        let attribute = |text| KeyValue { key: "k".into(), value: value(text), ..KeyValue::default() };
        let record = LogRecord {
            body: value("body"),
            attributes: vec![attribute("one"), attribute("two")],
            ..Default::default()
        };
        let scope_logs = vec![ScopeLogs { log_records: vec![LogRecord::default(), record], ..Default::default() }];
        let request =
            ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..Default::default() }] };
        let bytes = request.encode_to_vec();
        for (text, expected) in [("body", "body.stringValue"), ("two", "attributes[1].value.stringValue")] {
            let offset = memchr::memmem::find(&bytes, text.as_bytes()).unwrap();
            let expected = format!("resourceLogs[0].scopeLogs[0].logRecords[1].{expected}");
            assert_eq!(path_of(Signal::Logs, &bytes, offset), Ok(expected));
        }
    }
}
