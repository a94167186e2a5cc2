//! Which label grew: a sketch of how many values each label had among the series that were over budget.

use super::keys::HashKey;
use super::table::Window;

/// Registers of a sketch: the count is right within about 6 %.
const REGISTERS: usize = 256;
/// Labels watched at a time; a tenant that invents label names must not invent memory.
const MAX_LABELS: usize = 64;
const MAX_NAME_BYTES: usize = 256;
/// How many are named.
const NAMED: usize = 3;

/// HyperLogLog: distinct values from their hashes, in constant memory (Flajolet et al., 2007).
struct Sketch {
    registers: [u8; REGISTERS],
    /// How often a register rose: cheap to compare, and grows with the count.
    raised: u32,
}

impl Sketch {
    fn new() -> Sketch {
        Sketch { registers: [0; REGISTERS], raised: 0 }
    }

    fn add(&mut self, hash: u64) {
        let register = &mut self.registers[hash as usize % REGISTERS];
        let rank = ((hash / REGISTERS as u64) | 1 << 55).trailing_zeros() as u8 + 1;
        if rank > *register {
            *register = rank;
            self.raised += 1;
        }
    }

    fn estimate(&self) -> u64 {
        let count = REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
        let empty = self.registers.iter().filter(|rank| **rank == 0).count();
        // Few values: how many registers are empty tells more.
        let estimate = if raw <= 2.5 * count && empty > 0 { count * (count / empty as f64).ln() } else { raw };
        estimate.round() as u64
    }
}

/// The labels of series over budget, watched over two windows: the present one and the one before.
#[derive(Default)]
pub(super) struct LabelGrowth {
    labels: Vec<(String, Sketch)>,
    former: Vec<(String, u64)>,
    since_s: u32,
}

impl LabelGrowth {
    /// A label of a series that was over budget.
    pub(super) fn add(&mut self, key: &HashKey, name: &[u8], value: &[u8], window: Window) {
        if window.has_left(self.since_s) {
            self.former.clear();
            self.former = self.leaders();
            self.labels.clear();
            self.since_s = window.now_s;
        }
        let Ok(name) = std::str::from_utf8(name) else { return };
        if name.len() > MAX_NAME_BYTES {
            return;
        }
        let place = self.labels.iter().position(|(known, _)| known == name);
        let place = place.unwrap_or_else(|| {
            if self.labels.len() == MAX_LABELS {
                // The one that grew least gives way.
                if let Some(least) = (0..MAX_LABELS).min_by_key(|index| self.labels[*index].1.raised) {
                    self.labels.swap_remove(least);
                }
            }
            self.labels.push((name.to_owned(), Sketch::new()));
            self.labels.len() - 1
        });
        self.labels[place].1.add(key.hash(value));
    }

    /// The labels with most values, and about how many, most first.
    pub(super) fn leaders(&self) -> Vec<(String, u64)> {
        let mut leaders: Vec<(String, u64)> =
            self.labels.iter().map(|(name, sketch)| (name.clone(), sketch.estimate())).collect();
        for (name, count) in &self.former {
            match leaders.iter_mut().find(|(known, _)| known == name) {
                Some((_, present)) => *present = (*present).max(*count),
                None => leaders.push((name.clone(), *count)),
            }
        }
        leaders.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
        leaders.truncate(NAMED);
        leaders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Window = Window { now_s: 10_000, length_s: 3600 };

    #[test]
    fn the_label_with_most_values_is_named_with_about_its_count() {
        let (key, mut growth) = (HashKey::from_bytes([7; 16]), LabelGrowth::default());
        for number in 0..20_000u32 {
            growth.add(&key, b"user_id", format!("user-{number}").as_bytes(), NOW);
            growth.add(&key, b"route", format!("/{}", number % 30).as_bytes(), NOW);
            growth.add(&key, b"method", b"GET", NOW);
        }
        let leaders = growth.leaders();
        let names: Vec<&str> = leaders.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["user_id", "route", "method"]);
        assert!(leaders[0].1.abs_diff(20_000) < 5_000 && leaders[1].1.abs_diff(30) < 4, "{leaders:?}");
    }

    #[test]
    fn invented_names_push_out_neither_the_leader_nor_the_bound() {
        let (key, mut growth) = (HashKey::from_bytes([7; 16]), LabelGrowth::default());
        for number in 0..5_000u32 {
            growth.add(&key, b"user_id", &number.to_le_bytes(), NOW);
            growth.add(&key, format!("k{number}").as_bytes(), b"v", NOW);
        }
        assert_eq!(growth.leaders()[0].0, "user_id");
        assert_eq!(growth.labels.len(), MAX_LABELS);
    }

    #[test]
    fn after_two_quiet_windows_the_past_is_forgotten() {
        let (key, mut growth) = (HashKey::from_bytes([7; 16]), LabelGrowth::default());
        growth.add(&key, b"old", b"1", NOW);
        let later = |windows: u32| Window { now_s: NOW.now_s + windows * 3601, ..NOW };
        growth.add(&key, b"new", b"1", later(1));
        assert_eq!(growth.leaders().len(), 2);
        growth.add(&key, b"new", b"1", later(2));
        assert_eq!(growth.leaders(), [("new".to_owned(), 1)]);
    }
}
