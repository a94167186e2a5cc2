//! Edits on wire bytes: what a stage wants changed, collected while it reads, applied in one copy.
//!
//! A stage walks a message with [`EditList::enter`] and [`EditList::exit`] around each nested message, and asks for
//! replacements, removals and insertions in ascending order of offset. The list keeps the length prefixes of the
//! enclosing messages right: a prefix is rewritten only if something inside changed the size. No edit, no copy.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::wire::{put_varint, varint_len, Field};

const MAX_VARINT_BYTES: usize = 10;

#[derive(Debug, Clone)]
enum Edit {
    /// Bytes `range` of the source become bytes `with` of the arena.
    Splice { range: Range<usize>, with: Range<usize> },
    /// The length prefix at `range` of the source becomes `length`.
    Length { range: Range<usize>, length: u64 },
}

#[derive(Debug)]
struct Frame {
    prefix: Range<usize>,
    length: u64,
    /// Growth of the content so far, in bytes.
    delta: i64,
    /// Index of this message's `Edit::Length`, once something inside was edited.
    slot: Option<usize>,
    /// How many edits, and bytes in the arena, there were on entering.
    edits_before: usize,
    arena_before: usize,
}

/// A run of edited bytes; it may be empty.
#[derive(Debug)]
pub enum Run<'e> {
    /// These bytes of the source.
    Kept(Range<usize>),
    Written(&'e [u8]),
}

/// The edits of one buffer, in order of offset. Reusable: `clear` keeps the memory.
#[derive(Debug, Default)]
pub struct EditList {
    edits: Vec<Edit>,
    arena: Vec<u8>,
    frames: Vec<Frame>,
    /// Growth at the top level.
    delta: i64,
}

