import type { Config, UpstreamAuth, UpstreamConfig } from '../config/config.ts';
import type { CredentialOptions, StaticCredentials } from '../upstream/credentials/options.ts';
import { credentialInWords } from '../upstream/credentials/words.ts';
import { tagRule } from '../upstream/freshness.ts';
import type { UpstreamOptions } from '../upstream/options.ts';

/** The options of an upstream, from its configuration. */
export function upstreamOptions(config: Config, upstream: UpstreamConfig): UpstreamOptions {
  const { caFile, certFile, keyFile, insecureSkipVerify } = upstream.tls;
  const { tagTtlMs, staleWhileRevalidateMs, staleIfErrorMs, negativeTtlMs } = upstream;
  const tags = upstream.tags.map(({ repositories = [], ...rule }) => tagRule({ repositories, ...rule }));
  return {
    ...upstream,
    freshness: { tagTtlMs, staleWhileRevalidateMs, staleIfErrorMs, negativeTtlMs, tags },
    credentials: upstream.auth && credentialOptions(upstream.auth),
    moreCredentials: upstream.additionalAuth.map(credentialOptions),
    tls: { ca: caFile, cert: certFile, key: keyFile, insecureSkipVerify },
    // An upstream that uses up its time leaves enough of the client's time for another answer.
    answerMs: Math.ceil(Math.min(upstream.timeouts.answerMs, config.timeouts.answerMs) * 0.9),
    maxManifestBytes: config.cache.maxManifestSizeBytes,
  };
}

/** User names for tokens, where none is written: the registry of GitHub takes any, that of GitLab this one for job tokens. */
const tokenUsers = { github: 'x-access-token', gitlab: 'gitlab-ci-token' } as const;

/** One credential; the configuration has checked which keys go together. */
export function credentialOptions(auth: UpstreamAuth): CredentialOptions {
  const { provider, region, credentialsFile, clientId, tenantId, helper = '' } = auth;
  switch (provider) {
    case undefined:
      if (auth.kubeletProvider !== undefined) {
        return { kind: 'kubelet', program: auth.kubeletProvider, args: auth.kubeletArgs ?? [] };
      }
      return writtenCredential(auth) ?? { kind: 'helper', helper };
    case 'ecr':
    case 'ecr-public':
      return { kind: 'ecr', isPublic: provider === 'ecr-public', region, keys: writtenCredential(auth) };
    case 'google':
      return { kind: 'google', credentialsFile };
    case 'acr':
      return { kind: 'acr', clientId, tenantId };
    case 'github':
    case 'gitlab': {
      const username = auth.username ?? tokenUsers[provider];
      return writtenCredential({ ...auth, username })!;
    }
    default:
      return provider satisfies never;
  }
}

function writtenCredential({ username = '', ...from }: UpstreamAuth): StaticCredentials | undefined {
  const { password, passwordFile, passwordEnv, dockerConfig } = from;
  if (password !== undefined) return { kind: 'inline', username, password: password.reveal() };
  if (passwordFile !== undefined) return { kind: 'password-file', username, passwordFile };
  if (passwordEnv !== undefined) return { kind: 'environment', username, passwordVariable: passwordEnv };
  return dockerConfig === undefined ? undefined : { kind: 'docker-config', path: dockerConfig };
}

/** The credentials that an upstream receives, by its name, in words without any secret. */
export function credentialsOf(config: Config): (upstream: string) => string {
  return (name) => {
    const { auth, additionalAuth = [] } = config.upstreams.find((upstream) => upstream.name === name) ?? {};
    const all = auth === undefined ? [] : [auth, ...additionalAuth];
    return all.length === 0
      ? credentialInWords(undefined)
      : all.map(credentialOptions).map(credentialInWords).join('; ');
  };
}
