-- The schema of a directory in PostgreSQL, made and brought up to date by this one file: every statement may
-- run again. Later versions only add to it, so that servers of two versions may share a database: columns get
-- a default, and a function that changes gets a new number while its former one stays.
--
-- The columns of `node` and `tombstone` are the fields of `Record` and `Tombstone`. Commits are numbered: a
-- record has the number of the commit that wrote it, as has a row of `seen`, which holds the latest signs of
-- life of a page of slots. No column that changes has an index: a change then touches one page.

CREATE SCHEMA IF NOT EXISTS openred;
REVOKE ALL ON SCHEMA openred FROM PUBLIC;

-- One row: who leads, since which commit, and the vitals of the directory. It changes several times a second,
-- so its page has room for the versions that nobody has removed yet.
CREATE TABLE IF NOT EXISTS openred.cluster (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    schema_version integer NOT NULL DEFAULT 0,
    lineage text NOT NULL DEFAULT gen_random_uuid()::text,
    term bigint NOT NULL DEFAULT 0,
    holder text NOT NULL DEFAULT '',
    renewals bigint NOT NULL DEFAULT 0,
    seq bigint NOT NULL DEFAULT 0,
    tag bigint NOT NULL DEFAULT 0,
    at double precision NOT NULL DEFAULT 0,
    attended_s double precision NOT NULL DEFAULT 0,
    revision bigint NOT NULL DEFAULT 0,
    transitions_per_h double precision NOT NULL DEFAULT 0,
    leader jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 10);
INSERT INTO openred.cluster DEFAULT VALUES ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS openred.node (
    slot bigint PRIMARY KEY,
    node_id text COLLATE "C" NOT NULL,
    state bigint NOT NULL,
    flags bigint NOT NULL,
    registered_at double precision NOT NULL,
    last_seen_at double precision NOT NULL,
    last_seen_s double precision NOT NULL,
    since_s double precision NOT NULL,
    usual_gap_s double precision NOT NULL,
    revision bigint NOT NULL,
    services text NOT NULL,
    region text NOT NULL,
    profile text NOT NULL,
    away_from_s double precision NOT NULL,
    away_until_s double precision NOT NULL,
    history text NOT NULL,
    generation bigint NOT NULL,
    next_key text NOT NULL,
    longest bigint NOT NULL,
    commit_number bigint NOT NULL,
    -- Names may swap their slots within a commit.
    UNIQUE (node_id) DEFERRABLE INITIALLY DEFERRED
) WITH (fillfactor = 80);

CREATE TABLE IF NOT EXISTS openred.tombstone (
    id_hash text COLLATE "C" PRIMARY KEY,
    key_fingerprint text NOT NULL,
    died_at double precision NOT NULL,
    died_s double precision NOT NULL,
    reason text NOT NULL,
    revision bigint NOT NULL,
    flags bigint NOT NULL,
    next_key text NOT NULL
);

