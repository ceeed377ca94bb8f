import type { Config, UpstreamAuth, UpstreamConfig } from './config.ts';
import type { LoadedConfig } from './load.ts';
import { formatOrigin } from './origins.ts';
import type { ConfigPath } from './schema-node.ts';
import { formatBytes, formatDuration } from './units.ts';
import type { ListenAddress } from './value-kinds.ts';

/** One value in force. */
export interface Setting {
  readonly path: ConfigPath;
  /** As it would be written in a file; secrets are `[hidden]`. */
  readonly value: string | number | boolean | null | readonly string[];
  readonly origin: string;
}

/** Every value in force with where it came from. What is absent (no TLS, no credentials) is left out. */
export function listSettings(loaded: LoadedConfig): readonly Setting[] {
  const { config, origins } = loaded;
  const settings: Setting[] = [];
  const add: Add = (path, value, ...inheritedFrom) => {
    if (value === undefined) return;
    const candidates = [path, ...inheritedFrom].map((place) => origins.of(place));
    const origin = candidates.find(({ kind }) => kind !== 'default') ?? { kind: 'default' };
    settings.push({ path, value, origin: formatOrigin(origin) });
  };
  listGeneral(config, add);
  for (const upstream of config.upstreams) listUpstream(upstream, add);
  listPrefetch(config, add);
  listReplicas(config, add);
  const { timeouts, log } = config;
  add(['timeouts', 'connect'], formatDuration(timeouts.connectMs));
  add(['timeouts', 'headers'], formatDuration(timeouts.headersMs));
  add(['timeouts', 'idle'], formatDuration(timeouts.idleMs));
  add(['timeouts', 'answer'], formatDuration(timeouts.answerMs));
  add(['timeouts', 'drain'], formatDuration(timeouts.drainMs));
  add(['timeouts', 'clientIdle'], formatDuration(timeouts.clientIdleMs));
  add(['log', 'level'], log.level);
  add(['log', 'format'], log.format);
  return settings;
}

/** The settings as YAML that can be used as a file again (but for hidden secrets), each with its origin behind it. */
export function showYaml(settings: readonly Setting[]): string {
  const lines: string[] = [];
  let open: ConfigPath = [];
  // The dash of a list's entry stands before its first key.
  let dash = '';
  const push = (depth: number, text: string): void => {
    lines.push(dash === '' ? `${'  '.repeat(depth)}${text}` : `${'  '.repeat(depth - 1)}${dash}${text}`);
    dash = '';
  };
  for (const { path, value, origin } of settings) {
    const sections = path.slice(0, -1);
    let depth = 0;
    while (depth < sections.length && sections[depth] === open[depth]) depth++;
    for (; depth < sections.length; depth++) {
      const section = sections[depth]!;
      if (typeof section === 'number') dash = '- ';
      else push(depth, `${yamlScalar(section)}:`);
    }
    open = sections;
    push(sections.length, `${yamlScalar(String(path.at(-1)!))}: ${yamlValue(value)} # ${oneLine(origin)}`);
  }
  return `${lines.join('\n')}\n`;
}

/** The settings as one JSON object: `config` nested as in a file, `origins` by the path's keys. */
export function showJson(settings: readonly Setting[], file: string | undefined): string {
  const config: Record<string | number, unknown> = {};
  for (const { path, value } of settings) {
    let section = config;
    for (const [depth, key] of path.slice(0, -1).entries()) {
      section = (section[key] ??= typeof path[depth + 1] === 'number' ? [] : {}) as Record<string | number, unknown>;
    }
    section[path.at(-1)!] = value;
  }
  const origins = settings.map(({ path, origin }) => ({ path, origin }));
  return `${JSON.stringify({ file: file ?? null, config, origins }, undefined, 2)}\n`;
}

/** `inheritedFrom`: the places a value comes from where nothing is written at its own, nearest first. */
type Add = (path: ConfigPath, value: Setting['value'] | undefined, ...inheritedFrom: ConfigPath[]) => void;

function listGeneral(config: Config, add: Add): void {
  const { tls, cache } = config;
  add(['listen'], formatListen(config.listen));
  add(['tls', 'certFile'], tls?.certFile);
  add(['tls', 'keyFile'], tls?.keyFile);
  add(['tls', 'clientCaFile'], tls?.clientCaFile);
  add(['defaultUpstream'], config.defaultUpstream ?? null);
  add(['cache', 'dir'], cache.dir);
  add(['cache', 'maxSize'], formatBytes(cache.maxSizeBytes));
  add(['cache', 'minFree'], formatBytes(cache.minFreeBytes));
  add(['cache', 'tagTtl'], formatDuration(cache.tagTtlMs));
  add(['cache', 'staleWhileRevalidate'], formatDuration(cache.staleWhileRevalidateMs));
  add(['cache', 'staleIfError'], formatDuration(cache.staleIfErrorMs));
  add(['cache', 'negativeTtl'], formatDuration(cache.negativeTtlMs));
  add(['cache', 'maxManifestSize'], formatBytes(cache.maxManifestSizeBytes));
  add(['cache', 'memory'], formatBytes(cache.memoryBytes));
  add(['cache', 'maxFills'], cache.maxFills);
  add(['cache', 'scrub', 'every'], formatDuration(cache.scrubEveryMs));
  add(['cache', 'scrub', 'rate'], formatBytes(cache.scrubBytesPerSecond));
  add(['cache', 'pins'], cache.pins);
  add(['offline'], config.offline);
}

