//! The Python module `graviton_kernel._native`: converts types, releases the GIL, and nothing else.
//!
//! Payload is never copied. `&mut self` methods hold PyO3's borrow while the GIL is released, so a second thread that
//! uses the same object meanwhile gets a RuntimeError instead of a data race.

mod buffer;
mod files;

use buffer::Bytes;
use graviton_kernel_core as core;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Whether this was compiled without optimisation.
#[pyfunction]
fn is_debug_build() -> bool {
    cfg!(debug_assertions)
}

/// The instruction set that w16-v1 uses here.
#[pyfunction]
fn simd_path() -> &'static str {
    core::Simd::best().name()
}

/// All instruction sets usable here, fastest first.
#[pyfunction]
fn simd_paths() -> Vec<&'static str> {
    core::Simd::usable().into_iter().map(core::Simd::name).collect()
}

/// A streaming chunker.
#[pyclass(module = "graviton_kernel")]
struct Chunker(core::Chunker);

#[pymethods]
impl Chunker {
    #[new]
    #[pyo3(signature = (spec, simd=None))]
    fn new(spec: &str, simd: Option<&str>) -> PyResult<Self> {
        Ok(Self(core::Chunker::new(cutter(spec, simd)?)))
    }

    fn feed(&mut self, py: Python<'_>, data: Bytes) -> PyResult<Vec<usize>> {
        py.detach(|| self.0.feed(data.as_slice())).map_err(value_error)
    }

    fn finish(&mut self, py: Python<'_>) -> Vec<usize> {
        py.detach(|| self.0.finish())
    }
}

/// One pass over a blob: cuts, block digests, blob digest.
#[pyclass(module = "graviton_kernel")]
struct Ingest(core::Ingest);

#[pymethods]
impl Ingest {
    #[new]
    #[pyo3(signature = (spec, block_algo, blob_algo=None, simd=None))]
    fn new(spec: &str, block_algo: &str, blob_algo: Option<&str>, simd: Option<&str>) -> PyResult<Self> {
        let block_algo = algo(block_algo)?;
        let blob_algo = blob_algo.map_or(Ok(block_algo), algo)?;
        Ok(Self(core::Ingest::new(cutter(spec, simd)?, block_algo, blob_algo)))
    }

    #[pyo3(signature = (segment, r#final=false))]
    fn feed<'py>(
        &mut self,
        py: Python<'py>,
        segment: Bytes,
        r#final: bool,
    ) -> PyResult<(Vec<usize>, Vec<Bound<'py, PyBytes>>)> {
        let blocks = py.detach(|| self.0.feed(segment.as_slice(), r#final)).map_err(value_error)?;
        Ok((blocks.lengths, py_digests(py, &blocks.digests)))
    }

    fn finish<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, u64)> {
        let (digest, size) = self.0.finish().map_err(value_error)?;
        Ok((PyBytes::new(py, &digest), size))
    }
}

/// An incremental hash.
#[pyclass(module = "graviton_kernel")]
struct Hasher(core::Hasher);

#[pymethods]
impl Hasher {
    #[new]
    fn new(algo: &str) -> PyResult<Self> {
        Ok(Self(self::algo(algo)?.hasher()))
    }

    fn update(&mut self, py: Python<'_>, data: Bytes) {
        py.detach(|| self.0.update(data.as_slice()));
    }

    fn digest<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.digest())
    }
}

/// The digest of `data`.
#[pyfunction]
#[pyo3(signature = (data, algo))]
fn digest<'py>(py: Python<'py>, data: Bytes, algo: &str) -> PyResult<Bound<'py, PyBytes>> {
    let algo = self::algo(algo)?;
    let digest = py.detach(|| algo.digest(data.as_slice()));
    Ok(PyBytes::new(py, &digest))
}

/// The digest of each buffer, with the GIL released once.
#[pyfunction]
#[pyo3(signature = (buffers, algo))]
fn digest_many<'py>(py: Python<'py>, buffers: Vec<Bytes>, algo: &str) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let algo = self::algo(algo)?;
    let digests: Vec<_> = py.detach(|| buffers.iter().map(|data| algo.digest(data.as_slice())).collect());
    Ok(py_digests(py, &digests))
}

fn py_digests<'py>(py: Python<'py>, digests: &[core::Digest]) -> Vec<Bound<'py, PyBytes>> {
    digests.iter().map(|digest| PyBytes::new(py, digest)).collect()
}

fn cutter(spec: &str, simd: Option<&str>) -> PyResult<Box<dyn core::Cutter>> {
    let spec = core::Spec::parse(spec).map_err(value_error)?;
    let simd = simd.map_or_else(|| Ok(core::Simd::best()), core::Simd::parse).map_err(value_error)?;
    Ok(core::cutter_for(&spec, simd))
}

fn algo(name: &str) -> PyResult<core::Algo> {
    core::Algo::parse(name).map_err(value_error)
}

fn value_error(error: core::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::files::{rename_files, syncfs, write_files};
    #[pymodule_export]
    use super::{Chunker, Hasher, Ingest, digest, digest_many, is_debug_build, simd_path, simd_paths};

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
