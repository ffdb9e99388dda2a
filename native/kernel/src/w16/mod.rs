//! `w16-v1:min:avg:max`: windowed two-level chunking, the default.
//!
//! A cheap hash of the last 16 bytes, made of byte additions and one linear map on bytes, sifts every position; about 1
//! in 256 survives (a *candidate*) and is confirmed by a 64-bit hash of the last 32 bytes. [`hash`] follows the
//! formulas; [`portable`] and [`x86`] do the sifting fast.

mod blocks;
mod hash;
mod portable;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // intrinsics; each use says why it is sound
mod x86;

use crate::Simd;
use crate::cutter::{Cutter, forced_cut};
use crate::spec::Sizes;

/// Before the average size a cut is 2^2 times less likely than 1/avg, after it 2^2 times more likely.
const NORMALISATION: u32 = 2;

/// A candidate alone has probability 2^-8; only what is wanted beyond that is left to the second level.
const FIRST_LEVEL_BITS: u32 = 8;

/// How many bytes before the first position a scanner may read; the spec demands chunks of at least 128.
const LOOK_BACK: usize = 65;

/// Finds the first index in `[start, end)`, with `LOOK_BACK <= start`, after whose byte `data` passes both levels; the
/// second one passes when its hash is at most `limit`.
type Scan = fn(data: &[u8], start: usize, end: usize, limit: u64) -> Option<usize>;

pub(crate) struct W16Cutter {
    sizes: Sizes,
    hard_limit: u64,
    easy_limit: u64,
    scan: Scan,
}

impl W16Cutter {
    /// `simd` must be usable on this machine; if it is not, the portable code runs.
    pub(crate) fn new(sizes: Sizes, simd: Simd) -> Self {
        let bits = sizes.avg.ilog2();
        Self {
            sizes,
            hard_limit: second_level_limit(bits + NORMALISATION),
            easy_limit: second_level_limit(bits - NORMALISATION),
            scan: scanner(simd),
        }
    }

    /// The first length in `[first, end)` that passes.
    fn find(&self, data: &[u8], first: usize, end: usize, limit: u64) -> Option<usize> {
        if first >= end {
            return None;
        }
        debug_assert!(first > LOOK_BACK);
        (self.scan)(data, first - 1, end - 1, limit).map(|index| index + 1)
    }
}

impl Cutter for W16Cutter {
    fn max_bytes(&self) -> usize {
        self.sizes.max
    }

    fn cut(&self, data: &[u8], seen: usize, last: bool) -> Option<usize> {
        let Sizes { min, avg, max } = self.sizes;
        let n = data.len().min(max);
        let (first, end) = (min.max(seen + 1), n + 1);
        self.find(data, first, end.min(avg), self.hard_limit)
            .or_else(|| self.find(data, first.max(avg), end, self.easy_limit))
            .or_else(|| forced_cut(n, max, last))
    }
}

/// The largest second-level hash that passes, so that a position passes with probability 2^-bits: every candidate up to
/// 8 bits, else hashes below 2^(64 - (bits - 8)).
fn second_level_limit(bits: u32) -> u64 {
    u64::MAX >> bits.saturating_sub(FIRST_LEVEL_BITS)
}

fn scanner(simd: Simd) -> Scan {
    #[cfg(target_arch = "x86_64")]
    if simd.is_usable() {
        return match simd {
            Simd::Avx512VbmiGfni => x86::scan_avx512_vbmi_gfni,
            Simd::Avx512Bw => x86::scan_avx512bw,
            Simd::Avx2 => x86::scan_avx2,
            Simd::Portable => portable::scan,
        };
    }
    let _ = simd;
    portable::scan
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random bytes with runs and short periods in between, where candidates are rare or crowded.
    fn mixed(size: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut data = Vec::with_capacity(size + 8);
        while data.len() < size {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let word = (state >> 7).to_le_bytes();
            match state >> 60 {
                0 => data.extend_from_slice(&[word[0]; 200]),
                1 => (0..100).for_each(|_| data.extend_from_slice(&word[..3])),
                2 => (0..100).for_each(|_| data.extend_from_slice(&word[..5])),
                _ => data.extend_from_slice(&word[..5]),
            }
        }
        data.truncate(size);
        data
    }

    #[test]
    fn every_scanner_finds_what_the_formulas_find() {
        for seed in 0..20 {
            let data = mixed(20_000, seed);
            for (start, end) in [(65, 66), (65, 20_000), (127, 127 + 64), (1000, 1063), (3000, 13_001), (9999, 9999)] {
                for limit in [u64::MAX, u64::MAX >> 4, u64::MAX >> 10, 0] {
                    let expected =
                        (start..end).find(|&i| hash::is_candidate(&data, i) && hash::confirm(&data, i) <= limit);
                    for simd in Simd::usable() {
                        let found = scanner(simd)(&data, start, end, limit);
                        assert_eq!(found, expected, "{simd:?}, seed {seed}, {start}..{end}, limit {limit:x}");
                    }
                }
            }
        }
    }

    #[test]
    fn short_probabilities_pass_every_candidate() {
        assert_eq!(second_level_limit(8), u64::MAX);
        assert_eq!(second_level_limit(9), (1 << 63) - 1);
        assert_eq!(second_level_limit(22), (1 << 50) - 1);
    }
}
