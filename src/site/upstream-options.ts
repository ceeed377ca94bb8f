import type { Config, UpstreamAuth, UpstreamConfig } from '../config/config.ts';
import type { CredentialOptions } from '../upstream/credentials/options.ts';
import { credentialInWords } from '../upstream/credentials/words.ts';
import type { UpstreamOptions } from '../upstream/options.ts';
import { tagRule } from '../upstream/tag-rules.ts';

/** What an upstream is built from, as the configuration says. */
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

/** One credential; the configuration has checked that exactly one source is named. */
export function credentialOptions({ username = '', ...from }: UpstreamAuth): CredentialOptions {
  const { password, passwordFile, passwordEnv, dockerConfig, helper = '' } = from;
  if (password !== undefined) return { kind: 'inline', username, password: password.reveal() };
  if (passwordFile !== undefined) return { kind: 'password-file', username, passwordFile };
  if (passwordEnv !== undefined) return { kind: 'environment', username, passwordVariable: passwordEnv };
  if (dockerConfig !== undefined) return { kind: 'docker-config', path: dockerConfig };
  return { kind: 'helper', helper };
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
