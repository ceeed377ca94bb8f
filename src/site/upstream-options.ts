import type { Config, UpstreamAuth, UpstreamConfig } from '../config/config.ts';
import type { CredentialOptions, UpstreamOptions } from '../upstream/options.ts';
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
    tls: { ca: caFile, cert: certFile, key: keyFile, insecureSkipVerify },
    // An upstream that uses up its time leaves enough of the client's time for another answer.
    answerMs: Math.ceil(Math.min(upstream.timeouts.answerMs, config.timeouts.answerMs) * 0.9),
    maxManifestBytes: config.cache.maxManifestSizeBytes,
  };
}

function credentialOptions({ username = '', ...from }: UpstreamAuth): CredentialOptions | undefined {
  const { password, passwordFile, passwordEnv, dockerConfig } = from;
  if (password !== undefined) return { kind: 'inline', username, password: password.reveal() };
  if (passwordFile !== undefined) return { kind: 'password-file', username, passwordFile };
  if (passwordEnv !== undefined) return { kind: 'environment', username, passwordVariable: passwordEnv };
  return dockerConfig === undefined ? undefined : { kind: 'docker-config', path: dockerConfig };
}

/** The kind of credential that an upstream receives, in words without any secret. */
function credentialInWords(auth: UpstreamAuth | undefined): string {
  const credentials = auth && credentialOptions(auth);
  switch (credentials?.kind) {
    case undefined:
      return 'anonymous';
    case 'inline':
      return `user ${credentials.username}, password from the configuration`;
    case 'password-file':
      return `user ${credentials.username}, password from ${credentials.passwordFile}`;
    case 'environment':
      return `user ${credentials.username}, password from the environment variable ${credentials.passwordVariable}`;
    case 'docker-config':
      return `what ${credentials.path} holds for it`;
    default:
      return credentials satisfies never;
  }
}

/** As {@link credentialInWords}, by the name of the upstream. */
export function credentialsOf(config: Config): (upstream: string) => string {
  return (name) => credentialInWords(config.upstreams.find((upstream) => upstream.name === name)?.auth);
}
