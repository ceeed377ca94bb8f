import { loadConfig } from '../config/load.ts';
import { shownBytes } from '../config/units.ts';
import type { SiteStatus } from '../site/site-status.ts';
import type { CredentialStatus } from '../upstream/credentials/wallet.ts';
import { addConfigFlags, type Command, type CommandIo, configFlags } from './command.ts';
import { askControl } from './control-client.ts';
import { counted, labelled, shownDigest, shownRatio, shownSeconds } from './terminal.ts';

/** `millpond status`: what a running mirror is doing. */
export function registerStatus(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('status'))
    .description('show a running mirror: upstreams, hits, bytes saved, downloads under way')
    .option('--json', 'as one JSON object')
    .action(async (options: { readonly json?: true }, command: Command) => {
      const { config } = await loadConfig({
        flags: configFlags(command),
        environment: io.environment,
        workingDirectory: io.workingDirectory,
      });
      const status = await askControl(config.cache.dir, '/status');
      if (status === undefined) throw new Error(`no mirror is running on ${config.cache.dir}`);
      io.stdout.write(options.json ? `${JSON.stringify(status, undefined, 2)}\n` : statusText(status as SiteStatus));
    });
}

/** A status for people, within 80 columns but for long names. */
export function statusText(status: SiteStatus): string {
  const { readiness, traffic, upstreams, fills, cache } = status;
  const free = cache.freeBytes === null ? '' : `, ${shownBytes(cache.freeBytes)} free on its disk`;
  const pinned = cache.pinnedBytes === 0 ? '' : `, ${shownBytes(cache.pinnedBytes)} pinned`;
  const lines = [
    ...labelled('mirror', `Millpond ${status.version} at ${status.address}, up ${shownSeconds(status.uptimeSeconds)}`),
    ...labelled('state', [status.offline ? 'offline, ' : '', readiness.status].join('')),
    ...readiness.reasons.flatMap((reason) => labelled('', reason)),
    ...labelled(
      'hits',
      `${shownRatio(traffic.hitRatio)} of ${traffic.hits + traffic.misses} manifests and blobs, ${shownRatio(traffic.byteHitRatio)} of bytes`,
    ),
    ...labelled(
      'bytes',
      `${shownBytes(traffic.bytesToClients)} to clients, ${shownBytes(traffic.bytesFromUpstream)} from upstreams, ${shownBytes(traffic.bytesSaved)} saved`,
    ),
    ...labelled('clients', loadText(status.load)),
    ...labelled('cache', cache.dir),
    ...labelled(
      '',
      `${counted(cache.blobs, 'blob')}, ${shownBytes(cache.usedBytes)} of ${shownBytes(cache.maxBytes)}${pinned}${free}`,
    ),
    ...hostedLines(status),
    ...eventLoopLines(status),
    '',
    'UPSTREAM                  STATE       HITS   MISSES   FETCHED  PULLS LEFT',
    ...upstreams.flatMap(upstreamLines),
  ];
  if (status.replicas) lines.push('', ...replicaLines(status.replicas));
  if (fills.length > 0) {
    lines.push('', 'DOWNLOAD              WRITTEN      SIZE  READERS  FROM');
    for (const { digest, writtenBytes, sizeBytes, readers, sources } of fills) {
      const size = sizeBytes === undefined ? '–' : shownBytes(sizeBytes);
      const columns = [shownBytes(writtenBytes).padStart(8), size.padStart(9), String(readers).padStart(8)];
      lines.push(`${shownDigest(digest).padEnd(21)}${columns.join(' ')}  ${sources.join(', ')}`);
    }
  }
  for (const [index, { key, expiresAt }] of status.certificates.entries()) {
    if (index === 0) lines.push('');
    lines.push(...labelled(index === 0 ? 'expiry' : '', `${key}: ${expiresAt}`));
  }
  for (const [index, prefetch] of status.prefetch.entries()) {
    if (index === 0) lines.push('');
    lines.push(...labelled(index === 0 ? 'prefetch' : '', prefetchText(prefetch)));
  }
  return `${lines.join('\n')}\n`;
}

function loadText({ connections, requests, clients, refusals, ...memory }: SiteStatus['load']): string {
  const refused = Object.entries(refusals).map(([reason, count]) => `${count} by ${reason.replace('_', ' ')}`);
  const used = `${shownBytes(memory.memoryBytes)} of ${shownBytes(memory.memoryLimitBytes)}`;
  const parts = [`${connections} connections of ${clients} addresses`, `${requests} requests`, `${used} of memory`];
  return [...parts, ...(refused.length > 0 ? [`refused: ${refused.join(', ')}`] : [])].join(', ');
}

type ReplicasStatus = NonNullable<SiteStatus['replicas']>;

