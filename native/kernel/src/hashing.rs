//! The hash algorithms keys may use.

use crate::Error;
use sha2::Digest as _;

/// Length of a digest of either algorithm.
pub const DIGEST_BYTES: usize = 32;

/// A raw digest.
pub type Digest = [u8; DIGEST_BYTES];

/// A hash algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algo {
    /// BLAKE3, 256 bits.
    Blake3,
    /// SHA-256.
    Sha256,
}

impl Algo {
    /// The algorithm with that canonical name.
    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "blake3" => Ok(Self::Blake3),
            "sha256" => Ok(Self::Sha256),
            _ => Err(Error::new(format!("unknown hash algorithm {name:?}; use blake3 or sha256"))),
        }
    }

    /// The digest of `data`.
    #[must_use]
    pub fn digest(self, data: &[u8]) -> Digest {
        match self {
            Self::Blake3 => blake3::hash(data).into(),
            Self::Sha256 => sha2::Sha256::digest(data).into(),
        }
    }

    /// A new, empty hasher.
    #[must_use]
    pub fn hasher(self) -> Hasher {
        match self {
            Self::Blake3 => Hasher::Blake3(Box::default()),
            Self::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
        }
    }
}

/// An incremental hash.
#[derive(Clone)]
pub enum Hasher {
    /// Boxed: its state is about 2 KiB.
    Blake3(Box<blake3::Hasher>),
    /// Small enough to stay in place.
    Sha256(sha2::Sha256),
}

impl Hasher {
    /// Append `data`.
    pub fn update(&mut self, data: &[u8]) {
        match self {
            Self::Blake3(hasher) => {
                hasher.update(data);
            }
            Self::Sha256(hasher) => hasher.update(data),
        }
    }

    /// The digest of everything so far; more may follow.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Blake3(hasher) => hasher.finalize().into(),
            Self::Sha256(hasher) => hasher.clone().finalize().into(),
        }
    }
}
