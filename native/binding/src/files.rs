//! Calls of the file system on open descriptors, for which the GIL is released once.

use crate::buffer::Bytes;
use core::files::Stopped;
use graviton_kernel_core as core;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

const EBADF: i32 = 9;

/// Flush the file system that holds the open descriptor `fd`; OSError with its errno on failure.
#[pyfunction]
pub(crate) fn syncfs(py: Python<'_>, fd: i32) -> PyResult<()> {
    match py.detach(|| core::files::syncfs(descriptor(fd)?)) {
        Ok(()) => Ok(()),
        Err(errno) => Err(os_error(py, errno)?),
    }
}

/// Create, write and close each file; OSError with its errno, `index` and `made` on failure.
#[pyfunction]
#[pyo3(signature = (folder, names, buffers, mode))]
pub(crate) fn write_files(
    py: Python<'_>,
    folder: i32,
    names: Vec<String>,
    buffers: Vec<Bytes>,
    mode: u32,
) -> PyResult<()> {
    let names = c_strings(names, buffers.len())?;
    let contents: Vec<&[u8]> = buffers.iter().map(Bytes::as_slice).collect();
    let files = names.iter().map(CString::as_c_str).zip(contents);
    outcome(py, py.detach(|| core::files::write_files(folder_of(folder)?, files, mode)))
}

/// Rename each file within one folder; OSError with its errno, `index` and `made` on failure.
#[pyfunction]
#[pyo3(signature = (folder, olds, news))]
pub(crate) fn rename_files(py: Python<'_>, folder: i32, olds: Vec<String>, news: Vec<String>) -> PyResult<()> {
    let olds = c_strings(olds, news.len())?;
    let news = c_strings(news, olds.len())?;
    let pairs = olds.iter().zip(&news).map(|(old, new)| -> (&CStr, &CStr) { (old, new) });
    outcome(py, py.detach(|| core::files::rename_files(folder_of(folder)?, pairs)))
}

fn c_strings(names: Vec<String>, wanted: usize) -> PyResult<Vec<CString>> {
    if names.len() != wanted {
        return Err(PyValueError::new_err("the lists have different lengths"));
    }
    names.into_iter().map(|name| CString::new(name).map_err(|_| PyValueError::new_err("a name holds a NUL"))).collect()
}

#[allow(unsafe_code)]
fn descriptor<'fd>(fd: i32) -> Result<BorrowedFd<'fd>, i32> {
    if fd < 0 {
        return Err(EBADF);
    }
    // SAFETY: not -1; the descriptor is borrowed for one call, in which the system says EBADF if it is not open. Nothing
    // is read through it and it is not closed.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

fn folder_of<'fd>(fd: i32) -> Result<BorrowedFd<'fd>, Stopped> {
    descriptor(fd).map_err(|errno| Stopped { errno, index: 0, made: 0 })
}

fn outcome(py: Python<'_>, result: Result<(), Stopped>) -> PyResult<()> {
    let Err(stopped) = result else { return Ok(()) };
    let error = os_error(py, stopped.errno)?;
    error.value(py).setattr("index", stopped.index)?;
    error.value(py).setattr("made", stopped.made)?;
    Err(error)
}

/// PyO3's own conversion of `std::io::Error` keeps the text only; Python picks the subclass by the number.
fn os_error(py: Python<'_>, errno: i32) -> PyResult<PyErr> {
    let text: String = py.import("os")?.call_method1("strerror", (errno,))?.extract()?;
    Ok(PyOSError::new_err((errno, text)))
}
