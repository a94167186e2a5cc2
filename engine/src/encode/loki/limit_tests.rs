//! What becomes of entries and labels that are larger than Loki takes.

use super::*;
use crate::encode::DropReason;
use crate::policy::LongLines;

const LIMITS: LokiEntries = LokiEntries {
    max_line_bytes: 1024,
    long_lines: LongLines::Cut,
    max_metadata_bytes: 1024,
    max_metadata_pairs: 16,
    log_form: crate::policy::LogForm::Keep,
};

fn limited(encoded: &Encoded, limit: FormatLimit) -> u64 {
    encoded.limited[limit as usize]
}

/// The entries of a record, and what was counted.
fn entries_of(limits: LokiEntries, record: LogRecord) -> (Vec<Entry>, Encoded) {
    let (push, encoded) = pushed_with(&encoder_of(limits), vec![resource_logs(vec![], vec![record])]);
    (push.streams.into_iter().flat_map(|stream| stream.entries).collect(), encoded)
}

#[test]
fn a_line_of_just_the_limit_passes_and_a_longer_one_is_cut() {
    let (entries, encoded) = entries_of(LIMITS, record(&"x".repeat(1024)));
    assert_eq!((entries[0].line.len(), encoded.limited), (1024, [0; 5]));
    let (entries, encoded) = entries_of(LIMITS, record(&"x".repeat(1025)));
    assert_eq!(entries[0].line, format!("{} [cut: 28 bytes left out]", "x".repeat(997)));
    assert_eq!((limited(&encoded, FormatLimit::LineCut), encoded.items), (1, 1));
}

#[test]
fn a_long_line_is_split_into_entries_of_its_time_that_find_each_other() {
    let limits = LokiEntries { long_lines: LongLines::Split, ..LIMITS };
    let body: String = (0..2500).map(|n| char::from(b'a' + (n / 100 % 26) as u8)).collect();
    let long = LogRecord {
        trace_id: vec![1; 16],
        severity_text: "WARN".into(),
        attributes: texts(&[("user", "7"), ("part", "of the record")]),
        ..record(&body)
    };
    let (push, encoded) = pushed_with(
        &encoder_of(limits),
        vec![resource_logs(texts(&[("host", "h1")]), vec![long, record("short"), record(&"y".repeat(1024))])],
    );
    let entries = &push.streams[0].entries;
    assert_eq!(entries.iter().map(|entry| entry.line.len()).collect::<Vec<_>>(), [1024, 1024, 452, 5, 1024]);
    assert_eq!(entries[..3].iter().map(|entry| entry.line.as_str()).collect::<String>(), body);
    assert!(entries.iter().all(|entry| entry.nanos() == TIME));
    let trace = "01".repeat(16);
    let found = |part: &'static str| vec![("trace_id", trace.as_str()), ("part", part)];
    let rest = [("severity_text", "WARN"), ("user", "7"), ("host", "h1")];
    let first: Vec<_> = found("1/3").into_iter().chain(rest).collect();
    assert_eq!(entries[0].pairs(), first, "all that is known of the record is with the first");
    assert_eq!(entries[1].pairs(), found("2/3"));
    assert_eq!(entries[2].pairs(), found("3/3"));
    assert_eq!((limited(&encoded, FormatLimit::LineSplit), encoded.items, encoded.label_collisions), (1, 5, 1));
}

#[test]
fn pieces_of_the_same_text_differ_in_time_since_loki_would_drop_them() {
    let limits = LokiEntries { long_lines: LongLines::Split, ..LIMITS };
    let (entries, _) = entries_of(limits, record(&"x".repeat(2049)));
    let times: Vec<_> = entries.iter().map(|entry| (entry.nanos() - TIME, entry.line.len())).collect();
    assert_eq!(times, [(0, 1024), (1, 1024), (1, 1)]);
}

#[test]
fn a_long_line_is_dropped_by_reason_and_its_stream_with_it() {
    let limits = LokiEntries { long_lines: LongLines::Drop, ..LIMITS };
    let (entries, encoded) = entries_of(limits, record(&"x".repeat(1025)));
    assert_eq!(entries, []);
    assert_eq!((encoded.items, encoded.dropped), (1, vec![(DropReason::LineTooLong, 1)]));
}

#[test]
fn metadata_over_its_limits_goes_from_the_end_and_says_so() {
    let names: Vec<String> = (0..20).map(|n| format!("a{n:02}")).collect();
    let many: Vec<_> = names.iter().map(|name| text(name, "v")).collect();
    let many = LogRecord { attributes: many, trace_id: vec![1; 16], severity_text: "WARN".into(), ..record("hi") };
    let (entries, encoded) = entries_of(LIMITS, many);
    let pairs = entries[0].pairs();
    assert_eq!(pairs.len(), 16);
    assert_eq!((pairs[0].0, pairs[1], pairs[14]), ("trace_id", ("severity_text", "WARN"), ("a12", "v")));
    assert_eq!(pairs[15], ("metadata_left_out", "7"));
    assert_eq!((limited(&encoded, FormatLimit::Metadata), encoded.items), (7, 1), "never the line");

    let (big, fits) = ("x".repeat(1000), "y".repeat(500));
    let large = texts(&[("stack", &big), ("fits", &fits), ("over", &fits), ("small", "s")]);
    let (entries, encoded) = entries_of(LIMITS, LogRecord { attributes: large, ..record("hi") });
    let expected = [("fits", fits.as_str()), ("small", "s"), ("metadata_left_out", "2")];
    assert_eq!(entries[0].pairs(), expected, "what fits stays, wherever it stands");
    assert_eq!(limited(&encoded, FormatLimit::Metadata), 2);
}

