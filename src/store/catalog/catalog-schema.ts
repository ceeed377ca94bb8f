const upstreamOf = `substr(sr.name, 1, instr(sr.name, '/') - 1)`;

/** Version of the tables below. */
export const catalogVersion = 10;

/** The note that a new catalog begins with: there may be blobs on disk that it does not know. */
export const rebuildNote = 'rebuild';

/** The upstream whose repositories alone may read a digest; '' where there is none, or more than one. */
export function soleUpstreamOf(digest: string): string {
  return `COALESCE((SELECT CASE WHEN COUNT(DISTINCT ${upstreamOf}) = 1 THEN MIN(${upstreamOf}) END
    FROM grants sg JOIN repositories sr ON sr.id = sg.repository WHERE sg.digest = ${digest}), '')`;
}

/**
 * The tables of the catalog. The blobs on disk are the truth; the catalog says what they are for: which repository may
 * read them, what a tag meant and when that was checked, what a manifest names, what is pinned and what is used.
 */
export const catalogSchema = `
CREATE TABLE IF NOT EXISTS repositories (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- A blob on disk; kept while its file is. 'heat': see eviction-policy.ts. 'pinned' is 1 for all that a pin holds.
-- 'needed' is 0 for what is no manifest and what no manifest names: kept by the triggers below, evicted first.
-- 'recent' is 1 for what was used last, up to a share of all bytes. 'modified_at' is the time of the file when its content was last known to be right; NULL: it never was.
-- 'shown' has the names of the upstreams that have shown that they have these bytes, one a line.
CREATE TABLE IF NOT EXISTS blobs (
  digest TEXT PRIMARY KEY,
  size INTEGER NOT NULL,
  content_type TEXT NOT NULL,
  stored_at INTEGER NOT NULL,
  used_at INTEGER NOT NULL,
  heat REAL NOT NULL DEFAULT 0,
  pinned INTEGER NOT NULL DEFAULT 0,
  recent INTEGER NOT NULL DEFAULT 0,
  modified_at REAL,
  needed INTEGER NOT NULL DEFAULT 1,
  shown TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blobs_by_heat ON blobs (heat) WHERE pinned = 0 AND recent = 0;
CREATE INDEX IF NOT EXISTS blobs_recent ON blobs (used_at) WHERE recent = 1;
CREATE INDEX IF NOT EXISTS blobs_unneeded ON blobs (heat) WHERE needed = 0 AND pinned = 0;
CREATE INDEX IF NOT EXISTS blobs_pinned ON blobs (pinned) WHERE pinned = 1;

-- How many blobs there are and their bytes, so that they need not be counted.
CREATE TABLE IF NOT EXISTS totals (
  id INTEGER PRIMARY KEY CHECK (id = 0),
  blobs INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  pinned_bytes INTEGER NOT NULL,
  recent_bytes INTEGER NOT NULL,
  unneeded_bytes INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO totals SELECT 0, COUNT(*), CAST(TOTAL(size) AS INTEGER), CAST(TOTAL(size * pinned) AS INTEGER),
  CAST(TOTAL(size * recent) AS INTEGER), CAST(TOTAL(size * (1 - needed)) AS INTEGER) FROM blobs;
CREATE TRIGGER IF NOT EXISTS blob_counted AFTER INSERT ON blobs BEGIN
  UPDATE totals SET blobs = blobs + 1, bytes = bytes + NEW.size,
    pinned_bytes = pinned_bytes + NEW.size * NEW.pinned, recent_bytes = recent_bytes + NEW.size * NEW.recent,
    unneeded_bytes = unneeded_bytes + NEW.size * (1 - NEW.needed);
END;
CREATE TRIGGER IF NOT EXISTS blob_uncounted AFTER DELETE ON blobs BEGIN
  UPDATE totals SET blobs = blobs - 1, bytes = bytes - OLD.size,
    pinned_bytes = pinned_bytes - OLD.size * OLD.pinned, recent_bytes = recent_bytes - OLD.size * OLD.recent,
    unneeded_bytes = unneeded_bytes - OLD.size * (1 - OLD.needed);
END;
CREATE TRIGGER IF NOT EXISTS blob_recounted AFTER UPDATE OF size, pinned, recent, needed ON blobs
  WHEN NEW.size <> OLD.size OR NEW.pinned <> OLD.pinned OR NEW.recent <> OLD.recent OR NEW.needed <> OLD.needed BEGIN
  UPDATE totals SET bytes = bytes + NEW.size - OLD.size,
    pinned_bytes = pinned_bytes + NEW.size * NEW.pinned - OLD.size * OLD.pinned,
    recent_bytes = recent_bytes + NEW.size * NEW.recent - OLD.size * OLD.recent,
    unneeded_bytes = unneeded_bytes + NEW.size * (1 - NEW.needed) - OLD.size * (1 - OLD.needed);
END;

-- What was evicted, with its heat, so that it goes on from there when it comes back; the newest have the highest ids.
CREATE TABLE IF NOT EXISTS evicted (
  id INTEGER PRIMARY KEY,
  digest TEXT NOT NULL UNIQUE,
  heat REAL NOT NULL
) STRICT;

-- A blob that is a manifest. 'source' is where it came from; NULL: not noted.
CREATE TABLE IF NOT EXISTS manifests (
  digest TEXT PRIMARY KEY,
  media_type TEXT NOT NULL,
  artifact_type TEXT,
  subject TEXT,
  annotations TEXT,
  source TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS manifests_by_subject ON manifests (subject) WHERE subject IS NOT NULL;

-- What a manifest names: 'manifest', 'blob', or 'elsewhere' for layers that registries need not hold.
CREATE TABLE IF NOT EXISTS links (
  manifest TEXT NOT NULL,
  target TEXT NOT NULL,
  kind TEXT NOT NULL,
  size INTEGER NOT NULL,
  PRIMARY KEY (manifest, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS links_by_target ON links (target);
CREATE TRIGGER IF NOT EXISTS link_made AFTER INSERT ON links BEGIN
  UPDATE blobs SET needed = 1 WHERE digest = NEW.target AND needed = 0;
END;
CREATE TRIGGER IF NOT EXISTS link_gone AFTER DELETE ON links BEGIN
  UPDATE blobs SET needed = 0 WHERE digest = OLD.target AND needed = 1
    AND NOT EXISTS (SELECT 1 FROM links WHERE target = OLD.target)
    AND NOT EXISTS (SELECT 1 FROM manifests WHERE digest = OLD.target);
END;
CREATE TRIGGER IF NOT EXISTS manifest_made AFTER INSERT ON manifests BEGIN
  UPDATE blobs SET needed = 1 WHERE digest = NEW.digest AND needed = 0;
END;
CREATE TRIGGER IF NOT EXISTS manifest_gone AFTER DELETE ON manifests BEGIN
  UPDATE blobs SET needed = EXISTS (SELECT 1 FROM links WHERE target = OLD.digest) WHERE digest = OLD.digest;
END;

-- The right to read a blob through a repository, and the size that the repository's manifest gives it (-1: none does).
CREATE TABLE IF NOT EXISTS grants (
  repository INTEGER NOT NULL,
  digest TEXT NOT NULL,
  size INTEGER NOT NULL,
  PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS grants_by_digest ON grants (digest);

-- How an upstream was asked when it last confirmed that a repository has a digest; kept as long as the right to read it.
CREATE TABLE IF NOT EXISTS confirmations (
  repository INTEGER NOT NULL,
  digest TEXT NOT NULL,
  access TEXT NOT NULL,
  PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS grant_gone AFTER DELETE ON grants BEGIN
  DELETE FROM confirmations WHERE repository = OLD.repository AND digest = OLD.digest;
END;

-- What a tag meant when the upstream was last asked; variant '' is the answer to our own Accept list. 'subject' is what the
-- tag attaches its manifest to by its name (signatures of cosign, referrers tags), 'access' how that upstream was asked.
CREATE TABLE IF NOT EXISTS tags (
  repository INTEGER NOT NULL,
  tag TEXT NOT NULL,
  variant TEXT NOT NULL,
  digest TEXT NOT NULL,
  content_type TEXT NOT NULL,
  size INTEGER NOT NULL,
  checked_at INTEGER NOT NULL,
  subject TEXT,
  access TEXT,
  PRIMARY KEY (repository, tag, variant)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_by_digest ON tags (digest);
CREATE INDEX IF NOT EXISTS tags_by_subject ON tags (subject) WHERE subject IS NOT NULL;

-- What is attached to an image in a repository, which has to have both: any upstream can claim to attach to any image. By tags,
-- by manifests that name their subject, and by either; what is asked step by step needs the first two.
CREATE VIEW IF NOT EXISTS tag_attachments AS
  SELECT t.repository, t.subject, t.digest AS manifest FROM tags t WHERE t.subject IS NOT NULL AND t.subject <> t.digest
    AND EXISTS (SELECT 1 FROM grants s WHERE s.repository = t.repository AND s.digest = t.subject);
CREATE VIEW IF NOT EXISTS subject_attachments AS
  SELECT g.repository, m.subject, m.digest AS manifest FROM manifests m JOIN grants g ON g.digest = m.digest
    WHERE m.subject IS NOT NULL AND m.subject <> m.digest
    AND EXISTS (SELECT 1 FROM grants s WHERE s.repository = g.repository AND s.digest = m.subject);
CREATE VIEW IF NOT EXISTS attachments AS SELECT * FROM tag_attachments UNION ALL SELECT * FROM subject_attachments;

-- What an operator has pinned: a tag or a digest of a repository.
CREATE TABLE IF NOT EXISTS pins (
  repository TEXT NOT NULL,
  reference TEXT NOT NULL,
  pinned_at INTEGER NOT NULL,
  PRIMARY KEY (repository, reference)
) STRICT, WITHOUT ROWID;

-- Which archives have had a blob's bytes, or build upon one that had.
CREATE TABLE IF NOT EXISTS deliveries (
  digest TEXT NOT NULL,
  archive TEXT NOT NULL,
  PRIMARY KEY (digest, archive)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS delivery_gone AFTER DELETE ON blobs BEGIN
  DELETE FROM deliveries WHERE digest = OLD.digest;
END;

-- While the catalog is being rebuilt: what was said of blobs that have not been looked at again. Of a manifest, its type in
-- a repository; of another blob, its type ('' for the repository).
CREATE TABLE IF NOT EXISTS remembered (
  digest TEXT NOT NULL,
  repository TEXT NOT NULL,
  content_type TEXT NOT NULL,
  PRIMARY KEY (digest, repository)
) STRICT, WITHOUT ROWID;

-- While the catalog is being rebuilt: upstreams that have shown a blob, where more than one has claimed it.
CREATE TABLE IF NOT EXISTS remembered_shown (
  digest TEXT NOT NULL,
  upstream TEXT NOT NULL,
  PRIMARY KEY (digest, upstream)
) STRICT, WITHOUT ROWID;

-- Small things that outlive the process, such as how far a scrub has come.
CREATE TABLE IF NOT EXISTS notes (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
`;

