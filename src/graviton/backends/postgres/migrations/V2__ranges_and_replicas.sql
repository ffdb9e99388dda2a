-- Persisted ranges of locators, and where the copies of blocks are. docs/decisions/0020-postgres-ranges.md has what was
-- measured. Never change this file; changes are new files.

-- Ranges ---------------------------------------------------------------------------------------------------------------

CREATE TABLE range_heads (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    place   bytea NOT NULL,
    tag     bytea NOT NULL,
    locator text COLLATE "C" NOT NULL,
    CONSTRAINT range_heads_place_is_unique UNIQUE (place),
    CONSTRAINT range_heads_place_has_32_bytes CHECK (octet_length(place) = 32),
    CONSTRAINT range_heads_tag_has_8_bytes CHECK (octet_length(tag) = 8),
    CONSTRAINT range_heads_locator_is_one CHECK (locator ~ '^[a-z][a-z0-9+.-]*://[^/]+/.')
) WITH (fillfactor = 80);  -- every change of a locator changes the tag, in the same page (HOT)
COMMENT ON TABLE range_heads IS 'Locators of which ranges are known. The row is the lock of its ranges.';
COMMENT ON COLUMN range_heads.id IS 'Number used in ranges, so that they do not repeat 32 bytes.';
COMMENT ON COLUMN range_heads.place IS 'BLAKE2b-256 of the locator: its text may be longer than an index takes.';
COMMENT ON COLUMN range_heads.tag IS 'Random bytes, new with every change: the same tag, the same ranges.';
COMMENT ON COLUMN range_heads.locator IS 'The locator, scheme://bucket/path.';

CREATE TABLE ranges (
    head_id      bigint NOT NULL,
    start_offset bigint NOT NULL,
    end_offset   bigint NOT NULL,
    CONSTRAINT ranges_are_unique PRIMARY KEY (head_id, start_offset),
    CONSTRAINT ranges_have_a_head FOREIGN KEY (head_id) REFERENCES range_heads,
    CONSTRAINT ranges_are_not_empty CHECK (0 <= start_offset AND start_offset < end_offset)
) WITH (fillfactor = 90);  -- a range that grows at its end stays in its page (HOT): no index knows the end
COMMENT ON TABLE ranges IS 'The bytes start_offset to end_offset - 1 are there. Of one locator none overlap or touch.';
COMMENT ON COLUMN ranges.head_id IS 'Whose.';
COMMENT ON COLUMN ranges.start_offset IS 'Offset of the first byte.';
COMMENT ON COLUMN ranges.end_offset IS 'Offset of the byte after the last.';

-- Replicas -------------------------------------------------------------------------------------------------------------

CREATE TABLE replica_counts (
    algo   smallint NOT NULL,
    digest bytea    NOT NULL,
    size   integer  NOT NULL,
    live   integer  NOT NULL,
    CONSTRAINT replica_counts_key_is_unique PRIMARY KEY (algo, digest, size),
    CONSTRAINT replica_counts_algo_is_known CHECK (algo IN (1, 2)),
    CONSTRAINT replica_counts_digest_has_32_bytes CHECK (octet_length(digest) = 32),
    CONSTRAINT replica_counts_size_is_1_byte_to_16_mib CHECK (size BETWEEN 1 AND 16777216),
    CONSTRAINT replica_counts_live_is_a_count CHECK (live >= 0)
);
COMMENT ON TABLE replica_counts IS 'Blocks of which copies are recorded. The row is the lock of its copies.';
COMMENT ON COLUMN replica_counts.algo IS 'Hash algorithm: 1 blake3, 2 sha256.';
COMMENT ON COLUMN replica_counts.digest IS 'Hash of the block.';
COMMENT ON COLUMN replica_counts.size IS 'Bytes of the block.';
COMMENT ON COLUMN replica_counts.live IS 'Copies that are present.';

-- Blocks with few copies, in the order of keys for each number of them.
CREATE INDEX replica_counts_by_live ON replica_counts (live, algo, digest, size);

CREATE TABLE replicas (
    algo        smallint NOT NULL,
    digest      bytea    NOT NULL,
    size        integer  NOT NULL,
    locator_id  bytea    NOT NULL,
    locator     text COLLATE "C" NOT NULL,
    state       smallint NOT NULL,
    verified_at bigint   NOT NULL,
    CONSTRAINT replicas_are_unique PRIMARY KEY (algo, digest, size, locator_id),
    CONSTRAINT replicas_are_counted FOREIGN KEY (algo, digest, size) REFERENCES replica_counts,
    CONSTRAINT replicas_locator_id_has_16_bytes CHECK (octet_length(locator_id) = 16),
    CONSTRAINT replicas_locator_is_one CHECK (locator ~ '^[a-z][a-z0-9+.-]*://[^/]+/.'),
    CONSTRAINT replicas_state_is_known CHECK (state BETWEEN 1 AND 4),
    CONSTRAINT replicas_verified_at_is_a_time CHECK (verified_at >= 0)
);
COMMENT ON TABLE replicas IS 'Copies of blocks. The keys are repeated, not numbered: planners page in their order.';
COMMENT ON COLUMN replicas.algo IS 'Hash algorithm: 1 blake3, 2 sha256.';
COMMENT ON COLUMN replicas.digest IS 'Hash of the block.';
COMMENT ON COLUMN replicas.size IS 'Bytes of the block.';
COMMENT ON COLUMN replicas.locator_id IS 'BLAKE2b-128 of the locator: its text may be longer than an index takes.';
COMMENT ON COLUMN replicas.locator IS 'Where the copy is, scheme://bucket/path.';
COMMENT ON COLUMN replicas.state IS '1 present, 2 missing, 3 corrupt, 4 relocating.';
COMMENT ON COLUMN replicas.verified_at IS 'Time of the last verification, 0 never.';

-- Copies in one bucket in the order of keys; the bucket is what is between the second and the third slash.
CREATE INDEX replicas_by_bucket ON replicas (split_part(locator, '/', 3), algo, digest, size, locator_id);
-- Present copies, those verified longest ago first.
CREATE INDEX replicas_by_verified ON replicas (verified_at, algo, digest, size, locator_id) WHERE state = 1;
