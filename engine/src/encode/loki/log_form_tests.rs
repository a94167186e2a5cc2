//! What becomes of bodies that are JSON log lines.

use super::*;
use crate::policy::LogForm;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const LINE: &str = r#"{"timestamp": "2023-11-14T22:13:20.5Z", "level": "WARN", "service": "cart", "tenant_id": "acme",
    "request_id": "0AF7651916CD43DD8448EB211C80319C", "message": "out of \"stock\"",
    "metadata": {"user": {"id": 7, "vip": true}, "skus": ["a", 1.5], "price": 2.50, "note": null}, "logger": "shop"}"#;

fn encoder_with(log_form: LogForm) -> LokiEncoder {
    encoder_of(LokiEntries { log_form, ..LokiEntries::default() })
}

fn entry_with(log_form: LogForm, record: LogRecord) -> (Entry, Encoded) {
    let logs = vec![resource_logs(texts(&[("service.name", "shop")]), vec![record])];
    let (mut push, encoded) = pushed_with(&encoder_with(log_form), logs);
    (push.streams.remove(0).entries.remove(0), encoded)
}

fn without_time(body: &str) -> LogRecord {
    LogRecord { time_unix_nano: 0, ..record(body) }
}

#[test]
fn its_fields_become_what_loki_finds() {
    let expected = [
        ("trace_id", TRACE),
        ("level", "WARN"),
        ("request_id", "0AF7651916CD43DD8448EB211C80319C"),
        ("severity_text", "WARN"),
        ("severity_number", "13"),
        ("user_id", "7"),
        ("user_vip", "true"),
        ("skus", r#"["a",1.5]"#),
        ("price", "2.5"),
        ("logger", "shop"),
        ("service_extracted", "cart"),
    ];
    let (kept, encoded) = entry_with(LogForm::Keep, without_time(LINE));
    assert_eq!(kept.pairs(), expected);
    assert_eq!((kept.line.as_str(), kept.nanos()), (LINE, 1_700_000_000_500_000_000));
    assert_eq!((encoded.tenant_claims, encoded.label_collisions), (0, 0));
    let (message, _) = entry_with(LogForm::Message, without_time(LINE));
    assert_eq!(message.pairs(), expected);
    assert_eq!(message.line, "out of \"stock\"");
    let (off, _) = entry_with(LogForm::Off, without_time(LINE));
    assert_eq!((off.line.as_str(), off.pairs().len(), off.nanos()), (LINE, 0, NOW));
}

#[test]
fn a_map_is_read_like_a_text() {
    let metadata = map(vec![typed("user", map(vec![typed("id", Any::IntValue(7))]))]);
    let body = map(vec![
        typed("timestamp", Any::IntValue(1_700_000_000_500)),
        text("level", "error"),
        text("message", "no stock"),
        typed("metadata", metadata),
        text("logger", "shop"),
    ]);
    let (entry, _) = entry_with(LogForm::Message, LogRecord { body: given(body), ..without_time("") });
    let expected = [
        ("level", "error"),
        ("severity_text", "error"),
        ("severity_number", "17"),
        ("user_id", "7"),
        ("logger", "shop"),
    ];
    assert_eq!((entry.line.as_str(), entry.nanos()), ("no stock", 1_700_000_000_500_000_000));
    assert_eq!(entry.pairs(), expected);
}

#[test]
fn what_the_record_says_itself_goes_first() {
    let said = LogRecord {
        trace_id: vec![1; 16],
        severity_number: 9,
        severity_text: "INFO".into(),
        attributes: texts(&[("logger", "own"), ("level", "own")]),
        ..record(LINE)
    };
    let (entry, encoded) = entry_with(LogForm::Keep, said);
    let pairs = entry.pairs();
    let value = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    assert_eq!(entry.nanos(), TIME);
    assert_eq!(value("trace_id"), Some("01".repeat(16).as_str()));
    assert_eq!((value("severity_text"), value("severity_number")), (Some("INFO"), Some("9")));
    assert_eq!((value("level"), value("logger")), (Some("WARN"), Some("own")));
    assert_eq!(encoded.label_collisions, 2, "the attribute level, the member logger");
}

#[test]
fn the_time_when_it_was_seen_counts_after_the_one_that_is_written() {
    let seen = LogRecord { observed_time_unix_nano: TIME, ..without_time(LINE) };
    let (entry, _) = entry_with(LogForm::Keep, seen);
    assert_eq!(entry.nanos(), 1_700_000_000_500_000_000);
    assert!(entry.pairs().contains(&("observed_timestamp", "1700000000123456789")));
}

#[test]
fn it_cannot_claim_another_tenant() {
    for (tenant, claims) in [("acme", 0), ("globex", 1)] {
        for body in [
            format!(r#"{{"message":"hi","level":"info","tenant_id":"{tenant}"}}"#),
            format!(r#"{{"message":"hi","level":"info","metadata":{{"tenant":"{tenant}"}}}}"#),
        ] {
            let (entry, encoded) = entry_with(LogForm::Keep, record(&body));
            assert_eq!(encoded.tenant_claims, claims, "{body}");
            assert!(entry.pairs().iter().all(|(name, _)| !name.contains("tenant")), "{entry:?}");
        }
    }
}

#[test]
fn the_service_is_said_only_if_it_is_another() {
    let body = |service: &str| record(&format!(r#"{{"message":"hi","level":"info","service":"{service}"}}"#));
    let service =
        |pairs: Vec<(&str, &str)>| pairs.iter().find(|(name, _)| name.starts_with("service")).map(|p| p.0.to_owned());
    assert_eq!(service(entry_with(LogForm::Keep, body("shop")).0.pairs()), None);
    assert_eq!(service(entry_with(LogForm::Keep, body("cart")).0.pairs()).as_deref(), Some("service_extracted"));
    let no_labels = LokiEncoder::new(&[], LokiEntries::default());
    let (push, _) = pushed_with(&no_labels, vec![resource_logs(vec![], vec![body("cart")])]);
    assert_eq!(service(push.streams[0].entries[0].pairs()).as_deref(), Some("service"));
}

#[test]
fn what_is_no_such_line_is_a_text() {
    let deep = format!(r#"{{"message":"x","level":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    for body in [
        r#"{"message":"no level and no time"}"#,
        r#"{"level":"info","timestamp":"2023-11-14T22:13:20Z"}"#,
        r#"{"message":"cut","level":"in"#,
        r#"{"message":"more","level":"info"} behind"#,
        r#"{"message":{"a":1},"level":"info"}"#,
        r#"[{"message":"a","level":"info"}]"#,
        r#"text {"message":"a","level":"info"}"#,
        "{",
        "{}",
        "",
        &deep,
    ] {
        let (entry, encoded) = entry_with(LogForm::Message, without_time(body));
        assert_eq!((entry.line.as_str(), entry.pairs(), entry.nanos()), (body, vec![], NOW));
        assert_eq!(encoded, Encoded { items: 1, ..Encoded::default() });
    }
}

#[test]
fn fields_that_are_not_what_they_should_be_are_metadata() {
    let body = r#"{"message":"hi","level":"verbose","timestamp":"[redacted]","trace_id":"t-1","service":{"name":"x"},
        "metadata":"bare","request_id":"r-1"}"#;
    let (entry, _) = entry_with(LogForm::Keep, record(body));
    let expected = [
        ("level", "verbose"),
        ("request_id", "r-1"),
        ("severity_text", "verbose"),
        ("service_name", "x"),
        ("metadata", "bare"),
        ("timestamp", "[redacted]"),
        ("trace_id", "t-1"),
    ];
    assert_eq!(entry.pairs(), expected);
}

#[test]
fn a_line_too_large_to_be_read_is_counted_and_passes() {
    let body = format!(r#"{{"message":"{}","level":"info"}}"#, "x".repeat(256 << 10));
    let limits = LokiEntries { max_line_bytes: 1 << 20, ..LokiEntries::default() };
    let (push, encoded) = pushed_with(&encoder_of(limits), vec![resource_logs(vec![], vec![record(&body)])]);
    assert_eq!(push.streams[0].entries[0].line, body);
    assert_eq!(encoded.limited[FormatLimit::LogForm as usize], 1);
}

#[test]
fn its_metadata_is_held_to_the_limits() {
    let members: Vec<String> = (0..5000).map(|n| format!(r#""m{n}":1"#)).collect();
    let body = format!(r#"{{"message":"hi","level":"info","metadata":{{{}}}}}"#, members.join(","));
    let (entry, encoded) = entry_with(LogForm::Message, record(&body));
    let pairs = entry.pairs();
    assert_eq!((pairs.len(), pairs[0], pairs[127]), (128, ("level", "info"), ("metadata_left_out", "4876")));
    assert_eq!(encoded.limited[FormatLimit::Metadata as usize], 4876);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        let key = prop_oneof!["[a-z._]{0,3}", "level|message|timestamp|metadata|tenant|service|trace_id|part"];
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
            proptest::collection::btree_map(key, inner, 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// [`pushed_with`] checks every entry.
    #[test]
    fn any_json_makes_well_formed_entries(metadata in json(), more in json(), message in ".{1,9}", at in any::<prop::sample::Index>()) {
        let body = serde_json::json!({"message": message, "level": "info", "metadata": metadata, "more": more}).to_string();
        let (entry, _) = entry_with(LogForm::Message, record(&body));
        prop_assert_eq!(entry.line, message);
        let end = at.index(body.chars().count());
        let cut: String = body.chars().take(end).collect();
        prop_assert_eq!(entry_with(LogForm::Message, record(&cut)).0.line, cut);
    }
}