/** The names of the tables and views. */
export const catalogTables: readonly string[] = Array.from(
  catalogSchema.matchAll(/^CREATE (?:TABLE|VIEW) IF NOT EXISTS (\w+)/gm),
  ([, name = '']) => name,
);

/** Completes tables of a version before 8, once {@link catalogSchema} has been applied to them. */
export const catalogCompletion = `
UPDATE blobs SET needed = 0 WHERE NOT EXISTS (SELECT 1 FROM links WHERE target = blobs.digest)
  AND NOT EXISTS (SELECT 1 FROM manifests WHERE manifests.digest = blobs.digest);
`;

/** The changes that take tables of a version to the version after it; {@link catalogSchema} adds what is missing then. */
export const catalogMigrations: Readonly<Record<number, string>> = {
  1: `
ALTER TABLE blobs ADD COLUMN heat REAL NOT NULL DEFAULT 0;
ALTER TABLE blobs ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
UPDATE blobs SET heat = heat_after(NULL, 1, used_at);
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
`,
  2: `
ALTER TABLE blobs ADD COLUMN modified_at REAL;
`,
  3: `
ALTER TABLE blobs ADD COLUMN recent INTEGER NOT NULL DEFAULT 0;
DROP INDEX IF EXISTS blobs_by_heat;
DROP TRIGGER IF EXISTS blob_counted;
DROP TRIGGER IF EXISTS blob_uncounted;
DROP TRIGGER IF EXISTS blob_resized;
DROP TABLE IF EXISTS totals;
`,
  4: `
ALTER TABLE manifests ADD COLUMN source TEXT;
`,
  // Pinned content is marked again: it may have belonged to another upstream.
  5: `
DROP TABLE IF EXISTS attachments;
ALTER TABLE tags ADD COLUMN subject TEXT;
UPDATE tags SET subject = subject_of_tag(tag) WHERE tag LIKE 'sha%';
INSERT INTO notes VALUES ('pin patterns', char(10)) ON CONFLICT DO UPDATE SET value = value || char(10);
`,
  6: `
ALTER TABLE tags ADD COLUMN access TEXT;
`,
  7: `
ALTER TABLE blobs ADD COLUMN needed INTEGER NOT NULL DEFAULT 1;
DROP TRIGGER IF EXISTS blob_counted;
DROP TRIGGER IF EXISTS blob_uncounted;
DROP TRIGGER IF EXISTS blob_recounted;
DROP TABLE IF EXISTS totals;
`,
  // Bytes that repositories of one upstream alone may read came from there. Of others it is not known: each upstream
  // shows again that it has them when they are next asked for.
  8: `
ALTER TABLE blobs ADD COLUMN shown TEXT NOT NULL DEFAULT '';
UPDATE blobs SET shown = ${soleUpstreamOf('blobs.digest')};
`,
  // One more table, empty: what was confirmed before is not known to have been confirmed in any certain way.
  9: '',
};
