//! The `ot` member of a W3C tracestate: `ot=th:c;rv:d1f6e5a4b3c2d1,vendor=…`.

/// What `key` has in the `ot` member.
pub(super) fn value<'a>(tracestate: &'a str, key: &str) -> Option<&'a str> {
    let member = member(tracestate)?;
    member.split(';').find_map(|part| part.strip_prefix(key)?.strip_prefix(':'))
}

fn member(tracestate: &str) -> Option<&str> {
    tracestate.split(',').find_map(|entry| entry.trim().strip_prefix("ot="))
}

/// W3C Trace Context: at most 32 members. OpenTelemetry: at most 256 characters in `ot`.
const MAX_MEMBERS: usize = 32;
const MAX_MEMBER_CHARS: usize = 256;

/// The tracestate with `th:threshold` in `ot`, which moves to the front, as a changed member must. `None`: there is no
/// room, so the tracestate stays as it is.
pub(super) fn with_threshold(tracestate: &str, threshold: &str) -> Option<String> {
    let mut ot = format!("ot=th:{threshold}");
    for part in member(tracestate).unwrap_or_default().split(';') {
        if !part.is_empty() && !part.starts_with("th:") {
            ot.push(';');
            ot.push_str(part);
        }
    }
    let others: Vec<&str> = tracestate
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty() && !entry.starts_with("ot="))
        .collect();
    if ot.len() - "ot=".len() > MAX_MEMBER_CHARS || others.len() >= MAX_MEMBERS {
        return None;
    }
    Some(std::iter::once(ot.as_str()).chain(others).collect::<Vec<_>>().join(","))
}
