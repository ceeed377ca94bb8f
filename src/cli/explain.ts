import { access } from 'node:fs/promises';
import { explainAccess } from '../access/explain.ts';
import { KeyStore } from '../access/key-store.ts';
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { formatDuration, shownBytes } from '../config/units.ts';
import { explainImage } from '../operations/owner/explain/explanation.ts';
import { addressesOf } from '../operations/owner/explain/own-address.ts';
import type { Explanation } from '../operations/protocol/explain.ts';
import { keysFileOf } from '../site/keys-file.ts';
import { sayOwner, whenFree } from '../site/owner.ts';
import { signaturesOf } from '../site/signature-policies.ts';
import { credentialsOf, upstreamOptions } from '../site/upstream-options.ts';
import { Catalog } from '../store/catalog/catalog.ts';
import { rebuildNote } from '../store/catalog/catalog-schema.ts';
import { inMemory } from '../store/catalog/database.ts';
import { DiskStore } from '../store/files/disk-store.ts';
import { isCache, layoutOf } from '../store/files/layout.ts';
import { createUpstream } from '../upstream/create-upstream.ts';
import { UpstreamTable } from '../upstream/table.ts';
import { addConfigFlags, type Command, type CommandIo, configFlags } from './command.ts';
import { askControl } from './control-client.ts';
import { requireImage } from './input.ts';
import { withoutSocket } from './open-operations.ts';
import { counted, labelled, shownDigest, shownSeconds } from './terminal.ts';

/** `millpond explain`: what an image name gets, and why. */
export function registerExplain(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('explain'))
    .description('explain which upstream, credential, freshness rule and cached content an image name gets')
    .argument('<image>', 'such as docker.io/library/ubuntu:24.04 or ghcr.io/org/app@sha256:…')
    .option(
      '--as <who>',
      'whose rights: NAME, anonymous, key:NAME or certificate:NAME, then ,group=… ,claim.NAME=… ,address=…',
    )
    .option('--json', 'as one JSON object')
    .action(async (image: string, options: { readonly as?: string; readonly json?: true }, command: Command) => {
      requireImage(image);
      const { config } = await loadConfig({
        flags: configFlags(command),
        environment: io.environment,
        workingDirectory: io.workingDirectory,
      });
      const question = new URLSearchParams({ image, ...(options.as !== undefined && { as: options.as }) });
      const asked = await askControl(config.cache.dir, `/explain?${question.toString()}`);
      const explanation =
        (asked as Explanation | undefined) ??
        (await explainFromDisk({ image, who: options.as }, config, io).catch((error: unknown) => {
          throw withoutSocket(error);
        }));
      io.stdout.write(options.json ? `${JSON.stringify(explanation, undefined, 2)}\n` : explanationText(explanation));
    });
}

/** Reads the cache directory itself, without creating it. @throws Error if a mirror that cannot be asked owns it */
async function explainFromDisk(
  { image, who }: { readonly image: string; readonly who: string | undefined },
  config: Config,
  io: CommandIo,
): Promise<Explanation> {
  using owned = new DisposableStack();
  const layout = layoutOf(config.cache.dir);
  const isThere = await access(layout.catalog).then(
    () => true,
    () => false,
  );
  const faults: unknown[] = [];
  const open = (path: string): Promise<Catalog> =>
    Catalog.open({ path, now: Date.now, onFault: (error) => faults.push(error) });
  const catalog = owned.use(await (isThere ? whenFree(layout, () => open(layout.catalog)) : open(inMemory)));
  if (catalog.notes.get(rebuildNote) !== undefined && (await isCache(layout))) {
    io.stderr.write('millpond: the catalog was lost: not all that is stored is known until it has been rebuilt\n');
  }
  if (isThere) owned.use(sayOwner(layout, 'explain'));
  const upstreams = config.upstreams.map((upstream) => owned.use(createUpstream(upstreamOptions(config, upstream))));
  const keys = new KeyStore({ path: keysFileOf(config), now: Date.now });
  await keys.load();
  const explanation = await explainImage(
    image,
    {
      upstreams: new UpstreamTable(upstreams, { defaultName: config.defaultUpstream }),
      catalog,
      store: new DiskStore({ layout, memoryBytes: config.cache.memoryBytes }),
      offline: config.offline,
      now: Date.now,
      credential: credentialsOf(config),
      signatures: signaturesOf(config),
      addresses: addressesOf(config.listen),
      decide: (caller, repository) => explainAccess(caller, repository, { settings: config.auth, keys }),
    },
    who,
  );
  if (faults.length > 0) throw new Error(`the catalog in ${config.cache.dir} cannot be read`, { cause: faults[0] });
  return explanation;
}

