//! How Python's event loop learns that there is something to drain: an eventfd, written only when there was nothing before.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

/// A Linux eventfd, non-blocking.
pub struct EventFd(File);

impl EventFd {
    pub fn new() -> std::io::Result<EventFd> {
        // SAFETY: eventfd has no memory arguments; a negative result is an error and is not used as a descriptor.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created and is owned by nobody else.
        Ok(EventFd(unsafe { File::from_raw_fd(fd) }))
    }

    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub fn signal(&self) {
        // It fails only when the counter would overflow, and then the descriptor is readable already.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    pub fn reset(&self) {
        // It fails only when nothing was signalled.
        let _ = (&self.0).read(&mut [0u8; 8]);
    }
}
