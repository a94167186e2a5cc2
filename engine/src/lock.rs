//! Taking a mutex whatever became of those who held it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic elsewhere must not take the ledger with it: the data behind these locks is valid between statements.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
