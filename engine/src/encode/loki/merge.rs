//! Requests joined in one push: what they have of one stream becomes one stream, in order of time.
//!
//! The encoder orders the entries of one request. Joined, requests of one tenant mostly bring the same streams again, and a
//! later one may bring what happened earlier.

use std::collections::HashMap;

use super::{ENTRY_TIMESTAMP, STREAMS, STREAM_ENTRIES, STREAM_LABELS};
use crate::otlp::wire::{put_bytes_field, put_message_field_of, Reader, WireError};

/// The push that `parts`, each some whole fields of a PushRequest, are together: each stream once, where it came first;
/// its entries by time, those of one instant in the order in which they came; all other fields as they are.
///
/// `None`: the parts are such a push already, or are no PushRequest, which is not for us to judge.
pub fn merge(parts: &[&[u8]]) -> Option<Vec<u8>> {
    let mut push = Push::default();
    for part in parts {
        push.read(part).ok()?;
    }
    push.streams.iter().any(Stream::is_out_of_order).then(|| push.write(parts.iter().map(|part| part.len()).sum()))
}

/// A PushRequest, borrowed.
#[derive(Default)]
struct Push<'a> {
    streams: Vec<Stream<'a>>,
    /// Index into `streams`.
    by_labels: HashMap<&'a [u8], usize>,
    /// Fields that are no streams, as they are.
    others: Vec<&'a [u8]>,
}

#[derive(Default)]
struct Stream<'a> {
    labels: &'a [u8],
    entries: Vec<Entry<'a>>,
    /// Fields that are neither labels nor entries, as they are.
    others: Vec<&'a [u8]>,
    /// As it came, if it came once.
    whole: &'a [u8],
    times_seen: usize,
}

struct Entry<'a> {
    /// Seconds and nanoseconds.
    time: (i64, i64),
    field: &'a [u8],
}

impl<'a> Push<'a> {
    fn read(&mut self, part: &'a [u8]) -> Result<(), WireError> {
        let mut fields = Reader::new(part);
        while let Some(field) = fields.next_field()? {
            let whole = &part[field.start..field.end];
            if field.number != STREAMS {
                self.others.push(whole);
                continue;
            }
            let message = field.bytes()?;
            let labels = labels_of(message)?;
            let index = *self.by_labels.entry(labels).or_insert(self.streams.len());
            if index == self.streams.len() {
                self.streams.push(Stream { labels, whole, ..Stream::default() });
            }
            self.streams[index].read(message)?;
        }
        Ok(())
    }

    fn write(&mut self, size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(size);
        for stream in &mut self.streams {
            if !stream.is_out_of_order() {
                out.extend_from_slice(stream.whole);
                continue;
            }
            stream.entries.sort_by_key(|entry| entry.time);
            let fields = || stream.entries.iter().map(|entry| entry.field).chain(stream.others.iter().copied());
            let expected = stream.labels.len() + fields().map(<[u8]>::len).sum::<usize>();
            put_message_field_of(expected, &mut out, STREAMS, |out| {
                put_bytes_field(out, STREAM_LABELS, stream.labels);
                fields().for_each(|field| out.extend_from_slice(field));
            });
        }
        self.others.iter().for_each(|field| out.extend_from_slice(field));
        out
    }
}

impl<'a> Stream<'a> {
    fn read(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        self.times_seen += 1;
        let mut fields = Reader::new(message);
        while let Some(field) = fields.next_field()? {
            let whole = &message[field.start..field.end];
            match field.number {
                STREAM_LABELS => {}
                STREAM_ENTRIES => self.entries.push(Entry { time: time_of(field.bytes()?)?, field: whole }),
                _ => self.others.push(whole),
            }
        }
        Ok(())
    }

    fn is_out_of_order(&self) -> bool {
        self.times_seen > 1 || !self.entries.is_sorted_by_key(|entry| entry.time)
    }
}

fn labels_of(stream: &[u8]) -> Result<&[u8], WireError> {
    let mut labels: &[u8] = b"";
    let mut fields = Reader::new(stream);
    while let Some(field) = fields.next_field()? {
        if field.number == STREAM_LABELS {
            labels = field.bytes()?;
            // Written first, and once.
            break;
        }
    }
    Ok(labels)
}

/// Timestamp { seconds = 1, nanos = 2 } of an EntryAdapter.
fn time_of(entry: &[u8]) -> Result<(i64, i64), WireError> {
    let mut time = (0, 0);
    let mut fields = Reader::new(entry);
    while let Some(field) = fields.next_field()? {
        if field.number == ENTRY_TIMESTAMP {
            let mut members = fields.nested(&field)?;
            while let Some(member) = members.next_field()? {
                match member.number {
                    1 => time.0 = member.varint()? as i64,
                    2 => time.1 = member.varint()? as i64,
                    _ => {}
                }
            }
            // Written first; what follows need not be looked at.
            break;
        }
    }
    Ok(time)
}
