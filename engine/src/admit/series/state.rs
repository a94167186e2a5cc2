//! The state of a tenant's budget as bytes, for a restart.
//!
//! Little-endian, a version in front, a checksum behind. What was folded is part of the *final* state only, made when
//! nothing comes in any more: an overflow series that went on from an older total would look like a reset to its backend,
//! and be counted twice. After a crash what is known is known, and folding starts over, with another `instance`.

use std::hash::Hasher;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use super::fold::{Folded, Folder, Last};
use super::keys::HashKey;
use super::overflow::{Overflow, Totals};
use super::table::{ActiveTable, Entry};
use super::{ActiveState, Now, SeriesBudget, StreamBudget};
use crate::lock::lock;

const MAGIC: &[u8; 8] = b"tgactive";
/// 1 had fingerprints by SipHash, which say nothing to this one.
const VERSION: u8 = 2;
const CHECKSUM_BYTES: usize = 8;

/// What is known of one tenant; none if nothing is tracked.
pub fn dump(tenant: &str, state: &ActiveState, last: bool) -> Option<Vec<u8>> {
    let (series, streams) = (state.series(), state.streams());
    if series.is_none() && streams.is_none() {
        return None;
    }
    let mut out = Writer(MAGIC.to_vec());
    out.byte(VERSION);
    out.bytes(tenant.as_bytes());
    out.byte(u8::from(series.is_some()));
    if let Some(series) = series {
        out.0.extend_from_slice(series.key.bytes());
        out.table(&series.table);
        out.byte(u8::from(last));
        if last {
            out.u64(series.since_ns);
            out.folder(&lock(&series.folder));
        }
    }
    out.byte(u8::from(streams.is_some()));
    if let Some(streams) = streams {
        out.0.extend_from_slice(streams.key.bytes());
        out.table(&streams.table);
    }
    let checksum = checksum(&out.0);
    out.u64(checksum);
    Some(out.0)
}

/// Reads what `dump` wrote, before the first request of its tenant.
///
/// Returns the tenant and its state, or says what is wrong with the bytes.
pub fn restore(bytes: &[u8], now: Now) -> Result<(String, ActiveState), String> {
    let split = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or("it is cut off")?;
    let (content, sum) = bytes.split_at(split);
    if !content.starts_with(MAGIC) {
        return Err("it is no state of active series".to_owned());
    }
    if sum != checksum(content).to_le_bytes() {
        return Err("its checksum is wrong".to_owned());
    }
    let mut input = Input(&content[MAGIC.len()..]);
    match input.byte()? {
        VERSION => {}
        other => return Err(format!("its version is {other}; this gateway reads {VERSION}")),
    }
    let tenant = input.text()?;
    let state = ActiveState::default();
    if input.byte()? != 0 {
        let key = HashKey::from_bytes(input.array()?);
        let table = input.table()?;
        let (since_ns, folder) = match input.byte()? {
            0 => (now.unix_ns(), Folder::default()),
            _ => (input.u64()?, input.folder()?),
        };
        let budget = SeriesBudget { table, ..SeriesBudget::with(key, since_ns, folder) };
        // Until the first policy names the window.
        budget.window_s.store(u64::from(u32::MAX), Ordering::Relaxed);
        state.series.store(Some(Arc::new(budget)));
    }
    if input.byte()? != 0 {
        let key = HashKey::from_bytes(input.array()?);
        let table = input.table()?;
        state.streams.store(Some(Arc::new(StreamBudget::with(key, table))));
    }
    Ok((tenant, state))
}

/// Of bytes that nobody forges but a disk may damage.
pub(super) fn checksum(content: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&[0; 16]);
    hasher.write(content);
    hasher.finish()
}

struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn u64s(&mut self, values: &[u64]) {
        self.u64(values.len() as u64);
        values.iter().for_each(|value| self.u64(*value));
    }

    /// Ends with fingerprint 0, which no entry has.
    fn table(&mut self, table: &ActiveTable) {
        table.for_each(|entry| {
            self.u64(entry.fingerprint);
            self.u32(entry.last_seen_s);
            self.u32(entry.weight);
        });
        self.u64(0);
    }

    fn folder(&mut self, folder: &Folder) {
        self.u64(folder.overflows.len() as u64);
        for (id, overflow) in &folder.overflows {
            self.u64(*id);
            for text in [&overflow.job, &overflow.metric, &overflow.unit, &overflow.description] {
                self.bytes(text.as_bytes());
            }
            self.u32(overflow.last_seen_s);
            self.u64(overflow.start_ms);
            self.u64(overflow.written_ms);
            match &overflow.totals {
                Totals::Number(total) => {
                    self.byte(0);
                    self.f64(*total);
                }
                Totals::Histogram { counts, bounds, sum } => {
                    self.byte(1);
                    self.u64s(counts);
                    self.u64s(bounds);
                    self.byte(u8::from(sum.is_some()));
                    self.f64(sum.unwrap_or_default());
                }
            }
        }
        self.u64(folder.folded.len() as u64);
        for (series, folded) in &folder.folded {
            self.u64(*series);
            self.u64(folded.overflow);
            self.u32(folded.last_seen_s);
            self.u64(folded.time_ns);
            match &folded.last {
                Last::Number(value) => {
                    self.byte(0);
                    self.f64(*value);
                }
                Last::Histogram(counts, sum) => {
                    self.byte(1);
                    self.u64s(counts);
                    self.f64(*sum);
                }
            }
        }
    }
}

/// What is left to read. Lengths are checked against what is there before anything is reserved.
struct Input<'b>(&'b [u8]);

impl<'b> Input<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], String> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("it is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn f64(&mut self) -> Result<f64, String> {
        self.u64().map(f64::from_bits)
    }

    fn text(&mut self) -> Result<String, String> {
        let length = usize::try_from(self.u64()?).map_err(|error| error.to_string())?;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| "a text in it is not UTF-8".to_owned())
    }

    fn u64s(&mut self) -> Result<Vec<u64>, String> {
        let bytes = usize::try_from(self.u64()?).ok().and_then(|count| count.checked_mul(8)).ok_or("it is cut off")?;
        let mut values = Input(self.take(bytes)?);
        (0..bytes / 8).map(|_| values.u64()).collect()
    }

    fn table(&mut self) -> Result<ActiveTable, String> {
        let table = ActiveTable::default();
        loop {
            let fingerprint = self.u64()?;
            if fingerprint == 0 {
                return Ok(table);
            }
            table.restore(Entry { fingerprint, last_seen_s: self.u32()?, weight: self.u32()? });
        }
    }

    fn folder(&mut self) -> Result<Folder, String> {
        let mut folder = Folder::default();
        for _ in 0..self.u64()? {
            let id = self.u64()?;
            let (job, metric, unit, description) = (self.text()?, self.text()?, self.text()?, self.text()?);
            let (last_seen_s, start_ms, written_ms) = (self.u32()?, self.u64()?, self.u64()?);
            let totals = match self.byte()? {
                0 => Totals::Number(self.f64()?),
                _ => {
                    let (counts, bounds) = (self.u64s()?, self.u64s()?);
                    let (has_sum, sum) = (self.byte()? != 0, self.f64()?);
                    Totals::Histogram { counts, bounds, sum: has_sum.then_some(sum) }
                }
            };
            let overflow = Overflow { job, metric, unit, description, totals, last_seen_s, start_ms, written_ms };
            folder.overflows.insert(id, overflow);
        }
        for _ in 0..self.u64()? {
            let series = self.u64()?;
            let (overflow, last_seen_s, time_ns) = (self.u64()?, self.u32()?, self.u64()?);
            let last = match self.byte()? {
                0 => Last::Number(self.f64()?),
                _ => Last::Histogram(self.u64s()?.into(), self.f64()?),
            };
            folder.folded.insert(series, Folded { overflow, last_seen_s, time_ns, last });
        }
        Ok(folder)
    }
}
