//! `fixed-v1:size`: a cut every `size` bytes.

use crate::cutter::{Cutter, forced_cut};

pub(crate) struct FixedCutter {
    size: usize,
}

impl FixedCutter {
    pub(crate) fn new(size: usize) -> Self {
        Self { size }
    }
}

impl Cutter for FixedCutter {
    fn max_bytes(&self) -> usize {
        self.size
    }

    fn cut(&self, data: &[u8], _seen: usize, last: bool) -> Option<usize> {
        forced_cut(data.len().min(self.size), self.size, last)
    }
}
