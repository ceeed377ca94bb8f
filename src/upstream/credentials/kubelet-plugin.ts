import { unavailable } from '../failures.ts';
import { isRecord, parseSecretJson } from './answers.ts';
import type { Credential, CredentialContext } from './credential.ts';
import { ProgramError, runProgram } from './program.ts';
import type { Obtained } from './renewed.ts';

const apiVersion = 'credentialprovider.kubelet.k8s.io/v1';
const cacheKeyTypes: readonly unknown[] = ['Image', 'Registry', 'Global'];
/** The kubelet waits for a minute; a pull does not. */
const timeoutMs = 20_000;
/** Where the answer does not say, in milliseconds. */
const defaultCacheMs = 5 * 60_000;

export interface KubeletPlugin {
  readonly program: string;
  readonly args: readonly string[];
}

/**
 * Asks a credential provider of the kubelet (kubelet-credentialprovider.v1, CredentialProviderRequest) for the host of
 * an upstream.
 * @throws RegistryError no-credentials, without anything that the program wrote
 */
export async function askPlugin(
  { program, args }: KubeletPlugin,
  { upstream, host, environment, now }: CredentialContext & { readonly now: () => number },
): Promise<Obtained> {
  const failed = (clause: string) =>
    unavailable(upstream, `has its credentials in ${program}, which ${clause}`, { reason: 'no-credentials' });
  const askedAtMs = now();
  const input = JSON.stringify({ apiVersion, kind: 'CredentialProviderRequest', image: `${host}/millpond` });
  try {
    const { code, output } = await runProgram(program, { args, input, environment, timeoutMs });
    if (code !== 0) throw failed(`failed with exit code ${code}`);
    const answer = readAnswer(output);
    if (answer === undefined) throw failed(`did not answer with a CredentialProviderResponse of ${apiVersion}`);
    const cacheMs = answer.cacheMs ?? defaultCacheMs;
    const credential = bestOf(answer.auth, host);
    // While it fails, the last answer is used for as long again.
    return { credential, expiresAtMs: askedAtMs + 2 * cacheMs, renewAtMs: askedAtMs + cacheMs };
  } catch (error) {
    throw error instanceof ProgramError ? failed(error.message) : error;
  }
}

function readAnswer(output: string) {
  try {
    const answer = parseSecretJson(output);
    if (!isRecord(answer) || answer['apiVersion'] !== apiVersion) return undefined;
    if (answer['kind'] !== 'CredentialProviderResponse' || !cacheKeyTypes.includes(answer['cacheKeyType']))
      return undefined;
    const { auth, cacheDuration } = answer;
    const cacheMs = cacheDuration === undefined || cacheDuration === null ? undefined : goDurationMs(cacheDuration);
    return { auth: isRecord(auth) ? auth : {}, cacheMs };
  } catch {
    return undefined;
  }
}

const unitsMs: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
  us: 0.001,
  µs: 0.001,
  ns: 1e-6,
};

/** A duration as Go writes it: `12h0m0s`, `1.5h`. @throws Error */
function goDurationMs(text: unknown): number {
  if (text === '0') return 0;
  const parts = typeof text === 'string' ? [...text.matchAll(/(\d{1,12}(?:\.\d{1,12})?)(ms|us|µs|ns|h|m|s)/g)] : [];
  if (parts.length === 0 || parts.map(([part]) => part).join('') !== text) throw new Error('not a duration');
  return parts.reduce((sum, [, number, unit = '']) => sum + Number(number) * (unitsMs[unit] ?? 0), 0);
}

/** The credential of the longest pattern that matches the host. Patterns with a path are for some images only. */
function bestOf(auth: Readonly<Record<string, unknown>>, host: string): Credential | undefined {
  const patterns = Object.keys(auth).filter((pattern) => matchesHost(pattern, host));
  const [best] = patterns.toSorted((a, b) => b.length - a.length || (a < b ? -1 : 1));
  const entry = best === undefined ? undefined : auth[best];
  if (!isRecord(entry)) return undefined;
  const { username, password } = entry;
  if (typeof username !== 'string' || typeof password !== 'string') return undefined;
  return { kind: 'basic', username, password };
}

/** As `matchImages`: as many labels as the host has, `*` within one label, the same port. */
function matchesHost(pattern: string, host: string): boolean {
  const [name = '', port = ''] = pattern
    .replace(/^https?:\/\//, '')
    .replace(/\/$/, '')
    .split(':');
  const [hostName = '', hostPort = ''] = host.toLowerCase().split(':');
  const [labels, hostLabels] = [name.toLowerCase().split('.'), hostName.split('.')];
  if (port !== hostPort || labels.length !== hostLabels.length || name.includes('/')) return false;
  return labels.every((label, index) => matchesLabel(label, hostLabels[index]!));
}

function matchesLabel(pattern: string, label: string): boolean {
  const [first = '', ...others] = pattern.split('*');
  if (others.length === 0) return pattern === label;
  const last = others.pop()!;
  if (!label.startsWith(first) || !label.endsWith(last) || label.length < first.length + last.length) return false;
  let at = first.length;
  for (const part of others) {
    at = label.indexOf(part, at);
    if (at === -1) return false;
    at += part.length;
  }
  return at <= label.length - last.length;
}
