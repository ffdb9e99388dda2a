-- The first schema of Graviton on PostgreSQL 15 to 18. docs/formats/postgres.md explains it, docs/block-life.md the
-- protocol that it serves. Names are not qualified: `graviton db migrate` sets the search path.
--
-- Never change this file: an applied migration has its checksum in `migrations`. Changes are new files, V2__….sql.
--
-- Times are nanoseconds since 1970-01-01 UTC in bigint, as in the ports; timestamptz would round them to microseconds.
-- `algo` is the tag of the hash algorithm: 1 blake3, 2 sha256.
--
-- There is no foreign key to `domains`: every insert would lock the one row that everybody uses.

-- Domains ------------------------------------------------------------------------------------------------------------

CREATE TABLE domains (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    CONSTRAINT domains_name_is_unique UNIQUE (name),
    CONSTRAINT domains_name_is_short CHECK (octet_length(name) <= 128)
);
COMMENT ON TABLE domains IS 'Domains of deduplication and keys: nothing is shared between two. Rows are never removed.';
COMMENT ON COLUMN domains.id IS 'Number used in all other tables.';
COMMENT ON COLUMN domains.name IS 'The name; the default domain is empty.';

INSERT INTO domains (name) VALUES ('');

-- Owners, blocks and who holds them ----------------------------------------------------------------------------------

CREATE TABLE owners (
    id            bigint PRIMARY KEY,
    domain_id     integer  NOT NULL,
    state         smallint NOT NULL,
    unconfirmed   integer  NOT NULL,
    losing_claims boolean  NOT NULL DEFAULT false,
    changed_at    bigint   NOT NULL,
    expires_at    bigint   NOT NULL,
    lifetime      bigint   NOT NULL,
    CONSTRAINT owners_id_is_positive CHECK (id > 0),
    CONSTRAINT owners_state_is_known CHECK (state BETWEEN 1 AND 4),
    CONSTRAINT owners_unconfirmed_is_a_count CHECK (unconfirmed >= 0),
    CONSTRAINT owners_committed_are_confirmed CHECK (state <> 2 OR unconfirmed = 0),
    CONSTRAINT owners_in_use_keep_their_claims CHECK (NOT losing_claims OR state IN (3, 4))
);
COMMENT ON TABLE owners IS 'What may hold blocks: an ingest in progress, or the manifest of a blob.';
COMMENT ON COLUMN owners.id IS 'Milliseconds since 2020 in the upper 42 bits, random below: new rows are neighbours.';
COMMENT ON COLUMN owners.domain_id IS 'The domain of everything it holds.';
COMMENT ON COLUMN owners.state IS '1 open, 2 committed, 3 dropped (its blob was deleted), 4 ended (aborted or expired).';
COMMENT ON COLUMN owners.unconfirmed IS 'Blocks that this open session has to write and has not confirmed as durable.';
COMMENT ON COLUMN owners.losing_claims IS 'At least one claim was taken away: it can never be committed again.';
COMMENT ON COLUMN owners.changed_at IS 'Time of the last change of state.';
COMMENT ON COLUMN owners.expires_at IS 'When a collector may end an open session; decides only when, never what is safe.';
COMMENT ON COLUMN owners.lifetime IS 'Nanoseconds that every sign of life adds to the time of day to give expires_at.';

-- What a collector looks for: sessions that expired, owners whose claims can be taken away.
CREATE INDEX owners_open ON owners (expires_at) WHERE state = 1;
CREATE INDEX owners_gone ON owners (changed_at) WHERE state IN (3, 4);

