//! A cutter over a stream that comes in pieces of any size.

use crate::{Cutter, Error};

/// How much of a long feed is copied behind the undecided tail before looking for a cut in it: a copy of all of it
/// would mostly be wasted when the cut is near.
const STEP_BYTES: usize = 256 * 1024;

/// A pure state machine: bytes in, cut lengths out, independent of how the bytes are fed. Keeps the undecided tail,
/// less than one maximal chunk.
pub struct Chunker {
    cutter: Box<dyn Cutter>,
    tail: Vec<u8>,
    finished: bool,
}

impl Chunker {
    /// A chunker at the start of a stream.
    #[must_use]
    pub fn new(cutter: Box<dyn Cutter>) -> Self {
        Self { cutter, tail: Vec::new(), finished: false }
    }

    /// Append `data`; gives the lengths of the chunks decided by now.
    pub fn feed(&mut self, data: &[u8]) -> Result<Vec<usize>, Error> {
        if self.finished {
            return Err(Error::new("this chunker is finished: nothing can be fed any more"));
        }
        let mut lengths = Vec::new();
        let mut rest = self.finish_tail(data, &mut lengths);
        while let Some(length) = self.cutter.cut(rest, 0, false) {
            lengths.push(length);
            rest = &rest[length..];
        }
        self.tail.extend_from_slice(rest);
        Ok(lengths)
    }

    /// Cut until the tail is used up; gives what is left of `data` then, or nothing if all of it joined the tail.
    fn finish_tail<'a>(&mut self, data: &'a [u8], lengths: &mut Vec<usize>) -> &'a [u8] {
        let mut rest = data;
        let mut seen = self.tail.len();
        while !self.tail.is_empty() && !rest.is_empty() {
            let before = self.tail.len();
            let step = rest.len().min(self.cutter.max_bytes() - before).min(STEP_BYTES);
            self.tail.extend_from_slice(&rest[..step]);
            match self.cutter.cut(&self.tail, seen, false) {
                None => {
                    seen = self.tail.len();
                    rest = &rest[step..];
                }
                Some(length) => {
                    lengths.push(length);
                    seen = 0;
                    // A rule that looks ahead (FastCDC) may cut inside the old tail: then a byte of it stays.
                    rest = &rest[length.saturating_sub(before)..];
                    self.tail.truncate(before);
                    self.tail.drain(..length.min(before));
                }
            }
        }
        rest
    }

    /// End the input; gives the length of the chunk that is left, if any.
    pub fn finish(&mut self) -> Vec<usize> {
        self.finished = true;
        let tail = std::mem::take(&mut self.tail);
        let (mut lengths, mut rest, mut seen) = (Vec::new(), tail.as_slice(), tail.len());
        while let Some(length) = self.cutter.cut(rest, seen, true) {
            lengths.push(length);
            rest = &rest[length..];
            seen = 0;
        }
        lengths
    }
}
