//! `delimiter-v1:hex:min:max`: a block ends right after a delimiter once it has `min` bytes, or at `max`.

use crate::cutter::{Cutter, forced_cut};
use memchr::memmem::Finder;

pub(crate) struct DelimiterCutter {
    finder: Finder<'static>,
    min: usize,
    max: usize,
}

impl DelimiterCutter {
    /// `min` is at least the length of the delimiter (the spec sees to that).
    pub(crate) fn new(delimiter: &[u8], min: usize, max: usize) -> Self {
        Self { finder: Finder::new(delimiter).into_owned(), min, max }
    }
}

impl Cutter for DelimiterCutter {
    fn max_bytes(&self) -> usize {
        self.max
    }

    fn cut(&self, data: &[u8], seen: usize, last: bool) -> Option<usize> {
        let n = data.len().min(self.max);
        let length = self.finder.needle().len();
        // The first occurrence that ends at a length not rejected before; it may begin inside what was seen.
        let start = self.min.max(seen + 1) - length;
        let found = data[..n].get(start..).and_then(|rest| self.finder.find(rest));
        found.map(|at| start + at + length).or_else(|| forced_cut(n, self.max, last))
    }
}
