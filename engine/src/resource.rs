//! Resources: stamped with their tenant, and relabelled.
//!
//! The `tenant` attribute is the gateway's: what a payload claims is overwritten and counted, and no rule can change it.

use std::borrow::Cow;

use crate::otlp::edit::EditList;
use crate::otlp::text::KeyValue;
use crate::otlp::wire::{put_bytes_field, put_message_field, put_tag, put_varint, Field, Reader, WireError};
use crate::otlp::{
    any_value, count_resource_items, Malformed, Signal, KEY, MAX_RESOURCE_ATTRIBUTES, REQUEST_RESOURCES, RESOURCE,
    RESOURCE_ATTRIBUTES, VALUE,
};
use crate::relabel::{Labels, Outcome, Rules};

pub const TENANT: &str = "tenant";

/// What rewriting came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Rewritten {
    /// Items of resources that the rules dropped.
    pub filtered: u64,
    /// Resources that claimed another tenant.
    pub tenant_claims: u64,
}

/// Collects the edits that stamp and relabel every resource of a validated request.
pub fn rewrite(
    signal: Signal,
    request: &[u8],
    tenant: &str,
    rules: &Rules,
    edits: &mut EditList,
) -> Result<Rewritten, Malformed> {
    let mut rewritten = Rewritten::default();
    let mut requests = Reader::new(request);
    while let Some(entry) = requests.next_field()? {
        if entry.number != REQUEST_RESOURCES {
            continue;
        }
        let reader = requests.nested(&entry)?;
        let attributes = Attributes::read(reader)?;
        let claimed = attributes.claims_other_than(tenant)?;
        rewritten.tenant_claims += u64::from(claimed);
        if rules.is_empty() {
            if claimed || !attributes.has_tenant {
                edits.enter(&entry);
                stamp(reader, &entry, tenant, edits)?;
                edits.exit();
            }
        } else {
            let Some(content) = relabelled(&attributes, tenant, rules)? else {
                rewritten.filtered += count_resource_items(signal, reader)?;
                edits.remove(&entry);
                continue;
            };
            edits.enter(&entry);
            replace(reader, &entry, &content, edits)?;
            edits.exit();
        }
    }
    Ok(rewritten)
}

/// A resource's attributes. A resource that is given twice is one (protobuf merge).
#[derive(Default)]
struct Attributes<'a> {
    /// Encoded KeyValues.
    pairs: Vec<&'a [u8]>,
    /// Fields of Resource that are not attributes, tag and all.
    others: Vec<&'a [u8]>,
    has_tenant: bool,
}

