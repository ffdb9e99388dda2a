//! `syncfs(2)`: one call that makes everything written to a file system durable.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// Flush the file system that holds the open descriptor `fd`; OSError with its errno on failure.
#[pyfunction]
pub(crate) fn syncfs(py: Python<'_>, fd: i32) -> PyResult<()> {
    let Err(errno) = py.detach(|| sync(fd)) else { return Ok(()) };
    // PyO3's own conversion of std::io::Error keeps the text only; Python picks the subclass by the number.
    let text: String = py.import("os")?.call_method1("strerror", (errno,))?.extract()?;
    Err(PyOSError::new_err((errno, text)))
}

/// The errno, if it fails.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn sync(fd: i32) -> Result<(), i32> {
    use rustix::io::Errno;
    if fd < 0 {
        return Err(Errno::BADF.raw_os_error());
    }
    // SAFETY: not -1; the descriptor is borrowed for this one call, which the kernel answers with EBADF if it is not
    // open. Nothing is read through it and it is not closed.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    rustix::fs::syncfs(fd).map_err(Errno::raw_os_error)
}

/// ENOSYS as the BSDs and macOS number it: they have no such call.
#[cfg(not(target_os = "linux"))]
fn sync(_fd: i32) -> Result<(), i32> {
    Err(78)
}
