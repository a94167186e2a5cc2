//! OpenTelemetry names and units as Prometheus writes them.
//!
//! Sources: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility"; Prometheus' default translation
//! strategy, UnderscoreEscapingWithSuffixes.

use std::borrow::Cow;

/// What a metric is, as far as its name depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    Gauge,
    MonotonicCounter,
    Other,
}

/// The metric family's name, with unit and type suffixes; empty if nothing of `name` is left.
pub(super) fn metric_name(name: &str, unit: &str, kind: NameKind) -> String {
    let mut tokens: Vec<&str> = name.split(|c| !is_metric_char(c)).filter(|token| !token.is_empty()).collect();
    let (main, per) = unit_suffixes(unit);
    if !main.is_empty() && !tokens.contains(&main.as_str()) {
        tokens.push(main.trim_end_matches('_'));
    }
    let per = per.trim_end_matches('_');
    if !per.is_empty() && per != "per" && !tokens.contains(&per) {
        tokens.push(per);
    }
    match kind {
        NameKind::MonotonicCounter => move_to_end(&mut tokens, "total"),
        NameKind::Gauge if unit == "1" => move_to_end(&mut tokens, "ratio"),
        NameKind::Gauge | NameKind::Other => {}
    }
    let joined = tokens.join("_");
    if joined.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("_{joined}");
    }
    joined
}

fn is_metric_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

fn move_to_end<'t>(tokens: &mut Vec<&'t str>, suffix: &'t str) {
    tokens.retain(|token| *token != suffix);
    tokens.push(suffix);
}

/// The unit as the metadata names it: `meters_per_second`.
pub(super) fn unit_name(unit: &str) -> String {
    let (main, per) = unit_suffixes(unit);
    let joined = if main.is_empty() || per.is_empty() { main + &per } else { format!("{main}_{per}") };
    joined.trim_matches('_').to_owned()
}

/// `("meters", "per_second")` of `m/s`. A unit in braces is an annotation, not a unit (UCUM).
fn unit_suffixes(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let known = |unit: &str| !unit.is_empty() && !unit.contains(['{', '}']);
    let (main, per) = (main.trim(), per.trim());
    let main = if known(main) { clean(main_unit(main)) } else { String::new() };
    let per = if known(per) { clean(&format!("per_{}", per_unit(per))) } else { String::new() };
    (main, per)
}

/// Other characters become underscores, runs of underscores one, leading ones none.
fn clean(unit: &str) -> String {
    let mut out = String::with_capacity(unit.len());
    for c in unit.chars() {
        let c = if is_metric_char(c) { c } else { '_' };
        if c != '_' || !(out.is_empty() || out.ends_with('_')) {
            out.push(c);
        }
    }
    out
}

fn main_unit(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

fn per_unit(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

/// A label name; empty only if `key` is.
pub(crate) fn label_name(key: &str) -> Cow<'_, str> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = key.as_bytes().first().copied().unwrap_or(b'_');
    if first.is_ascii_alphabetic() && key.bytes().all(valid) {
        return Cow::Borrowed(key);
    }
    let mut name = String::with_capacity(key.len() + 4);
    if first.is_ascii_digit() {
        name.push_str("key_");
    }
    name.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
    // One leading underscore is left to Prometheus' own labels, as two are. A key of which nothing but underscores is left
    // (Prometheus refuses the point) stays a label: without it, points that differ in it only would be one series.
    let underscores_only = !name.is_empty() && name.bytes().all(|byte| byte == b'_');
    if underscores_only || (name.starts_with('_') && !name.starts_with("__")) {
        name.insert_str(0, "key");
    }
    Cow::Owned(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_unit_and_type() {
        use NameKind::{Gauge, MonotonicCounter, Other};
        for (name, unit, kind, expected) in [
            ("http.server.duration", "ms", Other, "http_server_duration_milliseconds"),
            ("http.server.requests", "1", MonotonicCounter, "http_server_requests_total"),
            ("requests.total", "", MonotonicCounter, "requests_total"),
            ("total.requests", "{request}", MonotonicCounter, "requests_total"),
            ("system.cpu.utilization", "1", Gauge, "system_cpu_utilization_ratio"),
            ("system.filesystem.usage", "By", Other, "system_filesystem_usage_bytes"),
            ("speed", "m/s", Gauge, "speed_meters_per_second"),
            ("speed", "/s", Gauge, "speed_per_second"),
            ("network.io.bytes", "By", MonotonicCounter, "network_io_bytes_total"),
            ("a__b..c", "", Gauge, "a_b_c"),
            ("5xx", "", Gauge, "_5xx"),
            ("temp", "Cel", Gauge, "temp_celsius"),
            ("room", "{person}/m", Gauge, "room_per_minute"),
            ("üü", "", Gauge, ""),
            ("queue", "foo-bar", Gauge, "queue_foo_bar"),
        ] {
            assert_eq!(metric_name(name, unit, kind), expected, "{name} in {unit:?}");
        }
    }

    #[test]
    fn label_names_are_sanitised() {
        for (key, expected) in [
            ("http.method", "http_method"),
            ("plain", "plain"),
            ("1st", "key_1st"),
            ("_private", "key_private"),
            ("__meta", "__meta"),
            ("a..b", "a__b"),
            ("größe", "gr__e"),
            ("ü", "key_"),
            ("...", "key___"),
            ("", ""),
        ] {
            assert_eq!(label_name(key), expected, "{key}");
        }
    }
}
