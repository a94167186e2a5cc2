//! The work is linear in the text, with every detector, a regex and a list of words.

use super::*;
use std::time::{Duration, Instant};

const UNITS: [&str; 42] = [
    "@",
    "a@",
    "a@b.co@",
    "%40",
    "%40a.bc",
    "\"@a.bc",
    "\"",
    "\\",
    "\\\"",
    "a",
    "1",
    "4 ",
    "4-",
    "4111 ",
    "4111 1111 1111 1111 ",
    "{",
    "[{",
    "{\"password\":",
    "{\"password\":{",
    "{\"a\":{",
    "\"password\":",
    "\"password\":\"",
    "\"password\" ",
    "\"password\":1,",
    " ",
    "é",
    "é@é.éé",
    "\\\"password\\\":",
    "{\"n\":4111111111111111}",
    "\\\\\\@a.bc",
    ".a-",
    "a.b@a.",
    "password=",
    "4111111111111111,",
    "  \"password\":x ",
    "a@b.co ",
    "TICKET-1 ",
    "https://a:b@c/",
    "eyJhbGciOiJub25lIn0.",
    "%2540",
    "\\u0040",
    "cGFzc3dvcmQ9aHVudGVyMg",
];

fn time_of(masker: &Masker, request: &[u8]) -> Duration {
    let start = Instant::now();
    check_and_mask(Signal::Logs, request, Some(masker), None, &mut EditList::default(), None).unwrap();
    start.elapsed()
}

/// A request twice as large takes about twice the time; quadratic work would take four times as long, and that of a request
/// of megabytes far more than the slack. The shortest of some runs counts: others use the machine as well.
fn assert_linear(masker: &Masker, name: &str, request: impl Fn(usize) -> Vec<u8>) {
    const BYTES: usize = 100_000;
    let time = |bytes: usize| (0..3).map(|_| time_of(masker, &request(bytes))).min().unwrap_or_default();
    let (once, twice) = (time(BYTES), time(2 * BYTES));
    assert!(twice < 3 * once + Duration::from_millis(100), "{name}: {once:?}, and {twice:?} of twice as much");
}

fn masker() -> Masker {
    let budget = MaskBudget { item_bytes: usize::MAX, item_us: 600_000_000 };
    Masker::compile(&policy::Mask { budget, ..everything(MaskAction::Redact) }).unwrap()
}

#[test]
fn pathological_texts_take_linear_time() {
    let masker = masker();
    for unit in UNITS {
        let body = |prefix: &str, bytes: usize| {
            let body = prefix.to_owned() + &unit.repeat(1 + bytes / unit.len());
            log(LogRecord { body: Some(wrap(text(&body))), ..LogRecord::default() })
        };
        assert_linear(&masker, unit, |bytes| body("", bytes));
        assert_linear(&masker, &format!("blanks, then {unit}"), |bytes| body(&" ".repeat(bytes), bytes));
    }
}

#[test]
fn long_keys_take_linear_time() {
    let masker = masker();
    assert_linear(&masker, "a long key of a value with many matches", |bytes| {
        let attributes = vec![attribute(&"k".repeat(8 * bytes), text(&"a@b.co ".repeat(bytes / 7)))];
        log(LogRecord { attributes, ..LogRecord::default() })
    });
}

#[test]
fn many_dropped_items_take_linear_time() {
    let masker = Masker::compile(&policy(MaskAction::DropItem)).unwrap();
    assert_linear(&masker, "dropped records", |bytes| {
        let record = LogRecord { attributes: vec![attribute("password", text("x"))], ..LogRecord::default() };
        let scope_logs = vec![ScopeLogs { log_records: vec![record; bytes / 2], ..ScopeLogs::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    });
}
