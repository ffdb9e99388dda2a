//! `syncfs(2)`: one call that makes everything written to a file system durable.

use pyo3::prelude::*;

/// Flush the file system that holds the open descriptor `fd`; OSError with its errno on failure.
#[pyfunction]
pub(crate) fn syncfs(py: Python<'_>, fd: i32) -> PyResult<()> {
    Ok(py.detach(|| sync(fd))?)
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn sync(fd: i32) -> std::io::Result<()> {
    if fd < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: not -1; the descriptor is borrowed for this one call, which the kernel answers with EBADF if it is not
    // open. Nothing is read through it and it is not closed.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    Ok(rustix::fs::syncfs(fd)?)
}

#[cfg(not(target_os = "linux"))]
fn sync(_fd: i32) -> std::io::Result<()> {
    Err(std::io::Error::from_raw_os_error(78)) // ENOSYS on the BSDs and macOS: there is no such call
}
