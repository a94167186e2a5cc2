//! Values of the schema as masking sees them.

use crate::otlp::any_value;
use crate::otlp::walk::Number;
use crate::otlp::wire::put_bytes_field;

/// `[redacted]` as an encoded AnyValue.
pub(super) const REDACTED_VALUE: &[u8] = b"\x0a\x0a[redacted]";

/// Appends an AnyValue's content: a string.
pub(super) fn put_text_value(text: &[u8], out: &mut Vec<u8>) {
    put_bytes_field(out, any_value::STRING, text);
}

/// The number as whole digits, if it is that. Senders whose numbers are all doubles (JavaScript) send long ids that way.
#[inline]
pub(super) fn whole_number(number: Number) -> Option<u64> {
    match number {
        Number::Int(value) => u64::try_from(value).ok(),
        Number::Double(value) => ((1.0..1e19).contains(&value) && value.fract() == 0.0).then_some(value as u64),
    }
}

/// Texts of one request in which nothing was found: the same few come with every item. A collision only costs the work of
/// searching again.
pub(super) struct TextCache<'a> {
    slots: [&'a [u8]; SLOTS],
}

const SLOTS: usize = 256;
/// Longer texts are rarely the same, and cost more to compare.
const LONGEST: usize = 512;

impl Default for TextCache<'_> {
    fn default() -> Self {
        TextCache { slots: [b""; SLOTS] }
    }
}

impl<'a> TextCache<'a> {
    #[inline]
    pub(super) fn holds(&self, text: &[u8]) -> bool {
        self.slots[slot_of(text)] == text
    }

    pub(super) fn remember(&mut self, text: &'a [u8]) {
        if text.len() <= LONGEST {
            self.slots[slot_of(text)] = text;
        }
    }
}

/// By both ends and the length.
fn slot_of(text: &[u8]) -> usize {
    let (first, last) = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (text.iter().fold(0, |hash, &byte| hash << 8 | u64::from(byte)), 0),
    };
    let mixed = (first ^ last.rotate_left(29) ^ (text.len() as u64) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_cache_holds_nothing_that_it_was_not_given(texts in proptest::collection::vec("[ab]{0,10}", 1..60)) {
            let mut cache = TextCache::default();
            for (index, text) in texts.iter().enumerate() {
                if cache.holds(text.as_bytes()) {
                    prop_assert!(text.is_empty() || texts[..index].contains(text));
                }
                cache.remember(text.as_bytes());
                prop_assert!(cache.holds(text.as_bytes()));
            }
        }
    }
}