#[test]
fn metadata_of_just_the_limits_stays_whole() {
    let fifteen: Vec<_> = (0..16).map(|n| text(&format!("a{n:02}"), "v")).collect();
    let (entries, encoded) = entries_of(LIMITS, LogRecord { attributes: fifteen, ..record("hi") });
    assert_eq!((entries[0].pairs().len(), encoded.limited), (16, [0; 5]));
    let value = "x".repeat(1020);
    let (entries, encoded) = entries_of(LIMITS, LogRecord { attributes: texts(&[("name", &value)]), ..record("hi") });
    assert_eq!((entries[0].pairs().len(), encoded.limited), (1, [0; 5]));
}

#[test]
fn the_metadata_of_a_large_resource_is_held_to_the_limit_in_each_entry() {
    let resource: Vec<_> = (0..40).map(|n| text(&format!("r{n}"), "v")).collect();
    let (push, encoded) = pushed_with(
        &encoder_of(LIMITS),
        vec![resource_logs(
            resource,
            vec![record("a"), LogRecord { attributes: texts(&[("own", "1")]), ..record("b") }],
        )],
    );
    let [a, b] = push.streams[0].entries.as_slice() else { panic!("two entries") };
    assert_eq!((a.pairs().len(), a.pairs()[15]), (16, ("metadata_left_out", "25")));
    assert_eq!((b.pairs()[0], b.pairs()[15]), (("own", "1"), ("metadata_left_out", "26")));
    assert_eq!(limited(&encoded, FormatLimit::Metadata), 51);
}

#[test]
fn a_long_label_value_begins_in_the_label_and_is_whole_in_the_metadata() {
    let value = format!("{}é", "s".repeat(2047));
    let (push, encoded) = pushed(vec![resource_logs(texts(&[("service.name", &value)]), vec![record("hi")])]);
    assert_eq!(push.streams[0].labels, format!("{{service=\"{}\", tenant=\"acme\"}}", "s".repeat(2047)));
    assert_eq!(push.streams[0].entries[0].pairs(), [("service_name", value.as_str())]);
    assert_eq!(limited(&encoded, FormatLimit::LabelValue), 1);
}

#[test]
fn a_long_name_does_not_multiply_over_the_members_of_its_map() {
    let members = || (0..50_000).map(|n| typed(&n.to_string(), Any::BoolValue(true))).collect();
    let name = "n".repeat(100_000);
    let attributes = vec![typed(&name, map(members())), text(&name, "v"), text("short", "v")];
    let (entries, encoded) = entries_of(LIMITS, LogRecord { attributes, ..record("hi") });
    assert_eq!(entries[0].pairs(), [("short", "v"), ("metadata_left_out", "50001")]);
    let inner = format!(r#"{{"{}":{{{}}}}}"#, "n".repeat(2000), [r#""a":1"#; 9].join(","));
    let body = format!(r#"{{"message":"hi","level":"info","{name}":1,"metadata":{inner},"x":1}}"#);
    let (entries, more) = entries_of(LokiEntries { max_line_bytes: 1 << 20, ..LIMITS }, record(&body));
    assert_eq!(entries[0].pairs()[3..], [("x", "1"), ("metadata_left_out", "10")]);
    let attributes = vec![typed("m", map(members())), text("after", "v")];
    let (entries, most) = entries_of(LIMITS, LogRecord { attributes, ..record("hi") });
    assert_eq!(entries[0].pairs().last(), Some(&("metadata_left_out", "49986")));
    let lost = [&encoded, &more, &most].map(|encoded| limited(encoded, FormatLimit::Metadata));
    assert_eq!(lost, [50_001, 10, 49_986]);
}

#[test]
fn what_a_log_line_says_itself_is_read_behind_any_number_of_members() {
    let many: Vec<String> = (0..9000).map(|n| format!(r#""m{n}":1"#)).collect();
    let body = format!(r#"{{{},"level":"info","message":"hi"}}"#, many.join(","));
    let limits = LokiEntries { log_form: crate::policy::LogForm::Message, ..LIMITS };
    let (entries, encoded) = entries_of(limits, record(&body));
    assert_eq!((entries[0].line.as_str(), entries[0].pairs()[0]), ("hi", ("level", "info")));
    assert_eq!(limited(&encoded, FormatLimit::Metadata), 9000 - 12);
}

proptest! {
    /// [`pushed_with`] checks the rest.
    #[test]
    fn no_entry_is_larger_than_its_limits(
        input in requests(),
        long_lines in prop_oneof![Just(LongLines::Cut), Just(LongLines::Split), Just(LongLines::Drop)],
        body in "(.{0,40}){0,30}",
    ) {
        let mut input = input;
        for record in input.iter_mut().flat_map(|logs| &mut logs.scope_logs).flat_map(|scope| &mut scope.log_records) {
            record.body = given(Any::StringValue(body.clone()));
            record.time_unix_nano = record.time_unix_nano.min(1 << 62);
        }
        // Smaller than a configuration may have them.
        let limits = LokiEntries { max_line_bytes: 64, long_lines, max_metadata_bytes: 300, max_metadata_pairs: 14, ..LIMITS };
        let (push, _) = pushed_with(&encoder_of(limits), input);
        for entry in push.streams.iter().flat_map(|stream| &stream.entries) {
            let bytes: usize = entry.pairs().iter().map(|(name, value)| name.len() + value.len()).sum();
            prop_assert!(entry.line.len() <= 64 && bytes <= 300 && entry.pairs().len() <= 14, "{:?}", entry);
        }
    }
}