impl<'a> Attributes<'a> {
    fn read(mut entry: Reader<'a>) -> Result<Attributes<'a>, Malformed> {
        let mut attributes = Attributes::default();
        while let Some(resource) = entry.next_field()? {
            if resource.number != RESOURCE {
                continue;
            }
            let content = resource.bytes()?;
            let mut fields = Reader::new(content);
            while let Some(field) = fields.next_field()? {
                if field.number == RESOURCE_ATTRIBUTES {
                    attributes.pairs.push(field.bytes()?);
                } else {
                    attributes.others.push(&content[field.start..field.end]);
                }
            }
        }
        if attributes.pairs.len() > MAX_RESOURCE_ATTRIBUTES {
            return Err(Malformed::TooManyAttributes);
        }
        for pair in &attributes.pairs {
            attributes.has_tenant |= KeyValue::read(pair)?.key == TENANT.as_bytes();
        }
        Ok(attributes)
    }

    fn claims_other_than(&self, tenant: &str) -> Result<bool, WireError> {
        for pair in &self.pairs {
            let pair = KeyValue::read(pair)?;
            if pair.key == TENANT.as_bytes() && pair.value.text()? != tenant {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Without rules: takes other `tenant` attributes out, and puts the right one in at the end.
fn stamp(mut entry: Reader<'_>, around: &Field<'_>, tenant: &str, edits: &mut EditList) -> Result<(), WireError> {
    let mut stamped = false;
    while let Some(resource) = entry.next_field()? {
        if resource.number != RESOURCE {
            continue;
        }
        edits.enter(&resource);
        let mut fields = entry.nested(&resource)?;
        while let Some(field) = fields.next_field()? {
            if field.number == RESOURCE_ATTRIBUTES && KeyValue::read(field.bytes()?)?.key == TENANT.as_bytes() {
                edits.remove(&field);
            }
        }
        if !stamped {
            edits.insert(resource.end, |out| put_attribute(out, TENANT, tenant));
            stamped = true;
        }
        edits.exit();
    }
    if !stamped {
        edits.insert(around.end, |out| put_message_field(out, RESOURCE, |out| put_attribute(out, TENANT, tenant)));
    }
    Ok(())
}

/// The content of the Resource after the rules; `None` if they drop it.
fn relabelled(attributes: &Attributes<'_>, tenant: &str, rules: &Rules) -> Result<Option<Vec<u8>>, WireError> {
    let mut originals: Vec<(Cow<'_, str>, Cow<'_, str>, &[u8])> = Vec::with_capacity(attributes.pairs.len());
    let mut labels = Labels::default();
    for encoded in &attributes.pairs {
        let pair = KeyValue::read(encoded)?;
        let (key, text) = (String::from_utf8_lossy(pair.key), pair.value.text()?);
        labels.set(key.clone(), text.clone());
        originals.push((key, text, encoded));
    }
    labels.set(TENANT, tenant);
    if rules.apply(&mut labels) == Outcome::Drop {
        return Ok(None);
    }
    labels.set(TENANT, tenant.to_owned());
    let mut content = Vec::new();
    for other in &attributes.others {
        content.extend_from_slice(other);
    }
    for (name, value) in labels.iter() {
        match originals.iter().rfind(|(key, _, _)| key == name) {
            // Unchanged: with its own type.
            Some((_, text, encoded)) if text == value => put_bytes_field(&mut content, RESOURCE_ATTRIBUTES, encoded),
            Some(_) => put_attribute(&mut content, name, value),
            // A temporary label of the rules' own.
            None if name.starts_with("__") => {}
            None => put_attribute(&mut content, name, value),
        }
    }
    // An attribute without text is no label: no rule saw it.
    for (key, text, encoded) in &originals {
        if text.is_empty() && labels.get(key).is_none() {
            put_bytes_field(&mut content, RESOURCE_ATTRIBUTES, encoded);
        }
    }
    Ok(Some(content))
}

/// Puts `content` into the place of the entry's resource; no edit if it is that already.
fn replace(mut entry: Reader<'_>, around: &Field<'_>, content: &[u8], edits: &mut EditList) -> Result<(), WireError> {
    let mut replaced = false;
    while let Some(resource) = entry.next_field()? {
        if resource.number != RESOURCE {
            continue;
        }
        if replaced {
            edits.remove(&resource);
        } else if resource.bytes()? != content {
            edits.replace_content(&resource, content);
        }
        replaced = true;
    }
    if !replaced {
        edits.insert(around.end, |out| put_bytes_field(out, RESOURCE, content));
    }
    Ok(())
}

fn put_attribute(out: &mut Vec<u8>, key: &str, value: &str) {
    put_message_field(out, RESOURCE_ATTRIBUTES, |out| {
        put_bytes_field(out, KEY, key.as_bytes());
        put_tag(out, VALUE, 2);
        let mut any = Vec::with_capacity(value.len() + 6);
        put_bytes_field(&mut any, any_value::STRING, value.as_bytes());
        put_varint(out, any.len() as u64);
        out.extend_from_slice(&any);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{RelabelAction, RelabelRule};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{any_value::Value, AnyValue, KeyValue as Pair};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;

    fn pair(key: &str, value: Value) -> Pair {
        Pair { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
    }

    fn text(key: &str, value: &str) -> Pair {
        pair(key, Value::StringValue(value.into()))
    }

    fn request(resource: Option<Vec<Pair>>) -> ExportTraceServiceRequest {
        let spans = vec![Span { name: "a".into(), ..Default::default() }, Span::default()];
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: resource.map(|attributes| Resource { attributes, ..Default::default() }),
                scope_spans: vec![ScopeSpans { spans, ..Default::default() }],
                ..Default::default()
            }],
        }
    }

    /// The attributes after rewriting for tenant acme; everything else must be as it was.
    fn rewritten(input: &ExportTraceServiceRequest, rules: &Rules) -> (Vec<Pair>, Rewritten, bool) {
        let bytes = input.encode_to_vec();
        let mut edits = EditList::default();
        let summary = rewrite(Signal::Traces, &bytes, "acme", rules, &mut edits).unwrap();
        let mut output = ExportTraceServiceRequest::decode(edits.apply(&bytes).as_ref()).unwrap();
        let resource = output.resource_spans.first_mut().and_then(|spans| spans.resource.take());
        if let Some(spans) = output.resource_spans.first() {
            assert_eq!(spans.scope_spans, input.resource_spans[0].scope_spans);
        }
        (resource.map(|resource| resource.attributes).unwrap_or_default(), summary, edits.is_empty())
    }

    #[test]
    fn every_resource_is_stamped_and_claims_are_overwritten() {
        let service = || text("service.name", "shop");
        for (input, expected, claims, untouched) in [
            (None, vec![text(TENANT, "acme")], 0, false),
            (Some(vec![service()]), vec![service(), text(TENANT, "acme")], 0, false),
            (Some(vec![text(TENANT, "acme"), service()]), vec![text(TENANT, "acme"), service()], 0, true),
            (Some(vec![text(TENANT, "globex"), service()]), vec![service(), text(TENANT, "acme")], 1, false),
            (Some(vec![text(TENANT, "acme"), text(TENANT, "x")]), vec![text(TENANT, "acme")], 1, false),
            (Some(vec![pair(TENANT, Value::IntValue(7))]), vec![text(TENANT, "acme")], 1, false),
        ] {
            let (attributes, summary, unedited) = rewritten(&request(input.clone()), &Rules::default());
            assert_eq!(attributes, expected, "{input:?}");
            assert_eq!((summary.tenant_claims, unedited), (claims, untouched), "{input:?}");
        }
    }

    fn rule(action: RelabelAction, source: &str, regex: &str, target: &str, replacement: &str) -> RelabelRule {
        RelabelRule {
            action,
            source_labels: vec![source.into()],
            separator: ";".into(),
            regex: regex.into(),
            modulus: 0,
            target_label: target.into(),
            replacement: replacement.into(),
        }
    }

    #[test]
    fn rules_change_what_they_say_and_nothing_else() {
        let rules = Rules::compile(&[
            rule(RelabelAction::Replace, "service.name", "(.*)", "__tmp", "$1"),
            rule(RelabelAction::Replace, "__tmp", "(.*)-api", "team", "$1"),
            rule(RelabelAction::LabelDrop, "", "host\\..*", "", ""),
            rule(RelabelAction::Replace, "service.name", "(.*)", "tenant", "globex"),
        ])
        .unwrap();
        let input = vec![
            text("service.name", "shop-api"),
            pair("process.pid", Value::IntValue(42)),
            text("host.name", "h1"),
            text("empty", ""),
        ];
        let (attributes, summary, _) = rewritten(&request(Some(input)), &rules);
        let expected = vec![
            text("service.name", "shop-api"),
            pair("process.pid", Value::IntValue(42)),
            text(TENANT, "acme"),
            text("team", "shop"),
            text("empty", ""),
        ];
        assert_eq!(attributes, expected);
        assert_eq!(summary, Rewritten::default());
    }

    #[test]
    fn a_dropped_resource_is_counted_by_its_items() {
        let rules = Rules::compile(&[rule(RelabelAction::Drop, "service.name", "shop", "", "$1")]).unwrap();
        let (_, summary, _) = rewritten(&request(Some(vec![text("service.name", "shop")])), &rules);
        assert_eq!(summary.filtered, 2);
    }
}
