//! `fastcdc-v1:min:avg:max`: FastCDC 2020, level 2, with the tables of the crate `fastcdc`.
//!
//! The scan loop is ours because the crate's cannot resume: it would look at the undecided tail of a stream again and
//! again. The tests compare the cuts with the crate's.

use crate::cutter::{Cutter, forced_cut};
use crate::spec::Sizes;
use fastcdc::v2020::{Normalization, get_gear_with_seed, select_masks};

/// The hash shifts left by one per byte, so 64 bytes later nothing of a byte is left in it.
const WINDOW: usize = 64;

pub(crate) struct FastCdcCutter {
    sizes: Sizes,
    hard_mask: u64,
    easy_mask: u64,
    gear: Box<[u64; 256]>,
    /// The gear table shifted left by one: two bytes are rolled in at a time (section 3.7 of the paper).
    gear_shifted: Box<[u64; 256]>,
}

impl FastCdcCutter {
    pub(crate) fn new(sizes: Sizes) -> Self {
        let (hard_mask, easy_mask) = select_masks(sizes.avg, Normalization::Level2);
        let (table, table_shifted) = get_gear_with_seed(0);
        let (mut gear, mut gear_shifted) = (Box::new([0; 256]), Box::new([0; 256]));
        gear.copy_from_slice(&table);
        gear_shifted.copy_from_slice(&table_shifted);
        Self { sizes, hard_mask, easy_mask, gear, gear_shifted }
    }

    /// The first length in `[start, end)`, both even, whose hash has no bit of `mask`; else the hash there.
    fn scan(&self, data: &[u8], start: usize, end: usize, mask: u64, mut hash: u64) -> Result<usize, u64> {
        if start >= end {
            return Err(hash);
        }
        let mask_shifted = mask << 1;
        let (pairs, _) = data[start..end].as_chunks::<2>();
        for (index, &[first, second]) in pairs.iter().enumerate() {
            hash = (hash << 2).wrapping_add(self.gear_shifted[first as usize]);
            if hash & mask_shifted == 0 {
                return Ok(start + 2 * index);
            }
            hash = hash.wrapping_add(self.gear[second as usize]);
            if hash & mask == 0 {
                return Ok(start + 2 * index + 1);
            }
        }
        Err(hash)
    }
}

impl Cutter for FastCdcCutter {
    fn max_bytes(&self) -> usize {
        self.sizes.max
    }

    fn cut(&self, data: &[u8], seen: usize, last: bool) -> Option<usize> {
        let Sizes { min, avg, max } = self.sizes;
        let n = data.len().min(max);
        // The byte after a cut is part of its hash, and only whole pairs are tested: both are in the definition.
        let (first, end) = (min.max(seen & !1), n & !1);
        let mut hash = 0u64;
        if first < end {
            for &byte in &data[min.max(first.saturating_sub(WINDOW))..first] {
                hash = (hash << 1).wrapping_add(self.gear[byte as usize]);
            }
        }
        self.scan(data, first, end.min(avg), self.hard_mask, hash)
            .or_else(|hash| self.scan(data, first.max(avg), end, self.easy_mask, hash))
            .map_or_else(|_| forced_cut(n, max, last), Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastcdc::v2020::FastCDC;

    #[test]
    fn cuts_equal_the_crate() {
        let data: Vec<u8> = (0..1_000_001u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 37) as u8).collect();
        for (min, avg, max) in [(64, 256, 1024), (2048, 8192, 65536), (64, 3000, 10_000), (4096, 4096, 4096)] {
            let cutter = FastCdcCutter::new(Sizes { min, avg, max });
            for length in [0, 1, 63, 64, 65, 66, 1023, 1024, 1025, 9_999, 65_537, data.len()] {
                let mut rest = &data[..length];
                for chunk in FastCDC::with_level(rest, min, avg, max, Normalization::Level2) {
                    assert_eq!(cutter.cut(rest, 0, true), Some(chunk.length), "{min}:{avg}:{max} of {length}");
                    rest = &rest[chunk.length..];
                }
                assert!(rest.is_empty());
            }
        }
    }
}
