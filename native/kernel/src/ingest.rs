//! One pass over a blob: cuts, the digest of each block, the running digest of the blob.

use crate::{Algo, Cutter, Digest, Error, Hasher};

/// The blocks whose end one feed decided, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// Length of each block in bytes.
    pub lengths: Vec<usize>,
    /// Digest of each block.
    pub digests: Vec<Digest>,
}

/// The state of one blob on its way in. The caller owns the bytes and hands over segments that begin at a block start.
pub struct Ingest {
    cutter: Box<dyn Cutter>,
    block_algo: Algo,
    blob_algo: Algo,
    blob_hasher: Hasher,
    /// The digest of a blob of one block, which is hashed once.
    only_digest: Option<Digest>,
    /// Length of the undecided tail, already scanned, that the next segment must begin with.
    seen: usize,
    size: u64,
    ended: bool,
}

impl Ingest {
    /// An ingest at the start of a blob.
    #[must_use]
    pub fn new(cutter: Box<dyn Cutter>, block_algo: Algo, blob_algo: Algo) -> Self {
        let blob_hasher = blob_algo.hasher();
        Self { cutter, block_algo, blob_algo, blob_hasher, only_digest: None, seen: 0, size: 0, ended: false }
    }

    /// Cut and hash. The lengths cover the beginning of `segment`; what is left, less than one maximal block, must be
    /// the head of the next segment. With `last` everything is consumed.
    ///
    /// Block by block, so that the two hashes find the bytes still in the cache after the cut was looked for.
    pub fn feed(&mut self, segment: &[u8], last: bool) -> Result<Blocks, Error> {
        self.check(segment.len())?;
        let mut blocks = Blocks::default();
        let mut rest = segment;
        while let Some(length) = self.cutter.cut(rest, self.seen, last) {
            let (block, after) = rest.split_at(length);
            let is_whole_blob = last && self.size == 0 && after.is_empty();
            blocks.lengths.push(length);
            blocks.digests.push(self.hash(block, is_whole_blob));
            self.size += length as u64;
            self.seen = 0;
            rest = after;
        }
        if rest.len() >= self.cutter.max_bytes() {
            return Err(Error::new(format!("internal error: {} bytes and no cut", rest.len())));
        }
        self.seen = rest.len();
        self.ended = last;
        Ok(blocks)
    }

    fn check(&self, size: usize) -> Result<(), Error> {
        if self.ended {
            return Err(Error::new("this ingest had its final segment: nothing can be fed any more"));
        }
        if size < self.seen {
            let seen = self.seen;
            let message = format!("the segment has {size} bytes, but must begin with the undecided {seen} before it");
            return Err(Error::new(message));
        }
        Ok(())
    }

    fn hash(&mut self, block: &[u8], is_whole_blob: bool) -> Digest {
        let digest = self.block_algo.digest(block);
        if is_whole_blob && self.blob_algo == self.block_algo {
            self.only_digest = Some(digest);
        } else {
            self.blob_hasher.update(block);
        }
        digest
    }

    /// The digest of the blob and its size in bytes.
    pub fn finish(&self) -> Result<(Digest, u64), Error> {
        if self.seen > 0 {
            let message = format!("the last {} bytes are undecided: feed them again as the final segment", self.seen);
            return Err(Error::new(message));
        }
        Ok((self.only_digest.unwrap_or_else(|| self.blob_hasher.digest()), self.size))
    }
}
