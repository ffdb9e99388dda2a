//! The fast part of Graviton: where a stream of bytes is cut, the digests of what lies between the cuts, and batches of
//! small files.
//!
//! Plain Rust without any Python in it. The Python package `graviton.core.chunking` holds a readable reference of every
//! algorithm; the references are the definition, and this crate must give the same cuts for every input, on every
//! instruction set. Unsafe code is denied except in [`w16`]'s module of x86 intrinsics and where [`files`] closes one.

mod chunker;
mod cutter;
mod delimiter;
mod error;
mod fastcdc;
#[cfg(unix)]
pub mod files;
mod fixed;
mod hashing;
mod ingest;
mod simd;
mod spec;
pub mod w16;

pub use chunker::Chunker;
pub use cutter::{Cutter, cutter_for};
pub use error::Error;
pub use hashing::{Algo, DIGEST_BYTES, Digest, Hasher};
pub use ingest::{Blocks, Ingest};
pub use simd::Simd;
pub use spec::Spec;
