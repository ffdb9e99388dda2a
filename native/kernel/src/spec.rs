//! Chunker specs in canonical text, checked as strictly as the Python side does.

use crate::Error;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// No block is larger: one always fits in memory.
const MAX_BLOCK_BYTES: usize = 16 * MIB;
/// No spec may ask for smaller blocks.
const MIN_CHUNK_BYTES: usize = 64;
/// At most `MIN_CHUNK_BYTES`, so that a delimiter that ends a block always lies wholly inside it.
const MAX_DELIMITER_BYTES: usize = 64;

/// A chunker and its sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// `fixed-v1:size`
    Fixed {
        /// Length of every block but the last.
        size: usize,
    },
    /// `delimiter-v1:hex:min:max`
    Delimiter {
        /// What ends a block; 1 to 64 bytes.
        delimiter: Vec<u8>,
        /// No delimiter ends a block shorter than this.
        min: usize,
        /// A block ends here at the latest.
        max: usize,
    },
    /// `fastcdc-v1:min:avg:max`
    FastCdc(Sizes),
    /// `w16-v1:min:avg:max`
    W16(Sizes),
}

/// The three sizes of a content-defined chunker, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// No block but the last is shorter.
    pub min: usize,
    /// Where cuts become likelier.
    pub avg: usize,
    /// No block is longer.
    pub max: usize,
}

impl Spec {
    /// Parse canonical text; the error names the part and the bound.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let parts: Vec<&str> = rest.split(':').collect();
        match (name, parts.as_slice()) {
            ("fixed-v1", [size]) => {
                let size = parse_size("size", size)?;
                check_sizes(name, Sizes { min: size, avg: size, max: size })?;
                Ok(Self::Fixed { size })
            }
            ("delimiter-v1", [hex, min, max]) => {
                let delimiter = parse_hex(hex)?;
                let (min, max) = (parse_size("min", min)?, parse_size("max", max)?);
                check_sizes(name, Sizes { min, avg: min, max })?;
                Ok(Self::Delimiter { delimiter, min, max })
            }
            ("fastcdc-v1" | "w16-v1", [min, avg, max]) => {
                let sizes =
                    Sizes { min: parse_size("min", min)?, avg: parse_size("avg", avg)?, max: parse_size("max", max)? };
                check_sizes(name, sizes)?;
                if name == "w16-v1" {
                    check_w16(sizes)?;
                    Ok(Self::W16(sizes))
                } else {
                    check_fastcdc(sizes)?;
                    Ok(Self::FastCdc(sizes))
                }
            }
            _ => Err(Error::new(format!("not a canonical chunker spec: {text:?}"))),
        }
    }
}

fn check_sizes(name: &str, Sizes { min, avg, max }: Sizes) -> Result<(), Error> {
    ensure(min >= MIN_CHUNK_BYTES, || format!("{name}: min is at least {MIN_CHUNK_BYTES} bytes, not {min}"))?;
    ensure(avg >= min, || format!("{name}: avg is at least min ({min} bytes), not {avg}"))?;
    ensure(max >= avg, || format!("{name}: max is at least {avg} bytes, not {max}"))?;
    ensure(max <= MAX_BLOCK_BYTES, || format!("{name}: max is at most {MAX_BLOCK_BYTES} bytes, not {max}"))
}

fn check_w16(Sizes { min, avg, .. }: Sizes) -> Result<(), Error> {
    ensure(min >= 128, || format!("w16-v1: min is at least 128 bytes, not {min}"))?;
    ensure(avg >= KIB && avg.is_power_of_two(), || format!("w16-v1: avg is a power of two from 1024, not {avg}"))
}

fn check_fastcdc(Sizes { min, avg, max }: Sizes) -> Result<(), Error> {
    use fastcdc::v2020::{AVERAGE_MAX, AVERAGE_MIN, MAXIMUM_MIN, MINIMUM_MAX};
    ensure(min <= MINIMUM_MAX, || format!("fastcdc-v1: min is at most {MINIMUM_MAX} bytes, not {min}"))?;
    ensure((AVERAGE_MIN..=AVERAGE_MAX).contains(&avg), || {
        format!("fastcdc-v1: avg is {AVERAGE_MIN} to {AVERAGE_MAX} bytes, not {avg}")
    })?;
    ensure(max >= MAXIMUM_MIN, || format!("fastcdc-v1: max is at least {MAXIMUM_MIN} bytes, not {max}"))?;
    // Positions are tested in pairs; implementations disagree about odd sizes.
    ensure((min | avg | max) % 2 == 0, || format!("fastcdc-v1: sizes are even, not {min}:{avg}:{max}"))
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::new(message())) }
}

fn parse_size(part: &str, text: &str) -> Result<usize, Error> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let size = if plain { text.parse().ok() } else { None };
    size.ok_or_else(|| Error::new(format!("{part} in a canonical chunker spec is a number of bytes, not {text:?}")))
}

fn parse_hex(text: &str) -> Result<Vec<u8>, Error> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| if c.is_ascii_uppercase() { None } else { c.to_digit(16).map(|d| d as u8) }).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 && (2..=2 * MAX_DELIMITER_BYTES).contains(&digits.len()) => {
            Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => {
            Err(Error::new(format!("the delimiter is 1 to {MAX_DELIMITER_BYTES} bytes in lowercase hex, not {text:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_is_parsed() {
        assert_eq!(Spec::parse("fixed-v1:64"), Ok(Spec::Fixed { size: 64 }));
        assert_eq!(
            Spec::parse("delimiter-v1:0d0a:64:128"),
            Ok(Spec::Delimiter { delimiter: vec![13, 10], min: 64, max: 128 })
        );
        let sizes = Sizes { min: 128, avg: 1024, max: 16 * MIB };
        assert_eq!(Spec::parse("w16-v1:128:1024:16777216"), Ok(Spec::W16(sizes)));
        assert_eq!(Spec::parse("fastcdc-v1:128:1024:16777216"), Ok(Spec::FastCdc(sizes)));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "w16-v1",
            "w16-v2:128:1024:2048",
            "w16:128:1024:2048",
            "w16-v1:127:1024:2048",
            "w16-v1:128:1000:2048",
            "w16-v1:128:512:2048",
            "w16-v1:128:1024:1023",
            "w16-v1:128:1024:16777217",
            "w16-v1:0128:1024:2048",
            "w16-v1:+128:1024:2048",
            "w16-v1:128:1024:2048:1",
            "fixed-v1:63",
            "fixed-v1:16777217",
            "fixed-v1:",
            "delimiter-v1:0A:64:128",
            "delimiter-v1::64:128",
            "delimiter-v1:0:64:128",
            "delimiter-v1:0a:63:128",
            "fastcdc-v1:65:1024:2048",
            "fastcdc-v1:64:255:2048",
            "fastcdc-v1:64:1024:1022",
            "fastcdc-v1:1048578:2097152:4194304",
            "fastcdc-v1:64:4194306:8388608",
        ] {
            assert!(Spec::parse(text).is_err(), "{text} was accepted");
        }
    }
}
