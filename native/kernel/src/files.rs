//! Batches of small files in one folder: created and written whole, renamed, made durable.
//!
//! Everything goes through the C library, so that whatever is preloaded between it and us (tracers, tests that make the
//! n-th call fail) sees the calls.

use rustix::fs::{Mode, OFlags, openat, renameat};
use rustix::io::{Errno, retry_on_intr, try_close, write};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

/// A batch that ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// What the system said.
    pub errno: i32,
    /// The item that it said it of; all before it are done.
    pub index: usize,
    /// How many of the names exist now: `index`, or one more if that item's file was created but not finished.
    pub made: usize,
}

/// Creates each file in `folder` with `mode`, writes all of its content and closes it. A name that is taken is an error
/// (`EEXIST`), whatever it stands for. Nothing is removed after an error; the file that it came from is closed.
///
/// # Errors
/// The first error of any call, a failed close among them: network file systems report write errors there.
pub fn write_files<'a>(
    folder: BorrowedFd<'_>,
    files: impl IntoIterator<Item = (&'a CStr, &'a [u8])>,
    mode: u32,
) -> Result<(), Stopped> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(mode as rustix::fs::RawMode);
    for (index, (name, content)) in files.into_iter().enumerate() {
        let stopped = |made| move |error: Errno| Stopped { errno: error.raw_os_error(), index, made };
        let file = retry_on_intr(|| openat(folder, name, flags, mode)).map_err(stopped(index))?;
        write_whole(file.as_fd(), content).and_then(|()| close(file)).map_err(stopped(index + 1))?;
    }
    Ok(())
}

/// Gives each file of `folder` another name there, replacing what has it.
///
/// # Errors
/// The first error; the renames before it stay.
pub fn rename_files<'a>(
    folder: BorrowedFd<'_>,
    names: impl IntoIterator<Item = (&'a CStr, &'a CStr)>,
) -> Result<(), Stopped> {
    for (index, (old, new)) in names.into_iter().enumerate() {
        retry_on_intr(|| renameat(folder, old, folder, new)).map_err(|error| Stopped {
            errno: error.raw_os_error(),
            index,
            made: index,
        })?;
    }
    Ok(())
}

/// Makes everything written to the file system of `fd` durable.
///
/// # Errors
/// The errno; ENOSYS where there is no such call (it is Linux's own).
pub fn syncfs(fd: BorrowedFd<'_>) -> Result<(), i32> {
    #[cfg(target_os = "linux")]
    let result = rustix::fs::syncfs(fd);
    #[cfg(not(target_os = "linux"))]
    let result = Err(Errno::NOSYS).inspect_err(|_| drop(fd));
    result.map_err(Errno::raw_os_error)
}

fn write_whole(file: BorrowedFd<'_>, mut rest: &[u8]) -> Result<(), Errno> {
    while !rest.is_empty() {
        match retry_on_intr(|| write(file, rest))? {
            0 => return Err(Errno::IO), // nothing taken, and no reason given
            written => rest = &rest[written..],
        }
    }
    Ok(())
}

/// Unlike a drop this says whether it worked.
#[allow(unsafe_code)]
fn close(file: OwnedFd) -> Result<(), Errno> {
    // SAFETY: the descriptor was open and ours alone, and `into_raw_fd` has given it up.
    match unsafe { try_close(file.into_raw_fd()) } {
        Err(Errno::INTR) => Ok(()), // it is closed all the same
        result => result,
    }
}