CREATE TABLE blocks (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain_id   integer  NOT NULL,
    algo        smallint NOT NULL,
    digest      bytea    NOT NULL,
    size        integer  NOT NULL,
    state       smallint NOT NULL,
    generation  bigint   NOT NULL,
    wanted_back boolean  NOT NULL DEFAULT false,
    CONSTRAINT blocks_key_is_unique UNIQUE (domain_id, algo, digest, size),
    CONSTRAINT blocks_algo_is_known CHECK (algo IN (1, 2)),
    CONSTRAINT blocks_digest_has_32_bytes CHECK (octet_length(digest) = 32),
    CONSTRAINT blocks_size_is_1_byte_to_16_mib CHECK (size BETWEEN 1 AND 16777216),
    CONSTRAINT blocks_state_is_known CHECK (state BETWEEN 1 AND 4),
    CONSTRAINT blocks_generation_is_positive CHECK (generation > 0),
    CONSTRAINT blocks_wanted_back_are_stored CHECK (NOT wanted_back OR state = 2)
) WITH (fillfactor = 80);  -- pending becomes stored in the same page (HOT): no index knows the state
ALTER TABLE blocks ALTER COLUMN digest SET STORAGE PLAIN;
COMMENT ON TABLE blocks IS 'The record of every block: whether its bytes can be relied on. The authority, not the block store.';
COMMENT ON COLUMN blocks.id IS 'Number used in refs, so that they do not repeat keys of 40 bytes.';
COMMENT ON COLUMN blocks.domain_id IS 'Its domain.';
COMMENT ON COLUMN blocks.algo IS 'Hash algorithm: 1 blake3, 2 sha256.';
COMMENT ON COLUMN blocks.digest IS 'Hash of the bytes.';
COMMENT ON COLUMN blocks.size IS 'Bytes.';
COMMENT ON COLUMN blocks.state IS '1 pending, 2 stored, 3 condemned, 4 damaged.';
COMMENT ON COLUMN blocks.generation IS 'Grows with every change of state but confirming; tells one life from the next.';
COMMENT ON COLUMN blocks.wanted_back IS 'A read served it from trash: a collector puts it back.';

CREATE TABLE refs (
    owner_id bigint   NOT NULL,
    block_id bigint   NOT NULL,
    kind     smallint NOT NULL,
    CONSTRAINT refs_are_unique PRIMARY KEY (owner_id, block_id),
    CONSTRAINT refs_have_an_owner FOREIGN KEY (owner_id) REFERENCES owners,
    CONSTRAINT refs_have_a_block FOREIGN KEY (block_id) REFERENCES blocks,
    CONSTRAINT refs_kind_is_known CHECK (kind BETWEEN 1 AND 3)
);
CREATE INDEX refs_by_block ON refs (block_id, owner_id);
COMMENT ON TABLE refs IS 'Claims: which owner holds which block. No block with a claim is ever removed.';
COMMENT ON COLUMN refs.owner_id IS 'Who holds.';
COMMENT ON COLUMN refs.block_id IS 'What is held.';
COMMENT ON COLUMN refs.kind IS
    '1 relies on a stored block, 2 has to write it, 3 has written it. Says something about open owners only.';

CREATE TABLE candidates (
    block_id bigint PRIMARY KEY,
    CONSTRAINT candidates_are_blocks FOREIGN KEY (block_id) REFERENCES blocks
);
COMMENT ON TABLE candidates IS 'Blocks that lost a claim and may have none left: all that garbage collection looks at.';
COMMENT ON COLUMN candidates.block_id IS 'The block.';

-- Blobs --------------------------------------------------------------------------------------------------------------

CREATE TABLE blobs (
    domain_id    integer  NOT NULL,
    algo         smallint NOT NULL,
    digest       bytea    NOT NULL,
    size         bigint   NOT NULL,
    owner_id     bigint   NOT NULL,
    page_count   integer  NOT NULL,
    block_count  bigint   NOT NULL,
    pages_digest bytea    NOT NULL,
    chunker      text     NOT NULL,
    created_at   bigint   NOT NULL,
    attributes   bytea    NOT NULL,
    CONSTRAINT blobs_key_is_unique PRIMARY KEY (domain_id, algo, digest, size),
    CONSTRAINT blobs_have_an_owner_of_their_own UNIQUE (owner_id),
    CONSTRAINT blobs_have_an_owner FOREIGN KEY (owner_id) REFERENCES owners,
    CONSTRAINT blobs_algo_is_known CHECK (algo IN (1, 2)),
    CONSTRAINT blobs_digest_has_32_bytes CHECK (octet_length(digest) = 32),
    CONSTRAINT blobs_size_is_not_negative CHECK (size >= 0),
    CONSTRAINT blobs_pages_digest_has_32_bytes CHECK (octet_length(pages_digest) = 32),
    CONSTRAINT blobs_pages_fit_their_blocks CHECK (
        page_count >= 0 AND block_count >= page_count AND block_count <= 4096 * page_count::bigint),
    CONSTRAINT blobs_blocks_fit_their_size CHECK ((size = 0) = (block_count = 0) AND block_count <= size)
) WITH (fillfactor = 90);
ALTER TABLE blobs ALTER COLUMN digest SET STORAGE PLAIN;
COMMENT ON TABLE blobs IS 'Blobs by key. One is visible exactly while the owner that it names is committed.';
COMMENT ON COLUMN blobs.domain_id IS 'Its domain.';
COMMENT ON COLUMN blobs.algo IS 'Hash algorithm: 1 blake3, 2 sha256.';
COMMENT ON COLUMN blobs.digest IS 'Hash of all bytes.';
COMMENT ON COLUMN blobs.size IS 'Bytes.';
COMMENT ON COLUMN blobs.owner_id IS 'Who holds its pages and blocks.';
COMMENT ON COLUMN blobs.page_count IS 'Pages of its manifest; none if it is empty.';
COMMENT ON COLUMN blobs.block_count IS 'Entries of its manifest.';
COMMENT ON COLUMN blobs.pages_digest IS 'Digest over the digests of all pages (docs/formats/manifest-page.md).';
COMMENT ON COLUMN blobs.chunker IS 'Canonical text of the chunker that cut it.';
COMMENT ON COLUMN blobs.created_at IS 'Time of the commit that made it visible.';
COMMENT ON COLUMN blobs.attributes IS 'Advertised and confirmed attributes (docs/formats/attributes.md).';

