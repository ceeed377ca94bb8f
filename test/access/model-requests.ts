import type { LocalImage } from '../support/images.ts';

export const users = ['ann', 'bob', 'anonymous'] as const;
export type User = (typeof users)[number];

const upstreamFolders = ['registry.test/ann', 'registry.test/bob'] as const;
const hostedFolders = ['local/ann', 'local/bob'] as const;
const archivedFolders = ['archive.test/ann', 'archive.test/bob'] as const;
export type Folder = (typeof upstreamFolders | typeof hostedFolders | typeof archivedFolders)[number];

/** Where images are; those of the last two have come by an archive. A fleet has no hosted ones here. */
export function foldersOf(isFleet: boolean): readonly Folder[] {
  return [...upstreamFolders, ...(isFleet ? [] : hostedFolders), ...archivedFolders];
}

/** A rule as the model knows it: whom it means, which folder, what it says. */
export interface Rule {
  readonly who: User;
  readonly folder: Folder;
  readonly effect: 'allow' | 'deny';
}

/** What a request shows: a password, or a token for everything or for the first folder alone; or something that is wrong. */
export const shows = ['password', 'token', 'narrow', 'wrong'] as const;
export type Shown = (typeof shows)[number];

/** What a request asks for, and what it may give away. */
export interface Asked {
  readonly user: User;
  readonly shown: Shown;
  readonly folder: Folder;
  /** `content`: of the folder; `list`: names of repositories; `write`: only where callers are not distinguished. */
  readonly kind: 'content' | 'list' | 'write';
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

export type Choose = <Value>(values: readonly Value[]) => Value;

/** Numbers that a seed decides (mulberry32). */
export function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * below;
  };
}

export function ruleOf(pick: Choose, folders: readonly Folder[]): Rule {
  return { who: pick(users), folder: pick(folders), effect: pick(['allow', 'allow', 'deny']) };
}

/** Whether a folder is shown; without rules callers are not distinguished. */
export function isShown(rules: readonly Rule[] | undefined, { user, folder }: { user: User; folder: Folder }): boolean {
  if (rules === undefined) return true;
  return rules.find((rule) => rule.who === user && rule.folder === folder)?.effect === 'allow';
}

/** Whether a request has to be answered with what it asks for. */
export function isGiven(rules: readonly Rule[] | undefined, asked: Asked, first: Folder): boolean {
  if (rules === undefined) return true;
  if (asked.shown === 'wrong' || asked.kind === 'write') return false;
  // Outside of a repository every caller has to show something.
  if (asked.user === 'anonymous' && asked.shown === 'password' && asked.path.startsWith('/v2/_millpond/')) return false;
  if (asked.kind === 'list')
    return asked.shown === 'token' || (asked.shown === 'password' && asked.user !== 'anonymous');
  return isShown(rules, asked) && (asked.shown !== 'narrow' || asked.folder === first);
}

const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
/** What a replica would say of a caller: it counts only with the secret that replicas share. */
const forged = encodeURIComponent(
  JSON.stringify({ caller: { kind: 'user', name: 'root', groups: [], claims: {}, address: '127.0.0.1' } }),
);

export function askedOf(
  pick: Choose,
  {
    folders,
    images,
    credentials,
    isFleet,
  }: {
    readonly folders: readonly Folder[];
    readonly images: ReadonlyMap<Folder, LocalImage>;
    readonly credentials: (user: User, shown: Shown) => Readonly<Record<string, string>>;
    readonly isFleet: boolean;
  },
): Asked {
  const [user, folder, shown] = [pick(users), pick(folders), pick([...shows, ...shows, 'password'] as const)];
  const image = images.get(folder)!;
  const { digest } = pick(image.blobs);
  const accept = { accept: ociManifest };
  const [registry = '', name = ''] = folder.split('/');
  // The same repository by its two names.
  const [base, query] = pick([
    [`/v2/${folder}/app`, '?x='],
    [`/v2/${name}/app`, `?ns=${registry}`],
  ] as const);
  type Path = readonly [kind: Asked['kind'], path: string, headers?: Readonly<Record<string, string>>];
  const content: readonly Path[] = [
    ['content', `${base}/manifests/v1${query}`, accept],
    ['content', `${base}/manifests/${image.digest}${query}`, accept],
    ['content', `${base}/manifests/${image.digest}${query}`, { ...accept, 'if-none-match': `"${image.digest}"` }],
    ['content', `${base}/blobs/${digest}${query}`],
    ['content', `${base}/blobs/${digest}${query}`, { range: 'bytes=0-9' }],
    ['content', `${base}/blobs/${digest}${query}`, { range: 'bytes=0-1,4-5' }],
    ['content', `${base}/blobs/${digest}${query}`, { 'if-none-match': '*' }],
    ['content', `${base}/blobs/${digest}${query}`, { range: 'bytes=0-9', 'if-range': `"${digest}"` }],
    ['content', `${base}/tags/list${query}`],
    ['content', `${base}/referrers/${image.digest}${query}`],
    ['content', `${base}/referrers/${image.digest}${query}&artifactType=none`],
    ['content', `/v2/${folder}/app/_millpond/images/v1`],
    ['content', `/v2/_millpond/images/${folder}/app:v1`],
    ['content', `/v2/_millpond/images/${folder}/app@${image.digest}`],
    ['content', `/v2/${folder}/app/_millpond/events`],
  ];
  const other: readonly Path[] = [
    ['list', '/v2/_catalog?n=100'],
    ['list', '/v2/_millpond/search?q=app'],
    ['list', '/v2/_millpond/events'],
    ['list', '/v2/_millpond/holds'],
    ...(['pin', 'fetch', 'verify', 'purge'] as const).map(
      (operation): Path => ['write', `/v2/${folder}/app/_millpond/administration/${operation}?reference=v1`],
    ),
    ...(isFleet ? [] : ([['write', `/v2/local/ann/app/blobs/uploads/`]] as const)),
  ];
  const [kind, path, headers = {}] = pick([...content, ...content, ...other]);
  const method = kind === 'content' ? pick(['GET', 'GET', 'HEAD']) : kind === 'list' ? 'GET' : methodOf(path);
  const claims = pick<Readonly<Record<string, string>>>([
    {},
    {},
    {},
    { 'millpond-caller': forged },
    { 'x-forwarded-for': '10.0.0.1', via: '1.1 proxy' },
  ]);
  return { user, folder, shown, kind, method, path, headers: { ...headers, ...claims, ...credentials(user, shown) } };
}

function methodOf(path: string): string {
  return path.includes('administration') ? 'PUT' : 'POST';
}
