//! The first level in plain Rust, in loops over bytes that compilers turn into the vector code of the target.

use super::blocks::{Bitmap, WORD, WORDS, first_confirmed, scan_blocks};
use super::hash::{CANDIDATE, transform};

/// Positions before the first whose T enters the hash: t(i) + 3 t(i-4) + 3 t(i-8) + 9 t(i-12).
const T_BACK: usize = 12;
const BLOCK: usize = WORDS * WORD;

/// See [`super::Scan`].
pub(super) fn scan(data: &[u8], start: usize, end: usize, limit: u64) -> Option<usize> {
    let mut t = [0u8; BLOCK + T_BACK];
    let mut hits = [0u8; BLOCK];
    let sift = |from: usize, to: usize, bitmap: &mut Bitmap| {
        let count = to - from;
        transformed(data, from - T_BACK, to, &mut t[..count + T_BACK]);
        mark(&t[..count + T_BACK], &mut hits[..count]);
        hits[count..].fill(0);
        pack(&hits, bitmap);
    };
    scan_blocks(data, start, end, limit, sift, first_confirmed_apart)
}

/// On its own it has registers for all five factors, which matters where candidates are crowded.
#[inline(never)]
fn first_confirmed_apart(data: &[u8], from: usize, offsets: &[u16], limit: u64) -> Option<usize> {
    first_confirmed(data, from, offsets, limit)
}

/// t(i) = T(d[i] + 3 d[i-1] + 2 d[i-2] + 6 d[i-3]) for i in `[start, end)`.
fn transformed(data: &[u8], start: usize, end: usize, t: &mut [u8]) {
    let back = |k: usize| &data[start - k..end - k];
    for ((((t, &d0), &d1), &d2), &d3) in t.iter_mut().zip(back(0)).zip(back(1)).zip(back(2)).zip(back(3)) {
        // Sums instead of products: few instruction sets multiply bytes.
        *t = transform(plus_triple(d0, d1).wrapping_add(double(plus_triple(d2, d3))));
    }
}

/// 1 where the first-level hash is that of a candidate, else 0.
fn mark(t: &[u8], hits: &mut [u8]) {
    let count = hits.len();
    let back = |k: usize| &t[T_BACK - k..T_BACK - k + count];
    for ((((hit, &t0), &t4), &t8), &t12) in hits.iter_mut().zip(back(0)).zip(back(4)).zip(back(8)).zip(back(12)) {
        let hash = plus_triple(plus_triple(t0, t4), plus_triple(t8, t12));
        *hit = u8::from(hash == CANDIDATE);
    }
}

/// Eight 0/1 bytes to eight bits at a time: the multiplication gathers them in the top byte.
fn pack(hits: &[u8; BLOCK], bitmap: &mut Bitmap) {
    let (groups, _) = hits.as_chunks::<8>();
    let (groups, _) = groups.as_chunks::<8>();
    for (word, group) in bitmap.iter_mut().zip(groups) {
        *word = group.iter().enumerate().fold(0, |word, (k, bytes)| {
            word | (u64::from_le_bytes(*bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * k)
        });
    }
}

#[inline(always)]
fn double(x: u8) -> u8 {
    x.wrapping_add(x)
}

/// x + 3 y
#[inline(always)]
fn plus_triple(x: u8, y: u8) -> u8 {
    x.wrapping_add(y).wrapping_add(double(y))
}