CREATE TABLE pages (
    owner_id   bigint NOT NULL,
    end_offset bigint NOT NULL,
    data       bytea  NOT NULL,
    CONSTRAINT pages_are_unique PRIMARY KEY (owner_id, end_offset),
    CONSTRAINT pages_have_an_owner FOREIGN KEY (owner_id) REFERENCES owners,
    CONSTRAINT pages_end_is_positive CHECK (end_offset > 0)
);
ALTER TABLE pages ALTER COLUMN data SET STORAGE EXTERNAL;  -- digests do not compress
COMMENT ON TABLE pages IS 'Pages of manifests. The page with byte x is the first of its owner with end_offset > x.';
COMMENT ON COLUMN pages.owner_id IS 'Whose manifest.';
COMMENT ON COLUMN pages.end_offset IS 'Offset in the blob of the byte after its last.';
COMMENT ON COLUMN pages.data IS 'The page (docs/formats/manifest-page.md), not sealed until the commit of a large blob.';

CREATE TABLE holders (
    owner_id bigint NOT NULL,
    name     text COLLATE "C" NOT NULL,
    CONSTRAINT holders_are_unique PRIMARY KEY (owner_id, name),
    CONSTRAINT holders_have_an_owner FOREIGN KEY (owner_id) REFERENCES owners,
    CONSTRAINT holders_name_is_short CHECK (octet_length(name) <= 128)
);
COMMENT ON TABLE holders IS 'Who keeps a blob: the last one that goes drops its owner.';
COMMENT ON COLUMN holders.owner_id IS 'Owner of the blob.';
COMMENT ON COLUMN holders.name IS 'The holder; the default one is empty.';

CREATE TABLE totals (
    domain_id     integer NOT NULL,
    suffix        bytea   NOT NULL,
    blobs         bigint  NOT NULL,
    logical_bytes bigint  NOT NULL,
    blocks        bigint  NOT NULL,
    stored_bytes  bigint  NOT NULL,
    CONSTRAINT totals_are_unique PRIMARY KEY (domain_id, suffix)
);
COMMENT ON TABLE totals IS 'Changes of the totals; the sum of a domain is its totals. Old rows are folded into one.';
COMMENT ON COLUMN totals.domain_id IS 'The domain.';
COMMENT ON COLUMN totals.suffix IS 'Random bytes; nobody waits for a row of somebody else.';
COMMENT ON COLUMN totals.blobs IS 'Visible blobs more.';
COMMENT ON COLUMN totals.logical_bytes IS 'Their bytes.';
COMMENT ON COLUMN totals.blocks IS 'Stored blocks more.';
COMMENT ON COLUMN totals.stored_bytes IS 'Their bytes.';

-- Keys and values ------------------------------------------------------------------------------------------------------

CREATE TABLE kv_namespaces (
    name text COLLATE "C" PRIMARY KEY,
    CONSTRAINT kv_namespaces_name_is_legal CHECK (name ~ '^[a-z][a-z0-9_]{0,30}$')
);
COMMENT ON TABLE kv_namespaces IS 'Namespaces of kv that exist. Rows are never removed.';
COMMENT ON COLUMN kv_namespaces.name IS 'The name.';

