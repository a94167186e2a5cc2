//! Which rule counts, and what each action makes of each kind of value.

use super::*;
use regex::Regex;

/// The body `before` after masking, and the counts.
pub(super) fn body_by(policy: &policy::Mask, before: Value) -> (Value, MaskCounts) {
    let request = log(LogRecord { body: Some(wrap(before)), ..LogRecord::default() });
    let (bytes, masked) = mask_by(policy, Signal::Logs, &request);
    let decoded = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
    let body = decoded.resource_logs[0].scope_logs[0].log_records[0].body.clone();
    (body.and_then(|body| body.value).unwrap(), masked.counts)
}

fn attribute_by(policy: &policy::Mask, key: &str, value: Value) -> Vec<KeyValue> {
    let request = log(LogRecord { attributes: vec![attribute(key, value)], ..LogRecord::default() });
    let (bytes, _) = mask_by(policy, Signal::Logs, &request);
    let decoded = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
    decoded.resource_logs[0].scope_logs[0].log_records[0].attributes.clone()
}

#[test]
fn the_widest_match_counts_and_of_equal_ones_the_first_rule() {
    let regex = |pattern: &str| Find::Regex(pattern.to_owned());
    let (wide, narrow, email) = (regex("<[^>]*>"), regex("bob"), detectors(&["email"]));
    for (first, second, expected) in [
        (&wide, &narrow, "hi [first]"),
        (&narrow, &wide, "hi [second]"),
        (&regex(r"bob@example\.com"), &email, "hi <[first]>"),
        (&email, &regex(r"bob@example\.com"), "hi <[email]>"),
    ] {
        let rules =
            vec![rule("first", first.clone(), MaskAction::Redact), rule("second", second.clone(), MaskAction::Redact)];
        let (body, counts) = body_by(&policy_of(rules), text("hi <bob@example.com>"));
        assert_eq!(body, text(expected), "{first:?} {second:?}");
        assert_eq!(counts.values.iter().sum::<u64>(), 1);
    }
}

