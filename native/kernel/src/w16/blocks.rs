//! The walk every scanner shares: sift a block of positions into a bitmap, then confirm its candidates.
//!
//! Two loops instead of one because candidates are unpredictable: sifting without branches and walking a list of the
//! few that are left costs a third of the branch misses.

use super::hash::confirm;

/// Bits, that is positions, of one bitmap word.
pub(super) const WORD: usize = 64;

/// Words of one block: 2 KiB of positions, which stay in the first-level cache between the two loops.
pub(super) const WORDS: usize = 32;

/// One bit per position of a block; positions after the end of the scan have no bit.
pub(super) type Bitmap = [u64; WORDS];

/// Finds the first index in `[start, end)` that is a candidate and whose second-level hash is at most `limit`.
///
/// `sift(from, to, bitmap)` marks the candidates of the positions `from..to`, at most one block of them. It is called
/// for adjoining ranges, in order, so it may carry the end of one block over to the next. `first` is [`first_confirmed`].
///
/// Always inlined, so that all of it is compiled for the instruction set of the scanner that calls it.
#[inline(always)]
pub(super) fn scan_blocks(
    data: &[u8],
    start: usize,
    end: usize,
    limit: u64,
    mut sift: impl FnMut(usize, usize, &mut Bitmap),
    first: impl Fn(&[u8], usize, &[u16], u64) -> Option<usize>,
) -> Option<usize> {
    let mut bitmap: Bitmap = [0; WORDS];
    let mut offsets = [0u16; WORDS * WORD + 1];
    let mut from = start;
    while from < end {
        let to = end.min(from + WORDS * WORD);
        sift(from, to, &mut bitmap);
        let count = list_offsets(&bitmap[..(to - from).div_ceil(WORD)], &mut offsets);
        if let Some(index) = first(data, from, &offsets[..count], limit) {
            return Some(index);
        }
        from = to;
    }
    None
}

/// The first of the positions `from + offset` whose second-level hash is at most `limit`.
///
/// Inlined, so that compilers use the vector multiplications of the caller's instruction set.
#[inline(always)]
pub(super) fn first_confirmed(data: &[u8], from: usize, offsets: &[u16], limit: u64) -> Option<usize> {
    offsets.iter().map(|&offset| from + offset as usize).find(|&index| confirm(data, index) <= limit)
}

/// Write the offsets of all set bits in order; gives their number.
#[inline(always)]
fn list_offsets(bitmap: &[u64], offsets: &mut [u16; WORDS * WORD + 1]) -> usize {
    let mut count = 0;
    for (word, &bits) in bitmap.iter().enumerate() {
        let base = (word * WORD) as u16;
        let mut bits = bits;
        // The first one without a branch: one word in four has a candidate, which no predictor can guess.
        offsets[count] = base + bits.trailing_zeros() as u16;
        count += usize::from(bits != 0);
        bits &= bits.wrapping_sub(1);
        while bits != 0 {
            offsets[count] = base + bits.trailing_zeros() as u16;
            count += 1;
            bits &= bits - 1;
        }
    }
    count
}