CREATE TABLE kv (
    namespace text COLLATE "C" NOT NULL,
    key       bytea NOT NULL,
    value     bytea NOT NULL,
    CONSTRAINT kv_key_is_unique PRIMARY KEY (namespace, key),
    CONSTRAINT kv_key_has_1_to_1024_bytes CHECK (octet_length(key) BETWEEN 1 AND 1024)
);
ALTER TABLE kv ALTER COLUMN key SET STORAGE PLAIN;
COMMENT ON TABLE kv IS 'Ordered bytes under bytes: the store marker, schemas, and what users of the library keep.';
COMMENT ON COLUMN kv.namespace IS 'Namespaces share nothing.';
COMMENT ON COLUMN kv.key IS 'Ordered as unsigned bytes.';
COMMENT ON COLUMN kv.value IS 'At most 64 MiB, which the program checks.';

-- Objects --------------------------------------------------------------------------------------------------------------

CREATE TABLE object_contents (
    id         uuid PRIMARY KEY,
    state      smallint NOT NULL,
    size       bigint   NOT NULL,
    part_bytes integer  NOT NULL,
    expires_at bigint   NOT NULL,
    CONSTRAINT object_contents_state_is_known CHECK (state BETWEEN 1 AND 3),
    CONSTRAINT object_contents_size_is_not_negative CHECK (size >= 0),
    CONSTRAINT object_contents_part_bytes_are_bounded CHECK (part_bytes BETWEEN 1 AND 16777216)
) WITH (fillfactor = 70);  -- size grows with every part in the same page (HOT): no index knows it
CREATE INDEX object_contents_gone ON object_contents (expires_at) WHERE state <> 2;
COMMENT ON TABLE object_contents IS 'Bytes of objects, apart from their names, so that a name changes its bytes at once.';
COMMENT ON COLUMN object_contents.id IS 'Drawn by who writes it: milliseconds since 1970, then random (UUID version 7).';
COMMENT ON COLUMN object_contents.state IS '1 being written, 2 in use by an object, 3 replaced, deleted or given up.';
COMMENT ON COLUMN object_contents.size IS
    'Bytes of its parts: what was written so far, what is there, what is not yet removed (the last parts go first).';
COMMENT ON COLUMN object_contents.part_bytes IS 'Size of every part but the last.';
COMMENT ON COLUMN object_contents.expires_at IS
    'When somebody else may remove it: of one being written, renewed by its parts; not of one in use.';

CREATE TABLE object_parts (
    content_id uuid    NOT NULL,
    number     integer NOT NULL,
    data       bytea   NOT NULL,
    CONSTRAINT object_parts_are_unique PRIMARY KEY (content_id, number),
    CONSTRAINT object_parts_have_a_content FOREIGN KEY (content_id) REFERENCES object_contents,
    CONSTRAINT object_parts_number_is_not_negative CHECK (number >= 0),
    CONSTRAINT object_parts_are_bounded CHECK (octet_length(data) BETWEEN 1 AND 16777216)
);
ALTER TABLE object_parts ALTER COLUMN data SET STORAGE EXTERNAL;  -- a range of a part is then read without the rest
COMMENT ON TABLE object_parts IS 'Parts of contents: no row is ever as large as an object.';
COMMENT ON COLUMN object_parts.content_id IS 'Which content.';
COMMENT ON COLUMN object_parts.number IS 'Place in it, from 0.';
COMMENT ON COLUMN object_parts.data IS 'The bytes, as they are.';

CREATE TABLE objects (
    bucket      text COLLATE "C" NOT NULL,
    path        text COLLATE "C" NOT NULL,
    content_id  uuid   NOT NULL,
    modified_at bigint NOT NULL,
    CONSTRAINT objects_path_is_unique PRIMARY KEY (bucket, path),
    CONSTRAINT objects_path_fits_its_index CHECK (octet_length(bucket) + octet_length(path) <= 2600),
    CONSTRAINT objects_have_a_content_of_their_own UNIQUE (content_id),
    CONSTRAINT objects_have_a_content FOREIGN KEY (content_id) REFERENCES object_contents
);
COMMENT ON TABLE objects IS 'Objects of the locators pg://BUCKET/PATH.';
COMMENT ON COLUMN objects.bucket IS 'Bucket of the locator.';
COMMENT ON COLUMN objects.path IS 'Path of the locator, ordered as UTF-8 bytes.';
COMMENT ON COLUMN objects.content_id IS 'Its bytes.';
COMMENT ON COLUMN objects.modified_at IS 'Time of the last put.';