impl EditList {
    pub fn clear(&mut self) {
        self.edits.clear();
        self.arena.clear();
        self.frames.clear();
        self.delta = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Steps into the message that `field` holds.
    #[inline]
    pub fn enter(&mut self, field: &Field<'_>) {
        let length = (field.end - field.payload) as u64;
        self.frames.push(Frame {
            prefix: field.length_prefix(),
            length,
            delta: 0,
            slot: None,
            edits_before: self.edits.len(),
            arena_before: self.arena.len(),
        });
    }

    /// Steps out of the innermost message.
    #[inline]
    pub fn exit(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        let Some(slot) = frame.slot else { return };
        let length = frame.length.wrapping_add_signed(frame.delta);
        let growth = frame.delta + varint_len(length) as i64 - frame.prefix.len() as i64;
        self.edits[slot] = Edit::Length { range: frame.prefix, length };
        self.grow(growth);
    }

    /// Steps out of the innermost message, which `field` holds, and removes it: the edits inside are forgotten.
    pub fn exit_and_remove(&mut self, field: &Field<'_>) {
        if let Some(frame) = self.frames.pop() {
            self.edits.truncate(frame.edits_before);
            self.arena.truncate(frame.arena_before);
            for outer in &mut self.frames {
                outer.slot = outer.slot.filter(|&slot| slot < frame.edits_before);
            }
        }
        self.remove(field);
    }

    /// Replaces source bytes `range` by what `write` appends (to a shared arena: append only).
    pub fn replace(&mut self, range: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.arena.len();
        write(&mut self.arena);
        self.splice(range, begin);
    }

    /// Replaces the content of the length-delimited `field`, its length prefix included.
    pub fn replace_content(&mut self, field: &Field<'_>, content: &[u8]) {
        self.replace(field.length_prefix().start..field.end, |out| {
            put_varint(out, content.len() as u64);
            out.extend_from_slice(content);
        });
    }

    /// Removes the whole `field`, tag included.
    pub fn remove(&mut self, field: &Field<'_>) {
        let begin = self.arena.len();
        self.splice(field.start..field.end, begin);
    }

    /// Inserts what `write` appends before source offset `at`.
    pub fn insert(&mut self, at: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.replace(at..at, write);
    }

    fn splice(&mut self, range: Range<usize>, arena_begin: usize) {
        for frame in &mut self.frames {
            if frame.slot.is_none() {
                frame.slot = Some(self.edits.len());
                self.edits.push(Edit::Length { range: frame.prefix.clone(), length: frame.length });
            }
        }
        let with = arena_begin..self.arena.len();
        let growth = with.len() as i64 - range.len() as i64;
        self.edits.push(Edit::Splice { range, with });
        self.grow(growth);
    }

    fn grow(&mut self, growth: i64) {
        match self.frames.last_mut() {
            Some(frame) => frame.delta += growth,
            None => self.delta += growth,
        }
    }

    /// The edited bytes; the source itself if there is no edit. All frames must have been left.
    pub fn apply<'a>(&self, source: &'a [u8]) -> Cow<'a, [u8]> {
        if self.edits.is_empty() {
            return Cow::Borrowed(source);
        }
        let mut out = Vec::with_capacity(self.edited_len(source.len()));
        self.apply_into(source, &mut out);
        Cow::Owned(out)
    }

    /// As [`EditList::apply`], of a source that is shared.
    pub fn apply_to_shared(&self, source: Bytes) -> Bytes {
        match self.apply(&source) {
            Cow::Borrowed(_) => source,
            Cow::Owned(edited) => Bytes::from(edited),
        }
    }

    /// How long a source of `source_len` bytes is when it is edited.
    pub fn edited_len(&self, source_len: usize) -> usize {
        source_len.saturating_add_signed(self.delta as isize)
    }

    /// Appends the edited bytes to `out`.
    pub fn apply_into(&self, source: &[u8], out: &mut Vec<u8>) {
        self.for_each_run(source.len(), |run| match run {
            Run::Kept(range) => out.extend_from_slice(&source[range]),
            Run::Written(bytes) => out.extend_from_slice(bytes),
        });
    }

    /// The edited bytes of a source of `source_len` bytes, run by run. All frames must have been left.
    pub fn for_each_run(&self, source_len: usize, mut take: impl FnMut(Run<'_>)) {
        debug_assert!(self.frames.is_empty(), "runs inside a message");
        let mut taken = 0;
        let mut prefix = Vec::with_capacity(MAX_VARINT_BYTES);
        for edit in &self.edits {
            let (range, written) = match edit {
                Edit::Splice { range, with } => (range, &self.arena[with.clone()]),
                Edit::Length { range, length } => {
                    prefix.clear();
                    put_varint(&mut prefix, *length);
                    (range, prefix.as_slice())
                }
            };
            take(Run::Kept(taken..range.start));
            take(Run::Written(written));
            taken = range.end;
        }
        take(Run::Kept(taken..source_len));
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{put_bytes_field, put_message_field, Reader};
    use super::*;
    use proptest::prelude::*;

    /// A two-level message: outer(1) { inner(2) { text(3)* } }.
    fn build(texts: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        put_message_field(&mut out, 1, |out| {
            put_message_field(out, 2, |out| {
                for text in texts {
                    put_bytes_field(out, 3, text);
                }
            });
        });
        out
    }

    proptest! {
        #[test]
        fn edited_bytes_equal_a_message_built_with_the_edits(
            texts in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..200), 0u8..3, 0usize..400), 0..8)
        ) {
            let source = build(&texts.iter().map(|(text, _, _)| text.clone()).collect::<Vec<_>>());
            let mut expected = Vec::new();
            let mut edits = EditList::default();
            let mut reader = Reader::new(&source);
            let outer = reader.next_field().unwrap().unwrap();
            edits.enter(&outer);
            let mut in_outer = reader.nested(&outer).unwrap();
            let inner = in_outer.next_field().unwrap().unwrap();
            edits.enter(&inner);
            let mut in_inner = in_outer.nested(&inner).unwrap();
            for (text, action, size) in &texts {
                let field = in_inner.next_field().unwrap().unwrap();
                match action {
                    0 => expected.push(text.clone()),
                    1 => edits.remove(&field),
                    _ => {
                        let content = vec![b'x'; *size];
                        edits.replace_content(&field, &content);
                        expected.push(content);
                    }
                }
            }
            edits.exit();
            edits.exit();
            prop_assert_eq!(edits.apply(&source).into_owned(), build(&expected));
        }
    }

    #[test]
    fn a_message_that_is_removed_takes_its_edits_along() {
        let source = build(&[b"a".to_vec(), b"b".to_vec()]);
        let mut edits = EditList::default();
        let mut reader = Reader::new(&source);
        let outer = reader.next_field().unwrap().unwrap();
        edits.enter(&outer);
        let mut in_outer = reader.nested(&outer).unwrap();
        let inner = in_outer.next_field().unwrap().unwrap();
        edits.enter(&inner);
        let text = in_outer.nested(&inner).unwrap().next_field().unwrap().unwrap();
        edits.replace_content(&text, &[b'x'; 300]);
        edits.exit_and_remove(&inner);
        edits.exit();
        let mut expected = Vec::new();
        put_message_field(&mut expected, 1, |_| {});
        assert_eq!(edits.apply(&source).into_owned(), expected);
    }

    #[test]
    fn no_edit_no_copy() {
        let source = build(&[b"a".to_vec()]);
        assert!(matches!(EditList::default().apply(&source), Cow::Borrowed(_)));
    }
}
