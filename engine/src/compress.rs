//! Compression of what is delivered: the parts are joined, since in every wire format here concatenation is merge.

use std::cell::RefCell;
use std::io::Write;

use crate::otlp::wire::{put_varint, read_varint};

/// How a destination wants its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Identity,
    /// Snappy's block format, as remote write and Loki want it.
    Snappy,
    Gzip,
    Zstd,
}

impl Codec {
    pub fn parse(name: &str) -> Option<Codec> {
        match name {
            "identity" => Some(Codec::Identity),
            "snappy" => Some(Codec::Snappy),
            "gzip" => Some(Codec::Gzip),
            "zstd" => Some(Codec::Zstd),
            _ => None,
        }
    }
}

/// Fastest level: the network between a gateway and its backends is seldom the bottleneck, its CPU is.
const LEVEL: u32 = 1;
/// What snappy compresses at a time; a multiple of its own blocks of 64 KiB.
const SNAPPY_STEP: usize = 256 << 10;

pub fn compress(codec: Codec, parts: &[&[u8]]) -> Result<Vec<u8>, String> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    match codec {
        Codec::Identity => Ok(parts.concat()),
        Codec::Snappy => snappy(parts, total),
        Codec::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::with_capacity(total / 4), flate2::Compression::new(LEVEL));
            write_all(&mut encoder, parts)?;
            encoder.finish().map_err(|error| error.to_string())
        }
        Codec::Zstd => {
            let mut encoder =
                zstd::Encoder::new(Vec::with_capacity(total / 4), LEVEL as i32).map_err(|error| error.to_string())?;
            write_all(&mut encoder, parts)?;
            encoder.finish().map_err(|error| error.to_string())
        }
    }
}

/// A snappy block is the length of the whole, then elements; a copy element reaches back within its own part only, so the
/// elements of parts that were compressed one by one make one block, and nothing is joined before.
fn snappy(parts: &[&[u8]], total: usize) -> Result<Vec<u8>, String> {
    thread_local! {
        // Reused: a fresh buffer of this size would be zeroed, and paged in, for every part. In boxes, because the static
        // thread-local storage of a module that is loaded late is small.
        static SCRATCH: RefCell<(Box<snap::raw::Encoder>, Vec<u8>)> =
            RefCell::new((Box::new(snap::raw::Encoder::new()), Vec::new()));
    }
    let mut out = Vec::with_capacity(total / 4 + 16);
    put_varint(&mut out, total as u64);
    SCRATCH.with_borrow_mut(|(encoder, scratch)| {
        for part in parts.iter().flat_map(|part| part.chunks(SNAPPY_STEP)) {
            let worst = snap::raw::max_compress_len(part.len());
            if scratch.len() < worst {
                scratch.resize(worst, 0);
            }
            let written = encoder.compress(part, scratch).map_err(|error| error.to_string())?;
            let block = &scratch[..written];
            let (_, prefix) = read_varint(block).map_err(|error| error.to_string())?;
            out.extend_from_slice(&block[prefix..]);
        }
        Ok(out)
    })
}

fn write_all(out: &mut impl Write, parts: &[&[u8]]) -> Result<(), String> {
    parts.iter().try_for_each(|part| out.write_all(part)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn every_codec_gives_back_the_joined_parts() {
        let long = b"telemetry".repeat(100_000);
        let parts: [&[u8]; 4] = [b"telemetry ", b"", b"gateway", &long];
        let whole = parts.concat();
        let packed = |codec| compress(codec, &parts).unwrap();
        assert_eq!(packed(Codec::Identity), whole);
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&packed(Codec::Snappy)).unwrap(), whole);
        let mut unzipped = Vec::new();
        flate2::read::GzDecoder::new(&packed(Codec::Gzip)[..]).read_to_end(&mut unzipped).unwrap();
        assert_eq!(unzipped, whole);
        assert_eq!(zstd::decode_all(&packed(Codec::Zstd)[..]).unwrap(), whole);
    }
}
