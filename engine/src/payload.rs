//! What a destination gets of a request, and how it lies in a batch: small pieces joined, large ones where they were.

use std::sync::Arc;

use bytes::Bytes;

use crate::otlp::edit::{EditList, Run};

/// Small pieces are joined up to this size: what is sent one by one must be worth a system call.
const JOINED_MAX_BYTES: usize = 256 << 10;
/// From this size on, bytes of a request that goes on as it is are not worth a copy.
pub const SHARED_MIN_BYTES: usize = 32 << 10;

/// What one destination gets of one request.
#[derive(Debug)]
pub enum Payload {
    /// Written for the destination.
    Encoded(Vec<u8>),
    /// The request's own bytes, but for a few edits that are still to be made.
    Forwarded { request: Bytes, edits: Arc<EditList> },
}

impl Payload {
    pub fn len(&self) -> usize {
        match self {
            Payload::Encoded(bytes) => bytes.len(),
            Payload::Forwarded { request, edits } => edits.edited_len(request.len()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In one piece, to be added to: a forwarded request is copied for it.
    pub fn joined(&mut self) -> &mut Vec<u8> {
        if let Payload::Forwarded { request, edits } = self {
            let edited = edits.apply_to_shared(std::mem::take(request));
            *self = Payload::Encoded(edited.into());
        }
        match self {
            Payload::Encoded(bytes) => bytes,
            Payload::Forwarded { .. } => unreachable!("it was encoded just now"),
        }
    }

    pub fn into_joined(mut self) -> Vec<u8> {
        std::mem::take(self.joined())
    }
}

/// The payloads of a batch, one after the other.
#[derive(Debug, Default)]
pub struct Chunks {
    closed: Vec<Bytes>,
    /// The last chunk, as long as it takes more.
    open: Vec<u8>,
}

impl Chunks {
    pub fn push(&mut self, payload: Payload) {
        match payload {
            Payload::Encoded(bytes) if self.open.len() + bytes.len() <= JOINED_MAX_BYTES && !self.open.is_empty() => {
                self.open.extend_from_slice(&bytes);
            }
            Payload::Encoded(bytes) => {
                self.close();
                self.open = bytes;
            }
            Payload::Forwarded { request, edits } => edits.for_each_run(request.len(), |run| match run {
                Run::Kept(range) if range.len() >= SHARED_MIN_BYTES => {
                    self.close();
                    self.closed.push(request.slice(range));
                }
                Run::Kept(range) => self.join(&request[range]),
                Run::Written(bytes) => self.join(bytes),
            }),
        }
    }

    fn join(&mut self, bytes: &[u8]) {
        if self.open.len() + bytes.len() > JOINED_MAX_BYTES {
            self.close();
        }
        self.open.extend_from_slice(bytes);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push(Bytes::from(std::mem::take(&mut self.open)));
        }
    }

    /// Their concatenation is the batch.
    pub fn into_parts(mut self) -> Vec<Bytes> {
        self.close();
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A request of `size` bytes into which `stamp` is put at each of `places`, and what it is then.
    fn forwarded(size: usize, places: &[usize], stamp: &[u8]) -> (Payload, Vec<u8>) {
        let request: Vec<u8> = (0..size).map(|index| index as u8).collect();
        let mut edits = EditList::default();
        let (mut expected, mut copied) = (Vec::new(), 0);
        for &place in places {
            edits.insert(place, |out| out.extend_from_slice(stamp));
            expected.extend_from_slice(&request[copied..place]);
            expected.extend_from_slice(stamp);
            copied = place;
        }
        expected.extend_from_slice(&request[copied..]);
        (Payload::Forwarded { request: Bytes::from(request), edits: Arc::new(edits) }, expected)
    }

    proptest! {
        #[test]
        fn a_batch_is_its_payloads_joined(
            payloads in proptest::collection::vec(
                (0usize..200_000, proptest::collection::vec(0.0f64..1.0, 0..4), 0usize..300_000, any::<bool>()), 0..6,
            )
        ) {
            let (mut chunks, mut expected) = (Chunks::default(), Vec::new());
            for (size, places, stamp, encoded) in payloads {
                let mut places: Vec<usize> = places.iter().map(|place| (place * size as f64) as usize).collect();
                places.sort_unstable();
                let (payload, bytes) = forwarded(size, &places, &vec![b's'; stamp]);
                prop_assert_eq!(payload.len(), bytes.len());
                let payload = if encoded { Payload::Encoded(payload.into_joined()) } else { payload };
                chunks.push(payload);
                expected.extend_from_slice(&bytes);
            }
            let parts = chunks.into_parts();
            prop_assert!(parts.iter().all(|part| !part.is_empty()));
            prop_assert_eq!(parts.concat(), expected);
        }
    }

    #[test]
    fn small_payloads_are_joined() {
        let mut chunks = Chunks::default();
        for _ in 0..100 {
            chunks.push(forwarded(1000, &[10], b"stamp").0);
            chunks.push(Payload::Encoded(vec![0; 1000]));
        }
        assert_eq!(chunks.into_parts().len(), 1);
    }

    #[test]
    fn a_large_payload_stays_where_it_was() {
        let (payload, _) = forwarded(100_000, &[10], b"stamp");
        let Payload::Forwarded { request, .. } = &payload else { unreachable!() };
        let place = request[10..].as_ptr();
        let mut chunks = Chunks::default();
        chunks.push(payload);
        let parts = chunks.into_parts();
        assert_eq!(parts.iter().map(Bytes::len).collect::<Vec<_>>(), [15, 100_000 - 10]);
        assert_eq!(parts[1].as_ptr(), place);
    }
}
