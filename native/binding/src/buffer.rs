//! Python objects with the buffer protocol, as bytes.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

/// The contents of a C-contiguous buffer of any element type (bytes, bytearray, memoryview, mmap, array), in place.
/// While it lives the owner can neither free nor resize the memory.
pub(crate) struct Bytes(PyUntypedBuffer);

impl Bytes {
    #[allow(unsafe_code)]
    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.0.len_bytes() == 0 {
            return &[]; // an empty buffer may have a null pointer
        }
        // SAFETY: the buffer was checked to be C-contiguous, so `len_bytes` bytes lie at `buf_ptr`, and the buffer view
        // held by `self` keeps them there. That nobody *writes* to them meanwhile cannot be enforced for mutable owners
        // once the GIL is released; it is the caller's duty, written in the stub, as with hashlib. A breach would at
        // worst give a wrong cut or digest of bytes that are changing: all reads are of plain bytes in bounds.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), self.0.len_bytes()) }
    }
}

impl FromPyObject<'_, '_> for Bytes {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(&object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("the buffer is not contiguous"));
        }
        Ok(Self(buffer))
    }
}
