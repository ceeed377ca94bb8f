/**
 * The tables of the catalog. The blobs on disk are the truth; the catalog says what they are for: which repository may
 * read them, what a tag meant and when that was checked, what a manifest names.
 */
export const catalogSchema = `
CREATE TABLE IF NOT EXISTS repositories (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- A blob on disk; kept while its file is.
CREATE TABLE IF NOT EXISTS blobs (
  digest TEXT PRIMARY KEY,
  size INTEGER NOT NULL,
  content_type TEXT NOT NULL,
  stored_at INTEGER NOT NULL,
  used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A blob that is a manifest.
CREATE TABLE IF NOT EXISTS manifests (
  digest TEXT PRIMARY KEY,
  media_type TEXT NOT NULL,
  artifact_type TEXT,
  subject TEXT,
  annotations TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS manifests_by_subject ON manifests (subject) WHERE subject IS NOT NULL;

-- What a manifest names: children, config, layers.
CREATE TABLE IF NOT EXISTS links (
  manifest TEXT NOT NULL,
  target TEXT NOT NULL,
  kind TEXT NOT NULL,
  size INTEGER NOT NULL,
  PRIMARY KEY (manifest, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS links_by_target ON links (target);

-- The right to read a blob through a repository, and the size that the repository's manifest gives it (-1: none does).
CREATE TABLE IF NOT EXISTS grants (
  repository INTEGER NOT NULL,
  digest TEXT NOT NULL,
  size INTEGER NOT NULL,
  PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;

-- What a tag meant when the upstream was last asked; variant '' is the answer to our own Accept list.
CREATE TABLE IF NOT EXISTS tags (
  repository INTEGER NOT NULL,
  tag TEXT NOT NULL,
  variant TEXT NOT NULL,
  digest TEXT NOT NULL,
  content_type TEXT NOT NULL,
  size INTEGER NOT NULL,
  checked_at INTEGER NOT NULL,
  PRIMARY KEY (repository, tag, variant)
) STRICT, WITHOUT ROWID;
`;
