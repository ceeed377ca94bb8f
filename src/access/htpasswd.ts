/** bcrypt hashes by user name. */
export type PasswordHashes = ReadonlyMap<string, string>;

/** A check takes twice as long with each step; past this one it takes seconds. */
const maxCost = 14;

/**
 * Reads an htpasswd file: `user:hash` lines, comments, and empty lines.
 * @param key the key of the configuration that names it, for messages
 * @throws Error in one sentence for a line that is not a bcrypt hash of a user; it shows nothing of the line
 */
export function parseHtpasswd(text: string, key: string): PasswordHashes {
  const hashes = new Map<string, string>();
  for (const [index, line] of text.split('\n').entries()) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const colon = trimmed.indexOf(':');
    const [user, hash] = [trimmed.slice(0, Math.max(0, colon)), trimmed.slice(colon + 1)];
    const [, cost] = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/.exec(hash) ?? [];
    const at = `${key}: line ${index + 1}`;
    if (user === '' || cost === undefined)
      throw new Error(`${at} is not a user with a bcrypt hash, as htpasswd -B makes`);
    if (Number(cost) < 4 || Number(cost) > maxCost)
      throw new Error(`${at}: the cost of the hash must be 4 to ${maxCost}`);
    if (hashes.has(user)) throw new Error(`${at} names a user for the second time`);
    hashes.set(user, hash);
  }
  return hashes;
}

/** The costs of the hashes, one for each user. */
export function costsOf(hashes: PasswordHashes): readonly string[] {
  return [...hashes.values()].map((hash) => hash.slice(4, 6));
}
