import type { Config, UpstreamAuth, UpstreamConfig } from '../config/config.ts';
import { tagRule } from '../mirror/tag-rules.ts';
import type { CredentialOptions, UpstreamOptions } from '../upstream/options.ts';

/** What an upstream is built from, as the configuration says. */
export function upstreamOptions(config: Config, upstream: UpstreamConfig): UpstreamOptions {
  const { caFile, certFile, keyFile, insecureSkipVerify } = upstream.tls;
  return {
    ...upstream,
    freshness: { ...upstream.freshness, tags: upstream.tags.map(tagRule) },
    credentials: upstream.auth && credentialOptions(upstream.auth),
    tls: { ca: caFile, cert: certFile, key: keyFile, insecureSkipVerify },
    // An upstream that uses up its time leaves enough of the client's to be given something else.
    answerMs: Math.ceil(Math.min(upstream.timeouts.answerMs, config.timeouts.answerMs) * 0.9),
    maxManifestBytes: config.cache.maxManifestSizeBytes,
  };
}

function credentialOptions(auth: UpstreamAuth): CredentialOptions {
  switch (auth.kind) {
    case 'password':
      return { kind: 'inline', username: auth.username, password: auth.password.reveal() };
    case 'passwordFile':
      return { kind: 'password-file', username: auth.username, passwordFile: auth.path };
    case 'passwordEnv':
      return { kind: 'environment', username: auth.username, passwordVariable: auth.variable };
    case 'dockerConfig':
      return { kind: 'docker-config', path: auth.path };
    default:
      return auth satisfies never;
  }
}

/** The kind of credential that an upstream is shown, in words without any secret. */
export function credentialInWords(auth: UpstreamAuth | undefined): string {
  switch (auth?.kind) {
    case undefined:
      return 'anonymous';
    case 'password':
      return `user ${auth.username}, password from the configuration`;
    case 'passwordFile':
      return `user ${auth.username}, password from ${auth.path}`;
    case 'passwordEnv':
      return `user ${auth.username}, password from the environment variable ${auth.variable}`;
    case 'dockerConfig':
      return `what ${auth.path} holds for it`;
    default:
      return auth satisfies never;
  }
}

/** As {@link credentialInWords}, by the name of the upstream. */
export function credentialsOf(config: Config): (upstream: string) => string {
  return (name) => credentialInWords(config.upstreams.find((upstream) => upstream.name === name)?.auth);
}
