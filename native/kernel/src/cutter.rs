//! The cut rule of one algorithm.

use crate::delimiter::DelimiterCutter;
use crate::fastcdc::FastCdcCutter;
use crate::fixed::FixedCutter;
use crate::w16::W16Cutter;
use crate::{Simd, Spec};

/// Where does a chunk end? Has no state, so one cutter serves any number of streams.
pub trait Cutter: Send + Sync {
    /// No chunk is longer; with that many bytes [`Cutter::cut`] always decides.
    fn max_bytes(&self) -> usize;

    /// The length of the chunk that begins at `data[0]`, 1 to `max_bytes`, or `None` if that needs more bytes.
    ///
    /// `seen` is the length of `data` at the previous, undecided call for this chunk (0 at the first): nothing that was
    /// rejected then is looked at again. `last` says that the input ends with `data`. Empty data give `None`.
    fn cut(&self, data: &[u8], seen: usize, last: bool) -> Option<usize>;
}

/// The cutter of `spec`; `simd` matters to w16-v1 only.
#[must_use]
pub fn cutter_for(spec: &Spec, simd: Simd) -> Box<dyn Cutter> {
    match spec {
        Spec::Fixed { size } => Box::new(FixedCutter::new(*size)),
        Spec::Delimiter { delimiter, min, max } => Box::new(DelimiterCutter::new(delimiter, *min, *max)),
        Spec::FastCdc(sizes) => Box::new(FastCdcCutter::new(*sizes)),
        Spec::W16(sizes) => Box::new(W16Cutter::new(*sizes, simd)),
    }
}

/// What every cutter answers when it found nothing in the first `n` bytes, `n` at most `max`.
pub(crate) fn forced_cut(n: usize, max: usize, last: bool) -> Option<usize> {
    (n > 0 && (last || n == max)).then_some(n)
}
