"""Short descriptions of the formats of a store, kept inside it: whoever finds the store can read it without us.

Each text is what docs/formats says in full. A changed text becomes a new version in every store that is initialised
afterwards, so texts are corrected only together with the format they describe.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["BUILTIN_SCHEMAS"]

_MANIFEST_PAGE = """\
graviton manifest page, version 1 (docs/formats/manifest-page.md)
All integers big endian.
u8 version = 1; u8 algorithm tag of the blocks (1 blake3, 2 sha256); u16 entries 1..4096; u32 page number from 0;
u64 offset of the first byte; then per entry 32 bytes digest, u32 size (1..16777216);
then 32 bytes seal = H("graviton manifest page 1" NUL || blob key (41) || all bytes before), H = algorithm of the blob.
blob key: u8 algorithm tag, 32 bytes digest, u64 size.
"""

_METADATA_ROWS = """\
graviton metadata rows, version 1 (docs/formats/metadata.md)
All integers big endian. domain = UTF-8 || NUL. key = u8 algorithm tag, 32 bytes digest, u64 size (41).
blobs     domain key           -> u8 1, u64 owner, u32 pages, u32 blocks, u64 created ns, 32 pages digest,
                                  u16 length and text of the chunker spec, attributes
pages     u64 owner, u64 end   -> manifest page that ends at that offset
owners    u64 owner            -> u8 1, u8 state (1 open 2 committed 3 dropped 4 ended), u8 flags, u32 unconfirmed,
                                  u64 changed ns, u64 expires ns, u64 lifetime ns, domain,
                                  first claims (u8 kind, key each)
holders   u64 owner, UTF-8     -> empty
blocks    domain key           -> u8 1, u8 state (1 pending 2 stored 3 condemned 4 damaged), u8 flags, u64 generation
refs      domain key u64 owner -> u8 1, u8 kind (1 relies 2 writes 3 confirmed)
claims    u64 owner, key       -> the keys claimed by one call, end to end
totals    domain, any          -> u8 1, i64 blobs, i64 logical bytes, i64 blocks, i64 stored bytes: to be summed up
A blob is visible while its owner is committed. Block bytes: <prefix>/<algorithm>/<hex digest>-<size>.
"""

_CHUNKER_SPEC = """\
graviton chunker specs, version 1 (docs/formats/chunkers.md)
w16-v1:min:avg:max | fastcdc-v1:min:avg:max | delimiter-v1:hex:min:max | fixed-v1:size; sizes in decimal bytes.
"""

_LISTING = """\
graviton listing, version 1 (docs/formats/listing.md)
UTF-8 text, one line per entry of a tree: type, mode, mtime, size, blob id, path; stored as a blob.
"""

BUILTIN_SCHEMAS: Mapping[str, bytes] = MappingProxyType(
    {
        "graviton.manifest-page": _MANIFEST_PAGE.encode(),
        "graviton.metadata-rows": _METADATA_ROWS.encode(),
        "graviton.chunker-spec": _CHUNKER_SPEC.encode(),
        "graviton.listing": _LISTING.encode(),
    }
)
"""Name to description."""