function replicaLines({ self, address, redis, placement, others, leases }: ReplicasStatus): string[] {
  const state = redis.state === 'connected' ? 'connected' : `lost: it ${redis.reason ?? 'does not answer'}`;
  return [
    ...labelled('redis', state),
    ...labelled('replicas', `${others.length + 1}, this one is ${self}; blobs ${placement}`),
    ...others.flatMap((other) => labelled('', otherText(other, address))),
    ...(leases.length > 0 ? labelled('fetches', `${counted(leases.length, 'blob')} for all`) : []),
  ];
}

function otherText({ id, address, avoided, trouble }: ReplicasStatus['others'][number], own: string): string {
  const remarks = [
    ...(address === own ? ['the address of this one'] : []),
    ...(avoided ? ['left alone'] : []),
    ...(trouble ? [`${trouble.fault} at ${trouble.at}: ${trouble.reason}`] : []),
  ];
  return `${id} ${address}${remarks.length > 0 ? ` (${remarks.join('; ')})` : ''}`;
}

function hostedLines({ hosted }: SiteStatus): string[] {
  if (hosted === null) return [];
  const { role, owner, away, repositories, bytes, damaged } = hosted;
  if (role === 'replica') return labelled('hosted', `by ${owner}${away === null ? '' : `, which is away: ${away}`}`);
  const count = `${repositories} ${repositories === 1 ? 'repository' : 'repositories'}`;
  const broken = damaged === 0 ? '' : `, ${counted(damaged, 'file')} found damaged`;
  return labelled('hosted', `${count}, ${shownBytes(bytes)}${broken}`);
}

function eventLoopLines({ eventLoop }: SiteStatus): string[] {
  if (eventLoop === null) return [];
  const { p99Ms, maxMs, stalls } = eventLoop;
  return labelled('lag', `99% below ${p99Ms} ms, ${maxMs} ms at most, ${stalls} times over 200 ms`);
}

function prefetchText({ schedule, isRunning, nextAt, last }: SiteStatus['prefetch'][number]): string {
  const next = isRunning ? 'under way' : nextAt === null ? 'never again' : `next at ${nextAt}`;
  if (last === null) return `${schedule}: ${next}`;
  const came = last.result === 'failed' ? 'failed' : `${last.images - last.failed} of ${last.images} images here`;
  return `${schedule}: ${next}; last at ${last.startedAt}: ${came}, ${shownBytes(last.fetchedBytes)} fetched`;
}

function upstreamLines({ name, available, sparing, status, ...traffic }: SiteStatus['upstreams'][number]): string[] {
  const places = status.endpoints.flatMap(({ url, tokenService, ...registry }) => [
    { what: url, ...registry },
    { what: `${url} (tokens)`, ...tokenService },
  ]);
  const parts = places.flatMap(({ what, parts: some = [] }) =>
    some.map((part) => ({ ...part, what: `${what} ${part.repository} (${part.requests})` })),
  );
  const state = available ? (parts.length > 0 ? 'in part' : sparing ? 'sparing' : 'available') : 'left alone';
  const { rateLimit } = status;
  const left = rateLimit ? `${rateLimit.remaining}${rateLimit.limit === undefined ? '' : `/${rateLimit.limit}`}` : '–';
  const columns = [
    name.padEnd(25),
    state.padEnd(10),
    String(traffic.hits).padStart(5),
    String(traffic.misses).padStart(8),
    shownBytes(traffic.bytesFromUpstream).padStart(9),
    left.padStart(11),
  ];
  const troubles = [...places, ...parts]
    .filter((place) => place.state !== 'available')
    .flatMap((place) => [
      `  ${place.what}`,
      `    ${place.state}${place.untilMs === undefined ? '' : ` until ${new Date(place.untilMs).toISOString()}`}: ${place.reason ?? ''}`,
    ]);
  const traits = status.endpoints.flatMap(({ url, traits: known }) =>
    Object.entries(known).map(([trait, { value, from }]) => `  ${url} ${trait}: ${value} (${from})`),
  );
  const credentials = status.endpoints.flatMap(({ url, credentials: all = [] }) =>
    all.flatMap((one) => credentialLines(one, { url, isOneOfMany: all.length > 1 })),
  );
  return [columns.join(' '), ...troubles, ...credentials, ...traits];
}

/** A credential that needs attention, or one of several. */
function credentialLines(
  { name, state, untilMs, requests, remaining, expiresAtMs, failure }: CredentialStatus,
  { url, isOneOfMany }: { readonly url: string; readonly isOneOfMany: boolean },
): string[] {
  if (!isOneOfMany && state === 'available' && failure === undefined) return [];
  const until = untilMs === undefined ? '' : ` until ${new Date(untilMs).toISOString()}`;
  const facts = [
    `${state}${until}, ${counted(requests, 'request')}`,
    ...(remaining === undefined ? [] : [`${remaining} pulls left`]),
    ...(expiresAtMs === undefined ? [] : [`expires at ${new Date(expiresAtMs).toISOString()}`]),
    ...(failure === undefined ? [] : [failure]),
  ];
  return [`  ${url} ${name}`, `    ${facts.join(', ')}`];
}