/** An explanation for people, within 80 columns except for long names. */
function explanationText(explanation: Explanation): string {
  const { upstream, repository, tag, stored } = explanation;
  const lines = [
    ...labelled('image', explanation.image),
    ...labelled(
      'upstream',
      `${upstream.name} (${upstream.namedBy === 'image' ? 'named by the image' : 'the default'})`,
    ),
    ...labelled('repository', `${repository}${explanation.allowed ? '' : ' (not allowed)'}`),
    ...upstream.urls.map((url, index) => (index === 0 ? 'asked at' : '').padEnd(12) + url),
    ...labelled('credential', upstream.credential),
    ...(typeof explanation.signatures === 'string' ? labelled('signatures', explanation.signatures) : []),
  ];
  if (!upstream.available) lines.push(...labelled('', `${upstream.name} is known not to answer now.`));
  if (upstream.sparing)
    lines.push(...labelled('', `Few pulls are left at ${upstream.name}: they are kept for what is not here.`));
  lines.push(...accessLines(explanation));
  if (tag !== null) lines.push(...labelled('tag', tag), ...ruleLines(explanation));
  lines.push(...(stored ? storedLines(explanation, stored) : labelled('stored', 'nothing')));
  return `${[...lines, '', ...labelled('now', explanation.outcome.text)].join('\n')}\n`;
}

function accessLines({ access: found }: Explanation): string[] {
  return (found?.decisions ?? []).map(({ action, allowed, rule }, index) => {
    const head = index === 0 ? `as ${found!.caller}` : '';
    return `${head.padEnd(12)}${action.padEnd(11)}${allowed ? 'allowed' : 'denied '}  ${rule}`;
  });
}

function ruleLines({ freshness, upstream, offline }: Explanation): string[] {
  if (freshness === null) return [];
  const { rule, tagTtlMs, staleWhileRevalidateMs, staleIfErrorMs } = freshness;
  const within = rule && rule.repositories.length > 0 ? ` in ${rule.repositories.join(', ')}` : '';
  const which = rule
    ? `upstreams.${upstream.name}.tags[${rule.position}] matches: "${rule.match}"${within}`
    : `none of upstreams.${upstream.name}.tags matches: the upstream's own times`;
  const behind =
    staleWhileRevalidateMs === 0
      ? ''
      : `, then served at once for ${formatDuration(staleWhileRevalidateMs)} while the upstream is asked`;
  const times = `fresh for ${formatDuration(tagTtlMs)}${behind}, then for ${formatDuration(staleIfErrorMs)} if the upstream cannot answer`;
  return [...labelled('rule', which), ...labelled('', offline ? 'without effect: the mirror is offline' : times)];
}

function storedLines({ ageSeconds, checkedAt }: Explanation, stored: NonNullable<Explanation['stored']>): string[] {
  const { blobs, missingBlobs, storedBytes, missingBytes } = stored;
  const lacks = missingBlobs === 0 ? '' : `, ${missingBlobs} missing (${shownBytes(missingBytes)})`;
  const lines = [
    ...labelled('stored', stored.mediaType),
    `  ${stored.digest}`,
    ...labelled('', `${blobs - missingBlobs} of ${counted(blobs, 'blob')} here (${shownBytes(storedBytes)})${lacks}`),
  ];
  if (checkedAt !== null) lines.push(...labelled('confirmed', `${shownSeconds(ageSeconds ?? 0)} ago, at ${checkedAt}`));
  for (const digest of stored.missing.slice(0, 10)) lines.push(...labelled('', `missing ${shownDigest(digest)}`));
  if (stored.missing.length > 10) lines.push(...labelled('', `and ${stored.missing.length - 10} more`));
  for (const { digest, platform, stored: isHere, whole, missingBytes: lacking } of stored.platforms) {
    const state = whole ? 'whole' : isHere ? `lacks ${shownBytes(lacking)}` : 'not here';
    lines.push(...labelled('', `${(platform ?? 'no platform').padEnd(16)} ${shownDigest(digest)}  ${state}`));
  }
  return lines;
}
