//! Lines that are longer than the backend takes: cut, split or dropped, by policy.

use std::collections::HashSet;

use super::record::Piece;
use crate::encode::{DropReason, Encoded, FormatLimit};
use crate::otlp::wire::WireError;
use crate::policy::{LokiEntries, LongLines};

/// Gives `put` what becomes of a `line` that is too long: how many nanoseconds later than the record, the text, and which
/// piece it is, if it is one of several.
#[cold]
pub(super) fn shorten(
    line: &[u8],
    policy: &LokiEntries,
    encoded: &mut Encoded,
    mut put: impl FnMut(u64, &[u8], Option<Piece>, &mut Encoded) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let max_bytes = policy.max_line_bytes;
    match policy.long_lines {
        LongLines::Cut => {
            encoded.limit(FormatLimit::LineCut, 1);
            put(0, &cut(line, max_bytes), None, encoded)
        }
        LongLines::Split => {
            encoded.limit(FormatLimit::LineSplit, 1);
            let of = pieces(line, max_bytes).count();
            let mut at_this_time = HashSet::new();
            let mut delay = 0;
            for (index, piece) in pieces(line, max_bytes).enumerate() {
                // Loki takes an entry of the same time and text for one that was sent twice, and drops it.
                if !at_this_time.insert(piece) {
                    at_this_time = HashSet::from([piece]);
                    delay += 1;
                }
                put(delay, piece, Some(Piece { number: index + 1, of }), encoded)?;
            }
            Ok(())
        }
        LongLines::Drop => {
            encoded.items += 1;
            encoded.drop_items(DropReason::LineTooLong, 1);
            Ok(())
        }
    }
}

/// The beginning of a line, and a mark that says how much is missing; no more than `max_bytes` together.
fn cut(line: &[u8], max_bytes: usize) -> Vec<u8> {
    let mark = |left_out: usize| format!(" [cut: {left_out} bytes left out]");
    let kept = boundary(line, max_bytes.saturating_sub(mark(line.len()).len()));
    [&line[..kept], mark(line.len() - kept).as_bytes()].concat()
}

fn pieces(line: &[u8], max_bytes: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let (piece, behind) = rest.split_at(boundary(rest, max_bytes));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The beginning of a text, no more than `max_bytes`, no character cut.
pub(super) fn beginning(text: &str, max_bytes: usize) -> &str {
    &text[..boundary(text.as_bytes(), max_bytes)]
}

/// Where the last character ends that ends within `max_bytes`; `max_bytes` itself in what is no UTF-8.
fn boundary(text: &[u8], max_bytes: usize) -> usize {
    if text.len() <= max_bytes {
        return text.len();
    }
    let begins_character = |at: &usize| text[*at] & 0b1100_0000 != 0b1000_0000;
    let nearest = (max_bytes.saturating_sub(3)..=max_bytes).rev().find(begins_character);
    nearest.filter(|&at| at > 0).unwrap_or(max_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_the_line_and_no_longer_than_allowed(line in ".{0,200}", max_bytes in 4usize..60) {
            let whole: Vec<&[u8]> = pieces(line.as_bytes(), max_bytes).collect();
            prop_assert_eq!(whole.concat(), line.as_bytes());
            for piece in whole {
                prop_assert!(piece.len() <= max_bytes && !piece.is_empty());
                prop_assert!(std::str::from_utf8(piece).is_ok(), "no character is cut");
            }
        }

        #[test]
        fn a_cut_line_is_no_longer_than_allowed_and_says_what_it_lost(line in ".{100,300}", max_bytes in 40usize..90) {
            let cut = String::from_utf8(cut(line.as_bytes(), max_bytes)).expect("no character is cut");
            prop_assert!(cut.len() <= max_bytes);
            let (kept, mark) = cut.rsplit_once(" [cut: ").expect("a mark");
            prop_assert!(line.starts_with(kept));
            prop_assert_eq!(mark, format!("{} bytes left out]", line.len() - kept.len()));
        }

        #[test]
        fn bytes_that_are_no_text_are_cut_somewhere(line in proptest::collection::vec(any::<u8>(), 0..300), max_bytes in 1usize..90) {
            prop_assert_eq!(pieces(&line, max_bytes).collect::<Vec<_>>().concat(), line);
        }
    }
}
