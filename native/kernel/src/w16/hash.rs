//! The two hashes, straight from the formulas.

/// The first-level hash of a candidate; zeros and runs of period 1, 2, 4 and 8 never have it.
pub(super) const CANDIDATE: u8 = 0xE1;

/// Outputs 0, 1, 2, 3 and 8 of splitmix64 from state 0, each with its lowest bit set.
const FACTORS: [u64; 4] = [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F5, 0x06C4_5D18_8009_454F, 0xF88B_B8A8_724C_81ED];
const FINAL_FACTOR: u64 = 0x3EE5_7890_41C9_8AC3;

/// Bytes the second level hashes.
const CONFIRM_BYTES: usize = 32;

/// T(b) = b ^ rotl(b,1) ^ rotl(b,2) ^ rotl(b,3) ^ rotl(b,4), in three steps that vectorise well.
#[inline(always)]
pub(super) const fn transform(byte: u8) -> u8 {
    let two = byte ^ byte.rotate_left(1);
    let four = two ^ two.rotate_left(2);
    four ^ byte.rotate_left(4)
}

/// T of the 16 low and of the 16 high nibbles: T is linear, so T(b) = LOW[b & 15] ^ HIGH[b >> 4].
#[cfg(target_arch = "x86_64")]
pub(super) const fn transform_nibbles() -> ([u8; 16], [u8; 16]) {
    let (mut low, mut high) = ([0; 16], [0; 16]);
    let mut nibble = 0;
    while nibble < 16 {
        low[nibble] = transform(nibble as u8);
        high[nibble] = transform((nibble as u8) << 4);
        nibble += 1;
    }
    (low, high)
}

/// The second-level hash of the 32 bytes that end with `data[index]`.
#[inline(always)]
pub(super) fn confirm(data: &[u8], index: usize) -> u64 {
    let window: &[u8; CONFIRM_BYTES] = data[index + 1 - CONFIRM_BYTES..].first_chunk().expect("the window's bytes");
    let (words, _) = window.as_chunks::<8>();
    let mut sum = 0u64;
    for (word, factor) in words.iter().zip(FACTORS) {
        sum = sum.wrapping_add(u64::from_le_bytes(*word).wrapping_mul(factor));
    }
    (sum ^ (sum >> 32)).wrapping_mul(FINAL_FACTOR)
}

/// Whether `data[index]` ends a window whose first-level hash is [`CANDIDATE`]; for tests.
#[cfg(test)]
pub(super) fn is_candidate(data: &[u8], index: usize) -> bool {
    let d = |back: usize| data[index - back];
    let t = |back: usize| {
        let v = d(back)
            .wrapping_add(d(back + 1).wrapping_mul(3))
            .wrapping_add(d(back + 2).wrapping_mul(2))
            .wrapping_add(d(back + 3).wrapping_mul(6));
        transform(v)
    };
    let sum = t(0).wrapping_add(t(4).wrapping_mul(3)).wrapping_add(t(8).wrapping_mul(3));
    sum.wrapping_add(t(12).wrapping_mul(9)) == CANDIDATE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transform_is_the_formula_and_a_bijection() {
        let mut hit = [false; 256];
        for byte in 0..=255u8 {
            let expected = (0..5).fold(0, |sum, k| sum ^ byte.rotate_left(k));
            assert_eq!(transform(byte), expected);
            hit[expected as usize] = true;
        }
        assert_eq!(hit, [true; 256]);
    }
}
