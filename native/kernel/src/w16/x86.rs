//! The first level with AVX2 and AVX-512.
//!
//! Layered so that each byte is touched few times: u = d[i] + 3 d[i-1], v = u + 2 u[i-2], t = T(v), g = t + 3 t[i-4],
//! h = g + 3 g[i-8]. Earlier values come from the previous vector by shifts across two registers, because loading bytes
//! that were just stored, unaligned, would stall.
//!
//! Soundness, for all three scanners: they are safe functions around a `#[target_feature]` one, handed out by
//! `super::scanner` only after `Simd::is_usable` has asked the processor; every load goes through a reference to an
//! array of the vector's size.

use super::LOOK_BACK;
use super::blocks::{Bitmap, WORD, first_confirmed, scan_blocks};
use super::hash::{CANDIDATE, transform_nibbles};
use std::arch::x86_64::*;

/// T of low and of high nibbles, for byte shuffles.
const NIBBLES: ([u8; 16], [u8; 16]) = transform_nibbles();

/// T as a bit matrix for `gf2p8affineqb`: byte 7 - k is the row of output bit k.
const T_MATRIX: u64 = 0xF1E3_C78F_1F3E_7CF8;

/// How far ahead to fetch: small chunks make the hardware prefetcher start over too often.
const PREFETCH: usize = 2048;

/// See [`super::Scan`].
pub(super) fn scan_avx2(data: &[u8], start: usize, end: usize, limit: u64) -> Option<usize> {
    // SAFETY: only reachable after is_usable() saw AVX2 and BMI1.
    unsafe { avx2(data, start, end, limit) }
}

/// See [`super::Scan`].
pub(super) fn scan_avx512bw(data: &[u8], start: usize, end: usize, limit: u64) -> Option<usize> {
    // SAFETY: only reachable after is_usable() saw AVX-512F, AVX-512BW and BMI1.
    unsafe { avx512bw(data, start, end, limit) }
}

/// See [`super::Scan`].
pub(super) fn scan_avx512_vbmi_gfni(data: &[u8], start: usize, end: usize, limit: u64) -> Option<usize> {
    // SAFETY: only reachable after is_usable() saw AVX-512F, AVX-512BW, AVX-512VBMI, GFNI and BMI1.
    unsafe { avx512_vbmi_gfni(data, start, end, limit) }
}

/// The bytes `data[from - back..to]` and zeros behind them: a vector may be loaded where the data end.
fn padded<const BYTES: usize>(data: &[u8], from: usize, to: usize, back: usize) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..to - from + back].copy_from_slice(&data[from - back..to]);
    bytes
}

/// The bits of the positions before `count`, which is below 64.
fn first_bits(count: usize) -> u64 {
    (1 << count) - 1
}

/// Fetch the cache line `PREFETCH` bytes after `bytes`; harmless past the end, where nothing is dereferenced.
#[inline]
#[target_feature(enable = "sse")]
fn prefetch(bytes: &[u8; WORD]) {
    // SAFETY: a prefetch is a hint and never faults, whatever the address.
    #[allow(unused_unsafe)] // newer Rust declares it safe
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(PREFETCH).cast())
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load512(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference covers the 64 bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load256(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn load128(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference covers the 16 bytes, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// The array of `N` bytes at `at`; bounds are checked, which is why loads need no further argument.
#[inline(always)]
fn array<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..].first_chunk().expect("a slice of the bytes needed")
}

/// x + 3 y on 64 bytes.
#[inline]
#[target_feature(enable = "avx512bw")]
fn plus_triple512(x: __m512i, y: __m512i) -> __m512i {
    _mm512_add_epi8(_mm512_add_epi8(x, y), _mm512_add_epi8(y, y))
}

/// x + 3 y on 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn plus_triple256(x: __m256i, y: __m256i) -> __m256i {
    _mm256_add_epi8(_mm256_add_epi8(x, y), _mm256_add_epi8(y, y))
}

/// A scanner on 64-byte vectors. `$transform(v)` is T; `$back2(u, previous)` shifts two earlier bytes in.
macro_rules! avx512_scanner {
    ($name:ident, $features:literal, |$v:ident| $transform:expr, |$u:ident, $previous:ident| $back2:expr) => {
        #[target_feature(enable = $features)]
        fn $name(data: &[u8], start: usize, end: usize, limit: u64) -> Option<usize> {
            let candidate = _mm512_set1_epi8(CANDIDATE as i8);
            let zero = _mm512_setzero_si512();
            let (mut u_before, mut t_before, mut g_before) = (zero, zero, zero);
            let mut step = |here: &[u8; 64], one_back: &[u8; 64]| -> u64 {
                let $u = plus_triple512(load512(here), load512(one_back));
                let $previous = u_before;
                let u2 = $back2;
                let $v = _mm512_add_epi8(_mm512_add_epi8($u, u2), u2);
                let t = $transform;
                let g = plus_triple512(t, _mm512_alignr_epi32::<15>(t, t_before));
                let h = plus_triple512(g, _mm512_alignr_epi64::<7>(g, g_before));
                (u_before, t_before, g_before) = ($u, t, g);
                _mm512_cmpeq_epi8_mask(h, candidate)
            };
            // Its first lanes lack what came before, but only the last twelve are looked at, and they have it.
            step(array(data, start - 64), array(data, start - LOOK_BACK));
            let sift = |from: usize, to: usize, bitmap: &mut Bitmap| {
                let (here, _) = data[from..to].as_chunks::<WORD>();
                let (one_back, _) = data[from - 1..to - 1].as_chunks::<WORD>();
                for ((word, here), one_back) in bitmap.iter_mut().zip(here).zip(one_back) {
                    prefetch(here);
                    *word = step(here, one_back);
                }
                let rest = from + here.len() * WORD;
                if rest < to {
                    let bytes: [u8; WORD + 1] = padded(data, rest, to, 1);
                    bitmap[here.len()] = step(array(&bytes, 1), array(&bytes, 0)) & first_bits(to - rest);
                }
            };
            scan_blocks(data, start, end, limit, sift, first_confirmed)
        }
    };
}

