//! What goes along with a member that is removed, so that the structure around it stays one.

use super::bytes::{is_blank, line_break_end, skip_blanks, trim_blanks};
use super::Member;
use std::ops::Range;

/// Widens `whole` (key and value so far) by a separator. Literals of a statement (`whole` is no more than the value) are
/// left: their place must stay filled.
pub(super) fn take_along(text: &[u8], found: &mut [Member]) {
    let (mut cut_end, mut rest) = (0, found);
    while let Some((member, behind)) = rest.split_first_mut() {
        if member.whole != member.value {
            let end = member.whole.end;
            member.whole = with_separator(text, member.whole.clone(), cut_end);
            // The value that is not closed may begin with the blanks behind this one.
            let next = behind.first().map_or(text.len(), |next| next.whole.start);
            member.whole.end = member.whole.end.min(next.max(end));
        }
        cut_end = member.whole.end;
        rest = behind;
    }
}

fn with_separator(text: &[u8], pair: Range<usize>, cut_end: usize) -> Range<usize> {
    if pair.start < cut_end {
        return pair;
    }
    let before = trim_blanks(text, cut_end, pair.start);
    let after = skip_blanks(text, pair.end);
    let left = text[cut_end..before].last().copied().filter(|&byte| is_separator(byte));
    let right = text.get(after).copied().filter(|&byte| is_separator(byte));
    if left.is_some() && (right.is_none() || right == left) {
        return before - 1..pair.end;
    }
    if right.is_some() {
        return pair.start..skip_blanks(text, after + 1);
    }
    let line_begins = before == 0 || text[..before].ends_with(b"\n") || text[..before].ends_with(b"\\n");
    let line_ends = line_break_end(text, after);
    if let (true, Some(end)) = (line_begins, line_ends) {
        return before..end;
    }
    if before < pair.start && (after > pair.end || line_ends.is_some() || after == text.len()) {
        return before..pair.end;
    }
    if line_begins && after == text.len() && text[cut_end..before].ends_with(b"\n") {
        return before - 1..pair.end;
    }
    if after > pair.end && text.get(pair.end).is_some_and(|&byte| is_blank(byte)) {
        return pair.start..after;
    }
    pair
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b',' | b';' | b'&' | b'|')
}
