//! Requests of all signals, damaged at random, go through masking and everything behind it: nothing panics, and what comes
//! out is valid.

use super::*;
use crate::encode::{loki::LokiEncoder, remote_write::RemoteWriteEncoder};
use crate::otlp::{items::leave_out, json};
use crate::policy::LokiEntries;
use crate::relabel::Rules;

const CASES: u64 = if cfg!(debug_assertions) { 20_000 } else { 200_000 };

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound.max(1) as u64) as usize
    }

    /// Flips bits, changes bytes that may be lengths, and splices parts of the donor in.
    fn damage(&mut self, bytes: &mut Vec<u8>, donor: &[u8]) {
        for _ in 0..1 + self.below(3) {
            let at = self.below(bytes.len());
            match self.below(5) {
                _ if bytes.is_empty() => {}
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = bytes[at].wrapping_add(self.below(5) as u8).wrapping_sub(2),
                2 => bytes[at] = self.below(256) as u8,
                3 => {
                    let from = self.below(donor.len());
                    let some = donor[from..].iter().copied().take(self.below(40)).collect::<Vec<_>>();
                    let end = (at + self.below(40)).min(bytes.len());
                    bytes.splice(at..end, some);
                }
                _ => {
                    let words: [&[u8]; 6] =
                        [b"password=\"", b"%40", b"\\u0040", b"\xff", b"bob@example.com", b"{\"token\":["];
                    let word = words[self.below(words.len())];
                    let end = (at + word.len()).min(bytes.len());
                    bytes[at..end].copy_from_slice(&word[..end - at]);
                }
            }
        }
    }
}

/// Masks, leaves out and encodes; true if the request was valid.
fn go_through(signal: Signal, request: &[u8], masker: &Masker, key: Option<&PseudonymKey>) -> bool {
    let mut edits = EditList::default();
    let checked = walk::validate(signal, request);
    let Ok(masked) = check_and_mask(signal, request, Some(masker), key, &mut edits, None) else {
        assert!(checked.is_err(), "refused with a policy only: {request:?}");
        return false;
    };
    // Shorter keys need not be told of.
    let told = |extent: Extent| Extent { longest_key: extent.longest_key.max(walk::SHORT), ..extent };
    assert_eq!(checked.map(told), Ok(told(masked.extent)), "{request:?}");
    let bytes = edits.apply(request).into_owned();
    assert!(walk::validate(signal, &bytes).is_ok(), "{request:?} became {bytes:?}");
    edits.clear();
    let dropped: u64 = masked.dropped.iter().map(|range| range.end - range.start).sum();
    assert_eq!(leave_out(signal, &bytes, &masked.dropped, &mut edits), Ok(dropped), "{request:?}");
    let left = edits.apply(&bytes).into_owned();
    assert!(walk::validate(signal, &left).is_ok());
    let mut out = Vec::new();
    json::encode(signal, &left, &mut out).unwrap();
    out.clear();
    match signal {
        Signal::Traces => {}
        Signal::Logs => {
            drop(LokiEncoder::new(&[], LokiEntries::default()).encode(&left, "acme", 1, None, &mut out).unwrap())
        }
        Signal::Metrics => {
            let rules = Rules::compile(&[]).unwrap();
            drop(RemoteWriteEncoder::new(&[]).encode(&left, "acme", &rules, &mut out).unwrap());
        }
    }
    true
}

const ACTIONS: [MaskAction; 6] = [
    MaskAction::Redact,
    MaskAction::Remove,
    MaskAction::Partial,
    MaskAction::Pseudonymise,
    MaskAction::FormatPreserving,
    MaskAction::DropItem,
];

#[test]
fn damaged_requests_are_refused_or_come_out_valid() {
    let maskers = ACTIONS.map(|action| Masker::compile(&everything(action)).unwrap());
    let key = PseudonymKey::new(1, &[7; 32]);
    let (mut dice, mut valid) = (Dice(1), 0);
    for case in 0..CASES / 30 {
        let requests = Random::requests(case, false);
        for (signal, request) in &requests {
            for round in 0..10 {
                let mut damaged = request.clone();
                let donor = &requests[dice.below(3)].1;
                dice.damage(&mut damaged, donor);
                valid += u64::from(go_through(*signal, &damaged, &maskers[round % maskers.len()], key.as_ref()));
            }
        }
    }
    assert!(valid > CASES / 20, "only {valid} of {CASES} were still valid");
}

#[test]
fn damaged_json_is_refused_or_decodes_to_what_can_be_masked() {
    let masker = Masker::compile(&everything(MaskAction::Redact)).unwrap();
    let (mut dice, mut valid) = (Dice(2), 0);
    for case in 0..CASES / 30 {
        let requests = Random::requests(case, false);
        let texts = requests.each_ref().map(|(signal, request)| {
            let mut text = Vec::new();
            json::encode(*signal, request, &mut text).unwrap();
            text
        });
        for (text, (signal, _)) in texts.iter().zip(&requests) {
            for _ in 0..10 {
                let mut damaged = text.clone();
                let donor = &texts[dice.below(3)];
                dice.damage(&mut damaged, donor);
                let mut decoded = Vec::new();
                if json::decode(*signal, &damaged, &mut decoded).is_ok() {
                    valid += u64::from(go_through(*signal, &decoded, &masker, None));
                }
            }
        }
    }
    assert!(valid > CASES / 50, "only {valid} of {CASES} were still valid");
}