-- Plain storage, and half of each page free: a page of signs of life is written over where it lies, without
-- the detour by a second table.
CREATE TABLE IF NOT EXISTS openred.seen (
    page bigint PRIMARY KEY,
    commit_number bigint NOT NULL,
    signs bytea NOT NULL
) WITH (fillfactor = 50);
-- ALTER locks out a leader at work, also where it changes nothing.
DO $$ BEGIN
    IF (SELECT attstorage FROM pg_attribute WHERE attrelid = 'openred.seen'::regclass AND attname = 'signs')
            <> 'p' THEN
        ALTER TABLE openred.seen ALTER signs SET STORAGE PLAIN;
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS openred.kept (name text COLLATE "C" PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE IF NOT EXISTS openred.revocation (
    token_id text COLLATE "C" PRIMARY KEY,
    expires_at double precision NOT NULL
);
-- Every value is sealed.
CREATE TABLE IF NOT EXISTS openred.secret (name text COLLATE "C" PRIMARY KEY, value bytea NOT NULL);

-- The fence that each change passes: no row is found unless the run leads the term and nobody has written since
-- its own last commit. Vitals that are NULL stay. A commit waits for the disk, and for synchronous standbys,
-- whatever the session or a pooler has set; a lock of another client holds nothing up for long.
CREATE OR REPLACE FUNCTION openred.fence_1(
    p_term bigint, p_run text, p_seq bigint, p_tag bigint, p_next_seq bigint, p_next_tag bigint,
    p_at double precision, p_attended_s double precision DEFAULT NULL, p_revision bigint DEFAULT NULL,
    p_transitions_per_h double precision DEFAULT NULL
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true), set_config('lock_timeout', '300ms', true);
    UPDATE openred.cluster SET
        seq = p_next_seq, tag = p_next_tag, renewals = renewals + 1, at = p_at,
        attended_s = coalesce(p_attended_s, attended_s), revision = coalesce(p_revision, revision),
        transitions_per_h = coalesce(p_transitions_per_h, transitions_per_h)
    WHERE term = p_term AND holder = p_run AND seq = p_seq AND tag = p_tag;
    RETURN FOUND;
END $$;

-- Records and tombstones come as one JSON document each, by columns.
CREATE OR REPLACE FUNCTION openred.commit_1(
    p_term bigint, p_run text, p_seq bigint, p_tag bigint, p_next_seq bigint, p_next_tag bigint,
    p_at double precision, p_attended_s double precision, p_revision bigint,
    p_transitions_per_h double precision, p_freed bigint[], p_records json, p_lifted text[],
    p_tombstones json, p_pages bigint[], p_signs bytea[], p_unkept text[], p_kept text[], p_values bytea[]
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given bigint;
    written bigint;
BEGIN
    IF NOT openred.fence_1(
        p_term, p_run, p_seq, p_tag, p_next_seq, p_next_tag, p_at, p_attended_s, p_revision,
        p_transitions_per_h
    ) THEN
        RETURN false;
    END IF;
    IF p_freed IS NOT NULL THEN
        DELETE FROM openred.node WHERE slot = ANY (p_freed);
    END IF;
    IF p_records IS NOT NULL THEN
        INSERT INTO openred.node
        SELECT each.*, p_next_seq FROM json_to_record(p_records) AS r(
            slot bigint[], node_id text[], state bigint[], flags bigint[], registered_at double precision[],
            last_seen_at double precision[], last_seen_s double precision[], since_s double precision[],
            usual_gap_s double precision[], revision bigint[], services text[], region text[],
            profile text[], away_from_s double precision[], away_until_s double precision[], history text[],
            generation bigint[], next_key text[], longest bigint[]
        ), unnest(
            r.slot, r.node_id, r.state, r.flags, r.registered_at, r.last_seen_at, r.last_seen_s, r.since_s,
            r.usual_gap_s, r.revision, r.services, r.region, r.profile, r.away_from_s, r.away_until_s,
            r.history, r.generation, r.next_key, r.longest
        ) AS each
        ON CONFLICT (slot) DO UPDATE SET (
            node_id, state, flags, registered_at, last_seen_at, last_seen_s, since_s, usual_gap_s, revision,
            services, region, profile, away_from_s, away_until_s, history, generation, next_key, longest,
            commit_number
        ) = (
            excluded.node_id, excluded.state, excluded.flags, excluded.registered_at, excluded.last_seen_at,
            excluded.last_seen_s, excluded.since_s, excluded.usual_gap_s, excluded.revision,
            excluded.services, excluded.region, excluded.profile, excluded.away_from_s,
            excluded.away_until_s, excluded.history, excluded.generation, excluded.next_key,
            excluded.longest, excluded.commit_number
        )
        WHERE node.revision <= excluded.revision;
        GET DIAGNOSTICS written = ROW_COUNT;
        given := json_array_length(p_records -> 'slot');
        IF written <> given THEN
            RAISE EXCEPTION USING ERRCODE = 'OR001', MESSAGE = format(
                '%s of %s records are older than what is stored in their slots', given - written, given);
        END IF;
    END IF;
    IF p_lifted IS NOT NULL THEN
        DELETE FROM openred.tombstone WHERE id_hash = ANY (p_lifted);
    END IF;
    IF p_tombstones IS NOT NULL THEN
        INSERT INTO openred.tombstone
        SELECT each.* FROM json_to_record(p_tombstones) AS r(
            id_hash text[], key_fingerprint text[], died_at double precision[], died_s double precision[],
            reason text[], revision bigint[], flags bigint[], next_key text[]
        ), unnest(
            r.id_hash, r.key_fingerprint, r.died_at, r.died_s, r.reason, r.revision, r.flags, r.next_key
        ) AS each
        ON CONFLICT (id_hash) DO UPDATE SET (
            key_fingerprint, died_at, died_s, reason, revision, flags, next_key
        ) = (
            excluded.key_fingerprint, excluded.died_at, excluded.died_s, excluded.reason, excluded.revision,
            excluded.flags, excluded.next_key
        );
    END IF;
    IF p_pages IS NOT NULL THEN
        INSERT INTO openred.seen
        SELECT each.page, p_next_seq, each.signs FROM unnest(p_pages, p_signs) AS each(page, signs)
        ON CONFLICT (page) DO UPDATE SET (commit_number, signs) = (excluded.commit_number, excluded.signs);
    END IF;
    IF p_unkept IS NOT NULL THEN
        DELETE FROM openred.kept WHERE name = ANY (p_unkept);
    END IF;
    IF p_kept IS NOT NULL THEN
        INSERT INTO openred.kept SELECT * FROM unnest(p_kept, p_values)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value;
    END IF;
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION openred.renew_1(
    p_term bigint, p_run text, p_seq bigint, p_tag bigint, p_next_tag bigint, p_at double precision
) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT openred.fence_1(p_term, p_run, p_seq, p_tag, p_seq, p_next_tag, p_at)
$$;

CREATE OR REPLACE FUNCTION openred.put_secret_1(
    p_term bigint, p_run text, p_seq bigint, p_tag bigint, p_next_tag bigint, p_at double precision,
    p_name text, p_value bytea
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT openred.fence_1(p_term, p_run, p_seq, p_tag, p_seq, p_next_tag, p_at) THEN
        RETURN false;
    END IF;
    INSERT INTO openred.secret VALUES (p_name, p_value)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value;
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION openred.revoke_1(
    p_term bigint, p_run text, p_seq bigint, p_tag bigint, p_next_tag bigint, p_at double precision,
    p_gone text[], p_token_ids text[], p_expires_at double precision[]
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT openred.fence_1(p_term, p_run, p_seq, p_tag, p_seq, p_next_tag, p_at) THEN
        RETURN false;
    END IF;
    DELETE FROM openred.revocation WHERE token_id = ANY (p_gone);
    INSERT INTO openred.revocation SELECT * FROM unnest(p_token_ids, p_expires_at)
    ON CONFLICT (token_id) DO UPDATE SET expires_at = excluded.expires_at;
    RETURN true;
END $$;

-- Take the lease, if nothing has changed since it was seen so. Return where the new term begins.
CREATE OR REPLACE FUNCTION openred.take_lease_1(
    p_lineage text, p_term bigint, p_renewals bigint, p_term_next bigint, p_run text, p_leader jsonb,
    p_at double precision
) RETURNS TABLE (seq bigint, tag bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true), set_config('lock_timeout', '300ms', true);
    RETURN QUERY UPDATE openred.cluster AS c SET
        term = p_term_next, holder = p_run, renewals = c.renewals + 1, at = p_at, leader = p_leader
    WHERE c.lineage = p_lineage AND c.term = p_term AND c.renewals = p_renewals AND p_term < p_term_next
    RETURNING c.seq, c.tag;
END $$;

CREATE OR REPLACE FUNCTION openred.goodbye_1(
    p_term bigint, p_run text, p_seq bigint, p_tag bigint, p_next_tag bigint, p_at double precision
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT openred.fence_1(p_term, p_run, p_seq, p_tag, p_seq, p_next_tag, p_at) THEN
        RETURN false;
    END IF;
    UPDATE openred.cluster SET holder = '', leader = '{}';
    RETURN true;
END $$;

-- The number in eight bytes of a page of signs of life: IEEE 754, the least byte first.
CREATE OR REPLACE FUNCTION openred.double_in(signs bytea, place integer)
RETURNS double precision LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN bits & x'7fffffffffffffff'::bigint = 0 THEN 0::double precision
        ELSE (1 - 2 * (bits >> 63 & 1)) * power(2::double precision, (bits >> 52 & 2047) - 1075)
            * ((bits & x'fffffffffffff'::bigint) + x'10000000000000'::bigint) END
    FROM (SELECT bit_or(get_byte(signs, place + n)::bigint << 8 * n) FROM generate_series(0, 7) n) AS b(bits)
$$;

-- The view of analysts: no address, no key, no secret. A page of signs of life holds for the records that were
-- not written after it.
CREATE OR REPLACE VIEW openred.nodes AS
SELECT
    n.node_id,
    CASE n.state
        WHEN 1 THEN 'active' WHEN 2 THEN 'pending_1st' WHEN 3 THEN 'failed_1st' WHEN 4 THEN 'retry_48h'
        WHEN 5 THEN 'retry_2w' WHEN 6 THEN 'retry_2m' WHEN 7 THEN 'coma' END AS state,
    n.flags & 131 = 1 AS discoverable,
    string_to_array(n.services, ',') AS services,
    n.region,
    to_timestamp(n.registered_at) AS registered,
    to_timestamp(CASE WHEN openred.double_in(s.signs, s.attended + 8 * s.within) >= 0
        THEN openred.double_in(s.signs, 1 + 8 * s.within) ELSE n.last_seen_at END) AS last_seen,
    n.revision
FROM openred.node AS n
LEFT JOIN LATERAL (
    SELECT seen.signs, (n.slot % 200)::integer AS within, 1 + 8 * ((length(seen.signs) - 1) / 20) AS attended
    FROM openred.seen
    WHERE seen.page = n.slot / 200 AND seen.commit_number >= n.commit_number
        AND n.slot % 200 < (length(seen.signs) - 1) / 20
) AS s ON true;

UPDATE openred.cluster SET schema_version = 1 WHERE schema_version < 1;
REVOKE ALL ON ALL TABLES IN SCHEMA openred FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA openred FROM PUBLIC;
-- A role that may select from the view has to run it, too; it reads nothing but its arguments.
GRANT EXECUTE ON FUNCTION openred.double_in TO PUBLIC;
