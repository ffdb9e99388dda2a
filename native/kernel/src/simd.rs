//! Which instruction sets this machine can run.

use crate::Error;

/// An implementation of the first level of w16-v1; all give the same cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Simd {
    /// AVX-512 with byte permutes and Galois field instructions (Ice Lake, Zen 4 and later).
    Avx512VbmiGfni,
    /// AVX-512 with byte and word instructions (Skylake-X and later).
    Avx512Bw,
    /// AVX2 (Haswell, Zen and later).
    Avx2,
    /// Plain Rust, for every machine; the compiler vectorises it for the target's baseline.
    Portable,
}

impl Simd {
    const ALL: [Self; 4] = [Self::Avx512VbmiGfni, Self::Avx512Bw, Self::Avx2, Self::Portable];

    /// The name used in tests, `doctor` output and benchmark results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512VbmiGfni => "avx512-vbmi-gfni",
            Self::Avx512Bw => "avx512bw",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Whether this machine, and its operating system, can run it.
    #[must_use]
    pub fn is_usable(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512VbmiGfni => {
                Self::Avx512Bw.is_usable() && is_x86_feature_detected!("avx512vbmi") && is_x86_feature_detected!("gfni")
            }
            Self::Avx512Bw => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && Self::Avx2.is_usable()
            }
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1"),
            Self::Portable => true,
        }
        #[cfg(not(target_arch = "x86_64"))]
        matches!(self, Self::Portable)
    }

    /// Everything usable here, fastest first; never empty.
    #[must_use]
    pub fn usable() -> Vec<Self> {
        Self::ALL.into_iter().filter(|simd| simd.is_usable()).collect()
    }

    /// The fastest usable here.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|simd| simd.is_usable()).unwrap_or(Self::Portable)
    }

    /// The one called `name`; an error if there is none, or if this machine cannot run it.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let simd = Self::ALL.into_iter().find(|simd| simd.name() == name);
        let simd = simd.ok_or_else(|| Error::new(format!("unknown SIMD path {name:?}")))?;
        if simd.is_usable() { Ok(simd) } else { Err(Error::new(format!("this machine cannot run {name}"))) }
    }
}
