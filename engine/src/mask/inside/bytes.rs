//! The few questions that all parts ask of a text. Each looks at a bounded number of bytes, but for the runs it skips.

#[inline]
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Whether a name of a key may hold the byte. Beyond ASCII anything may be a letter.
#[inline]
pub(super) fn is_name(byte: u8) -> bool {
    IS_NAME[usize::from(byte)]
}

/// A table: this is asked of each byte on the left of each sign.
static IS_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let ascii = byte as u8;
        table[byte] = ascii.is_ascii_alphanumeric() || matches!(ascii, b'_' | b'-') || byte >= 0x80;
        byte += 1;
    }
    table
};

/// Whether a word goes on with the byte: quotes and brackets inside of words do not close.
pub(super) fn is_word(byte: Option<&u8>) -> bool {
    byte.is_some_and(|&byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80)
}

pub(super) fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

pub(super) fn skip_blanks(text: &[u8], from: usize) -> usize {
    from + text[from..].iter().take_while(|&&byte| is_blank(byte)).count()
}

pub(super) fn skip_space(text: &[u8], from: usize) -> usize {
    from + text[from..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Where the blanks that end at `end` begin.
pub(super) fn trim_blanks(text: &[u8], floor: usize, end: usize) -> usize {
    end - text[floor..end].iter().rev().take_while(|&&byte| is_blank(byte)).count()
}

/// Where the white space that ends at `end` begins.
pub(super) fn trim_space(text: &[u8], floor: usize, end: usize) -> usize {
    end - text[floor..end].iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// White space, also as `\n` in a text of JSON.
pub(super) fn trim_escaped_space(text: &[u8], floor: usize, end: usize) -> usize {
    let mut end = trim_space(text, floor, end);
    while let [.., b'\\', b'n' | b'r' | b't'] = &text[floor..end] {
        end = trim_space(text, floor, end - 2);
    }
    end
}

pub(super) fn skip_escaped_space(text: &[u8], from: usize) -> usize {
    let mut at = skip_space(text, from);
    while let [b'\\', b'n' | b'r' | b't', ..] = &text[at..] {
        at = skip_space(text, at + 2);
    }
    at
}

pub(super) fn backslashes_before(text: &[u8], floor: usize, at: usize) -> usize {
    text[floor..at].iter().rev().take_while(|&&byte| byte == b'\\').count()
}

pub(super) fn backslashes_at(text: &[u8], at: usize) -> usize {
    text[at..].iter().take_while(|&&byte| byte == b'\\').count()
}

/// The name (of at most `MAX` bytes) that begins at `from`.
pub(super) fn name_end(text: &[u8], from: usize) -> usize {
    const MAX: usize = 64;
    let is_part = |&&byte: &&u8| is_name(byte) || matches!(byte, b'.' | b'[' | b']');
    from + text[from..].iter().take(MAX).take_while(is_part).count()
}

/// Whether another `key=value` or `key: value` begins here. Padding of base64 (`abc==`) is none.
pub(super) fn begins_pair(text: &[u8], from: usize) -> bool {
    let mut at = skip_blanks(text, from);
    at += backslashes_at(text, at);
    if text.get(at).is_some_and(|&byte| is_quote(byte)) {
        at += 1;
    }
    let mut end = name_end(text, at);
    if end == at || !text[at..end].iter().any(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80) {
        return false;
    }
    end += backslashes_at(text, end);
    if text.get(end).is_some_and(|&byte| is_quote(byte)) {
        end += 1;
    }
    let sign = skip_blanks(text, end);
    match text.get(sign) {
        Some(b':') => true,
        Some(b'=') if sign > end => true,
        Some(b'=') => {
            !matches!(text.get(sign + 1), None | Some(b'=' | b',' | b';' | b')' | b']' | b'}' | b' ' | b'\n'))
        }
        Some(b'%') => text[sign..].starts_with(b"%3D") || text[sign..].starts_with(b"%3d"),
        _ => false,
    }
}

/// The line break at `at`, as such or escaped (`\r\n` at any level of escapes): where it ends.
pub(super) fn line_break_end(text: &[u8], at: usize) -> Option<usize> {
    let one = |at: usize, letter: u8, byte: u8| {
        if text.get(at) == Some(&byte) {
            return Some(at + 1);
        }
        let backslashes = backslashes_at(text.get(at..)?, 0);
        (backslashes > 0 && text.get(at + backslashes) == Some(&letter)).then_some(at + backslashes + 1)
    };
    match one(at, b'r', b'\r') {
        Some(end) => Some(one(end, b'n', b'\n').unwrap_or(end)),
        None => one(at, b'n', b'\n'),
    }
}