function listReplicas({ redis, cluster }: Config, add: Add): void {
  if (!redis) return;
  add(['redis', 'url'], redis.location.shown);
  add(['redis', 'passwordFile'], redis.passwordFile);
  add(['redis', 'sentinelUsername'], redis.sentinelUsername);
  add(['redis', 'sentinelPasswordFile'], redis.sentinelPasswordFile);
  add(['redis', 'caFile'], redis.caFile);
  add(['redis', 'keyPrefix'], redis.keyPrefix);
  add(['cluster', 'advertise'], cluster.advertise);
  add(['cluster', 'secretFile'], cluster.secretFile);
  add(['cluster', 'placement'], cluster.placement);
  add(['cluster', 'copies'], cluster.copies);
  add(['cluster', 'clockTolerance'], formatDuration(cluster.clockToleranceMs));
}

function listUpstream(upstream: UpstreamConfig, add: Add): void {
  const at = (...keys: ConfigPath): ConfigPath => ['upstreams', upstream.name, ...keys];
  const { tls, freshness, repositories, timeouts } = upstream;
  add(at('urls'), upstream.urls);
  add(at('aliases'), upstream.aliases);
  add(at('hosts'), upstream.hosts);
  for (const [key, value] of listAuth(upstream.auth)) add(at('auth', key), value);
  add(at('tokenRealms'), upstream.tokenRealms);
  add(at('tls', 'caFile'), tls.caFile);
  add(at('tls', 'certFile'), tls.certFile);
  add(at('tls', 'keyFile'), tls.keyFile);
  add(at('tls', 'insecureSkipVerify'), tls.insecureSkipVerify);
  add(at('tagTtl'), formatDuration(freshness.tagTtlMs), ['cache', 'tagTtl']);
  add(at('staleWhileRevalidate'), formatDuration(freshness.staleWhileRevalidateMs), ['cache', 'staleWhileRevalidate']);
  add(at('staleIfError'), formatDuration(freshness.staleIfErrorMs), ['cache', 'staleIfError']);
  add(at('negativeTtl'), formatDuration(freshness.negativeTtlMs), ['cache', 'negativeTtl']);
  listTagRules(upstream, add);
  add(at('maxConnections'), upstream.maxConnections);
  add(at('connectionsPerBlob'), upstream.connectionsPerBlob);
  add(at('rateLimitFloor'), upstream.rateLimitFloor);
  add(at('repositories', 'allow'), repositories.allow);
  add(at('repositories', 'deny'), repositories.deny);
  add(at('timeouts', 'connect'), formatDuration(timeouts.connectMs), ['timeouts', 'connect']);
  add(at('timeouts', 'headers'), formatDuration(timeouts.headersMs), ['timeouts', 'headers']);
  add(at('timeouts', 'idle'), formatDuration(timeouts.idleMs), ['timeouts', 'idle']);
  add(at('timeouts', 'answer'), formatDuration(timeouts.answerMs), ['timeouts', 'answer']);
}

function listTagRules({ name, tags }: UpstreamConfig, add: Add): void {
  for (const [index, rule] of tags.entries()) {
    const at = (key: string): ConfigPath => ['upstreams', name, 'tags', index, key];
    add(at('match'), rule.match);
    if (rule.repositories.length > 0) add(at('repositories'), rule.repositories);
    const times = { tagTtl: rule.tagTtlMs, staleWhileRevalidate: rule.staleWhileRevalidateMs };
    for (const [key, timeMs] of Object.entries({ ...times, staleIfError: rule.staleIfErrorMs })) {
      add(at(key), formatDuration(timeMs), ['upstreams', name, key], ['cache', key]);
    }
  }
}

function listPrefetch({ prefetch }: Config, add: Add): void {
  for (const [index, { schedule, images, file, platforms, referrers }] of prefetch.entries()) {
    const at = (...keys: ConfigPath): ConfigPath => ['prefetch', index, ...keys];
    if (schedule.kind === 'cron') add(at('schedule'), schedule.expression);
    else add(at('every'), formatDuration(schedule.everyMs));
    add(at('file'), file);
    add(at('platforms'), platforms);
    add(at('referrers'), referrers);
    for (const [place, image] of images.entries()) {
      for (const [key, value] of Object.entries(image)) add(at('images', place, key), value, at('images', place));
    }
  }
}

function listAuth(auth: UpstreamAuth | undefined): readonly (readonly [string, string])[] {
  if (auth === undefined) return [];
  switch (auth.kind) {
    case 'password':
      return pairs({ username: auth.username, password: String(auth.password) });
    case 'passwordFile':
      return pairs({ username: auth.username, passwordFile: auth.path });
    case 'passwordEnv':
      return pairs({ username: auth.username, passwordEnv: auth.variable });
    case 'dockerConfig':
      return pairs({ dockerConfig: auth.path });
    default:
      return auth satisfies never;
  }
}

function pairs(values: Readonly<Record<string, string>>): readonly (readonly [string, string])[] {
  return Object.entries(values);
}

function formatListen(listen: ListenAddress): string {
  const { host = '', port } = listen;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function yamlValue(value: Setting['value']): string {
  if (typeof value === 'string') return yamlScalar(value);
  return Array.isArray(value) ? `[${value.map(yamlScalar).join(', ')}]` : String(value);
}

/** Plain where that is surely read back as the same text, else quoted; JSON's quoting is YAML's too. */
function yamlScalar(text: string): string {
  const plain = /^[A-Za-z0-9./_][A-Za-z0-9./_@:+-]*[A-Za-z0-9/_]$|^[A-Za-z_]$/.test(text);
  const ambiguous = /^(?:true|false|null|yes|no|on|off|[0-9.eE+_-]+|0[xo].*|\.inf|\.nan)$/i.test(text);
  return plain && !ambiguous ? text : JSON.stringify(text);
}

function oneLine(text: string): string {
  return text.replace(/[\r\n]/g, ' ');
}
