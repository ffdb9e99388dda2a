-- Garbage collection: what it leaves to be found by whoever comes after it, and how it finds what is due.

CREATE TABLE notes (
    domain_id  integer  NOT NULL,
    algo       smallint NOT NULL,
    digest     bytea    NOT NULL,
    size       integer  NOT NULL,
    run        bytea    NOT NULL,
    generation bigint   NOT NULL,
    noted_at   bigint   NOT NULL,
    CONSTRAINT notes_are_unique PRIMARY KEY (domain_id, algo, digest, size, run),
    CONSTRAINT notes_algo_is_known CHECK (algo IN (1, 2)),
    CONSTRAINT notes_digest_has_32_bytes CHECK (octet_length(digest) = 32),
    CONSTRAINT notes_size_is_1_byte_to_16_mib CHECK (size BETWEEN 1 AND 16777216),
    CONSTRAINT notes_run_has_16_bytes CHECK (octet_length(run) = 16),
    CONSTRAINT notes_generation_is_positive CHECK (generation > 0)
);
CREATE INDEX notes_by_run ON notes (run);
COMMENT ON TABLE notes IS
    'A run of garbage collection condemned a block and has not come to the end of it. Outlives the record of the block.';
COMMENT ON COLUMN notes.domain_id IS 'Domain of the block.';
COMMENT ON COLUMN notes.algo IS 'Hash algorithm: 1 blake3, 2 sha256.';
COMMENT ON COLUMN notes.digest IS 'Hash of its bytes.';
COMMENT ON COLUMN notes.size IS 'Its bytes.';
COMMENT ON COLUMN notes.run IS 'Random bytes of the run, which has a bounded number of notes.';
COMMENT ON COLUMN notes.generation IS 'Of the condemned record: with another one, the block has lived again since.';
COMMENT ON COLUMN notes.noted_at IS 'When.';

-- Owners that are gone, by state and age: a dropped one is looked at when its time to be brought back is over.
DROP INDEX owners_gone;
CREATE INDEX owners_gone ON owners (state, changed_at, id) WHERE state IN (3, 4);