#[test]
fn each_action_on_each_kind_of_value() {
    let card = 4_111_111_111_111_111;
    let hash = "h1:[0-9a-f]{24}";
    let json = |value: &str| format!(r#"\{{"n":{value}\}}"#);
    for (action, in_text, in_number, in_json, of_key) in [
        (
            MaskAction::Redact,
            r"\[credit_card\]",
            r"\[credit_card\]",
            json(r#""\[credit_card\]""#),
            Some(r"\[redacted\]"),
        ),
        (MaskAction::Remove, "", "", json(r#""""#), None),
        (MaskAction::Partial, r"\*{4}1111", r"\*{4}1111", json(r#""\*{4}1111""#), Some(r"\*{4}word")),
        (MaskAction::Pseudonymise, hash, hash, json(&format!("\"{hash}\"")), Some(hash)),
        (MaskAction::FormatPreserving, "4[0-9]{15}", "4[0-9]{15}", json(r#""4[0-9]{15}""#), Some(r"\[redacted\]")),
        (
            MaskAction::DropItem,
            r"\[credit_card\]",
            r"\[credit_card\]",
            json(r#""\[credit_card\]""#),
            Some(r"\[redacted\]"),
        ),
    ] {
        let rules = vec![rule("cards", detectors(&["credit_card"]), action), rule("keys", keys(&["secret"]), action)];
        let policy = policy_of(rules);
        let shows = |value: &Value, expected: &str| {
            let shown = match value {
                Value::StringValue(text) => text.clone(),
                Value::IntValue(number) => number.to_string(),
                other => format!("{other:?}"),
            };
            let matches = Regex::new(&format!("^{expected}$")).unwrap().is_match(&shown);
            assert!(matches && !shown.contains(&card.to_string()), "{action:?}: {shown} is not {expected}");
        };
        shows(&body_by(&policy, text("4111111111111111")).0, in_text);
        shows(&body_by(&policy, Value::IntValue(card)).0, in_number);
        shows(&body_by(&policy, text(r#"{"n":4111111111111111}"#)).0, &in_json);
        let nested = Value::KvlistValue(KeyValueList { values: vec![attribute("a", text("a long password"))] });
        for value in [text("a long password"), nested, Value::BytesValue(b"\xff a long password".to_vec())] {
            let is_bytes = matches!(value, Value::BytesValue(_));
            let after = attribute_by(&policy, "Secret", value);
            match of_key {
                None => assert!(after.is_empty(), "{after:?}"),
                // Of bytes the end of their base64 is shown.
                Some(_) if is_bytes && action == MaskAction::Partial => assert_eq!(after.len(), 1),
                Some(expected) => shows(after[0].value.as_ref().unwrap().value.as_ref().unwrap(), expected),
            }
        }
    }
}

#[test]
fn one_thing_has_one_pseudonym_as_text_and_as_number() {
    let policy = policy_of(vec![rule("cards", detectors(&["credit_card"]), MaskAction::Pseudonymise)]);
    let of = |value| body_by(&policy, value).0;
    assert_eq!(of(Value::IntValue(4_111_111_111_111_111)), of(text("4111-1111-1111-1111")));
    assert_eq!(of(Value::DoubleValue(4_111_111_111_111_111.0)), of(text("4111-1111-1111-1111")));
}

#[test]
fn a_regex_that_could_split_a_character_is_refused() {
    let policy = policy_of(vec![rule("bytes", Find::Regex("(?-u:\\xc3)".to_owned()), MaskAction::Redact)]);
    let error = Masker::compile(&policy).unwrap_err();
    assert!(error.starts_with("rules[0].regex: "), "{error}");
}

#[test]
fn a_text_at_the_limit_is_searched_and_a_longer_one_removed() {
    let budget = |item_bytes| policy::Mask {
        budget: MaskBudget { item_bytes, ..MaskBudget::default() },
        ..policy(MaskAction::Redact)
    };
    let body = "bob@example.com";
    for (limit, expected, failures) in [(body.len(), "[email]", 0), (body.len() - 1, "[removed]", 1)] {
        let (after, counts) = body_by(&budget(limit), text(body));
        assert_eq!((after, counts.failures[Failure::Size as usize]), (text(expected), failures));
    }
    // Each item has its own.
    let record = || LogRecord { body: Some(wrap(text(body))), ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![record(), record()], ..ScopeLogs::default() }];
    let request = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..Default::default() }] };
    let (_, masked) = mask_by(&budget(body.len()), Signal::Logs, &request.encode_to_vec());
    assert_eq!(masked.counts, MaskCounts { values: vec![0, 2], ..MaskCounts::default() });
}

#[test]
fn a_search_out_of_time_removes_the_text() {
    let budget = MaskBudget { item_us: 0, ..MaskBudget::default() };
    let policy = policy::Mask { budget, ..policy(MaskAction::Redact) };
    let (after, counts) = body_by(&policy, text(&"a@b.co 1111 ".repeat(10_000)));
    assert_eq!((after, counts.failures[Failure::Time as usize]), (text("[removed]"), 1));
}

#[test]
fn a_dry_run_counts_the_same_and_changes_nothing() {
    for seed in 0..50 {
        for (signal, mut request) in Random::requests(seed, false) {
            put_bytes_field(&mut request, 99, b"unknown");
            let wet = mask_by(&everything(MaskAction::DropItem), signal, &request).1;
            let dry = policy::Mask { dry_run: true, ..everything(MaskAction::DropItem) };
            let (after, dry) = mask_by(&dry, signal, &request);
            assert_eq!((after, dry.counts, dry.dropped), (request, wet.counts, Vec::new()));
        }
    }
}

#[test]
fn fields_that_the_schema_does_not_know_go() {
    let record = LogRecord { severity_text: "x".to_owned(), ..LogRecord::default() };
    let mut with_unknown = record.encode_to_vec();
    put_bytes_field(&mut with_unknown, 4, b"bob@example.com");
    let mut request = Vec::new();
    put_message_field(&mut request, 1, |out| {
        put_message_field(out, 2, |out| put_bytes_field(out, 2, &with_unknown));
        put_bytes_field(out, 1000, b"bob@example.com");
    });
    put_bytes_field(&mut request, 7, b"hunter2");
    assert_eq!(mask(Signal::Logs, &request, MaskAction::Redact).0, log(record));
}
