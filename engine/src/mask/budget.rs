//! How much of one item may be searched, and how long.

use std::time::{Duration, Instant};

use super::search::Failure;
use crate::policy::MaskBudget;

pub(super) struct Budget {
    limits: MaskBudget,
    left: usize,
    deadline: Option<Instant>,
}

impl Budget {
    /// The clock is not read for less.
    const UNTIMED_BYTES: usize = 16 << 10;

    pub(super) fn new(limits: MaskBudget) -> Budget {
        Budget { limits, left: limits.item_bytes, deadline: None }
    }

    /// Takes a text out of the budget; Err if that is over.
    #[inline]
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Failure> {
        self.left = self.left.checked_sub(bytes).ok_or(Failure::Size).inspect_err(|_| self.left = 0)?;
        if self.limits.item_bytes - self.left > Budget::UNTIMED_BYTES {
            let limit = Duration::from_micros(self.limits.item_us);
            let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + limit);
            if Instant::now() > deadline {
                return Err(Failure::Time);
            }
        }
        Ok(())
    }

    /// When the search of the item has to end, once it is large enough to be timed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}
