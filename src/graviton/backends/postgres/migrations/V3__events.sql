-- The outbox of events: what happened, written in the transaction in which it happened, for followers that must not miss
-- any of it. docs/decisions/0023-postgres-events.md says how it is read, and why in this way.

CREATE TABLE events (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    txid      xid8    NOT NULL DEFAULT pg_current_xact_id(),
    at        bigint  NOT NULL,
    domain_id integer NOT NULL,
    kind      text COLLATE "C" NOT NULL,
    subject   text COLLATE "C" NOT NULL,
    data      jsonb   NOT NULL,
    CONSTRAINT events_kind_is_known CHECK (kind IN ('blob.committed', 'blob.deleted', 'block.stored', 'block.damaged')),
    CONSTRAINT events_subject_is_short CHECK (octet_length(subject) BETWEEN 1 AND 256),
    CONSTRAINT events_data_is_an_object CHECK (jsonb_typeof(data) = 'object')
);
CREATE INDEX events_by_transaction ON events (txid, id);
COMMENT ON TABLE events IS 'Outbox: an event is there exactly if its change is. Trimmed by PgOutbox.trim only.';
COMMENT ON COLUMN events.id IS
    'Order of events that depend on each other: drawn while their transaction held the locks. Not the order of commits.';
COMMENT ON COLUMN events.txid IS 'The transaction: whether a follower has seen it is told by snapshots.';
COMMENT ON COLUMN events.at IS 'Time of the change, by the clock of who made it.';
COMMENT ON COLUMN events.domain_id IS 'Domain of the subject.';
COMMENT ON COLUMN events.kind IS 'What happened (graviton.ports.events.EventKind).';
COMMENT ON COLUMN events.subject IS 'Text of the key of the blob or block.';
COMMENT ON COLUMN events.data IS 'More about it: texts and numbers by name.';

CREATE TABLE event_stream (
    is_only      boolean PRIMARY KEY DEFAULT true,
    id           text COLLATE "C" NOT NULL,
    place        text COLLATE "C" NOT NULL,
    trims        bigint NOT NULL DEFAULT 0,
    trimmed_txid xid8   NOT NULL DEFAULT '0',
    trimmed_id   bigint NOT NULL DEFAULT 0,
    CONSTRAINT event_stream_has_one_row CHECK (is_only),
    CONSTRAINT event_stream_id_is_random CHECK (id ~ '^[0-9a-f]{32}$')
);
COMMENT ON TABLE event_stream IS 'What the positions of followers belong to. One row.';
COMMENT ON COLUMN event_stream.is_only IS 'True.';
COMMENT ON COLUMN event_stream.id IS 'Name of the stream, random: a position of another one means nothing here.';
COMMENT ON COLUMN event_stream.place IS
    'Server, timeline, database and table in which the stream began. Elsewhere (restored, copied, failed over) it is'
    ' another one, because transaction numbers are.';
COMMENT ON COLUMN event_stream.trims IS 'How often events were removed.';
COMMENT ON COLUMN event_stream.trimmed_txid IS 'Greatest transaction of a removed event.';
COMMENT ON COLUMN event_stream.trimmed_id IS 'Greatest id of a removed event.';

-- The place as PgOutbox compares it.
INSERT INTO event_stream (id, place)
SELECT replace(gen_random_uuid()::text, '-', ''),
       concat_ws('/', (SELECT system_identifier FROM pg_control_system()), left(pg_walfile_name(pg_current_wal_lsn()), 8),
                 (SELECT oid FROM pg_database WHERE datname = current_database()), 'events'::regclass::oid);