avx512_scanner!(avx512bw, "avx512f,avx512bw,avx2,bmi1", |v| transform512(v), |u, previous| _mm512_alignr_epi8::<14>(
    u,
    _mm512_alignr_epi32::<12>(u, previous)
));

avx512_scanner!(
    avx512_vbmi_gfni,
    "avx512f,avx512bw,avx512vbmi,gfni,avx2,bmi1",
    |v| _mm512_gf2p8affine_epi64_epi8::<0>(v, _mm512_set1_epi64(T_MATRIX as i64)),
    |u, previous| _mm512_permutex2var_epi8(previous, back2_lanes(), u)
);

/// T by two shuffles of 16 entries.
#[inline]
#[target_feature(enable = "avx512bw")]
fn transform512(v: __m512i) -> __m512i {
    let nibble = _mm512_set1_epi8(15);
    let low = _mm512_broadcast_i32x4(load128(&NIBBLES.0));
    let high = _mm512_broadcast_i32x4(load128(&NIBBLES.1));
    _mm512_xor_si512(
        _mm512_shuffle_epi8(low, _mm512_and_si512(v, nibble)),
        _mm512_shuffle_epi8(high, _mm512_and_si512(_mm512_srli_epi16::<4>(v), nibble)),
    )
}

/// Lane k takes byte 62 + k of the previous and the current vector in a row.
#[inline]
#[target_feature(enable = "avx512f")]
fn back2_lanes() -> __m512i {
    const LANES: [u8; 64] = {
        let mut lanes = [0; 64];
        let mut k = 0;
        while k < 64 {
            lanes[k] = 62 + k as u8;
            k += 1;
        }
        lanes
    };
    load512(&LANES)
}

/// Half a word of positions.
const HALF: usize = WORD / 2;

#[target_feature(enable = "avx2,bmi1")]
fn avx2(data: &[u8], start: usize, end: usize, limit: u64) -> Option<usize> {
    let candidate = _mm256_set1_epi8(CANDIDATE as i8);
    let nibble = _mm256_set1_epi8(15);
    let low = _mm256_broadcastsi128_si256(load128(&NIBBLES.0));
    let high = _mm256_broadcastsi128_si256(load128(&NIBBLES.1));
    let (mut t_before, mut g_before) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    // `back3` begins three bytes before the positions. Four loads: cheaper here than shifting across two registers.
    let mut step = |back3: &[u8; HALF + 3]| -> u32 {
        let u = plus_triple256(load256(array(back3, 3)), load256(array(back3, 2)));
        let u2 = plus_triple256(load256(array(back3, 1)), load256(array(back3, 0)));
        let v = _mm256_add_epi8(_mm256_add_epi8(u, u2), u2);
        let t = _mm256_xor_si256(
            _mm256_shuffle_epi8(low, _mm256_and_si256(v, nibble)),
            _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16::<4>(v), nibble)),
        );
        let g = plus_triple256(t, _mm256_alignr_epi8::<12>(t, _mm256_permute2x128_si256::<0x21>(t_before, t)));
        let h = plus_triple256(g, _mm256_alignr_epi8::<8>(g, _mm256_permute2x128_si256::<0x21>(g_before, g)));
        (t_before, g_before) = (t, g);
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(h, candidate)) as u32
    };
    // Its first lanes lack what came before, but only the last eight of g and four of t are looked at.
    step(array(data, start - HALF - 3));
    let sift = |from: usize, to: usize, bitmap: &mut Bitmap| {
        let words = (to - from) / WORD;
        let bytes = &data[from - 3..to];
        for (word, bits) in bitmap[..words].iter_mut().enumerate() {
            let here: &[u8; WORD + 3] = array(bytes, word * WORD);
            prefetch(array(here, 0));
            *bits = u64::from(step(array(here, 0))) | u64::from(step(array(here, HALF))) << HALF;
        }
        let rest = from + words * WORD;
        if rest < to {
            let here: [u8; WORD + 3] = padded(data, rest, to, 3);
            let bits = u64::from(step(array(&here, 0))) | u64::from(step(array(&here, HALF))) << HALF;
            bitmap[words] = bits & first_bits(to - rest);
        }
    };
    scan_blocks(data, start, end, limit, sift, first_confirmed)
}
