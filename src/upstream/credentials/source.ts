import type { Credential, CredentialContext } from './credential.ts';
import { serverUrlOf } from './docker-config.ts';
import { askHelper } from './docker-helper.ts';
import { type CredentialOptions, isStatic } from './options.ts';
import { readCredential } from './read.ts';
import { type RenewalStatus, Renewed } from './renewed.ts';

/** The credential itself, or where one comes from that is renewed by itself. */
export type Identity = { readonly credential: Credential | undefined } | { readonly from: unknown };

/** Where one credential of an upstream's host comes from. */
export interface CredentialSource {
  /**
   * The current one.
   * @returns `undefined`: there is none, requests are anonymous
   * @throws RegistryError no-credentials; the signal's reason
   */
  get(options: { readonly signal: AbortSignal }): Promise<Credential | undefined>;
  /** The other side refused it. @returns whether there is another one now */
  refused(credential: Credential, options: { readonly signal: AbortSignal }): Promise<boolean>;
  /** What tells this credential from others; to be kept secret. @throws RegistryError no-credentials */
  identity(): Promise<Identity>;
  status(): RenewalStatus;
}

export interface SourceContext extends CredentialContext {
  readonly now: () => number;
}

/** The source that options describe. Nothing is asked before the first use. */
export function credentialSource(options: CredentialOptions, context: SourceContext): CredentialSource {
  if (!isStatic(options)) {
    const serverUrl = serverUrlOf(context.host);
    return renewedSource(helperRenewal(options.helper, serverUrl, context), options);
  }
  // A `config.json` may name one helper now and another one later.
  let last: { readonly key: string; readonly renewed: Renewed } | undefined;
  const renewedFor = (helper: string, serverUrl: string): Renewed => {
    const key = `${helper} ${serverUrl}`;
    if (last?.key !== key) last = { key, renewed: helperRenewal(helper, serverUrl, context) };
    return last.renewed;
  };
  return {
    async get({ signal }) {
      const entry = await readCredential(options, context);
      if (entry === undefined) return undefined;
      if ('credential' in entry) return entry.credential;
      return await renewedFor(entry.helper, entry.serverUrl).get({ signal });
    },
    refused: async (credential, { signal }) => (await last?.renewed.refused(credential, { signal })) ?? false,
    async identity() {
      const entry = await readCredential(options, context);
      if (entry === undefined) return { credential: undefined };
      return 'credential' in entry ? entry : { from: entry };
    },
    status: () => last?.renewed.status() ?? {},
  };
}

function helperRenewal(helper: string, serverUrl: string, context: SourceContext): Renewed {
  const { now } = context;
  return new Renewed({ now, obtain: () => askHelper(helper, { serverUrl, context, now }) });
}

function renewedSource(renewed: Renewed, options: CredentialOptions): CredentialSource {
  return {
    get: (asked) => renewed.get(asked),
    refused: (credential, asked) => renewed.refused(credential, asked),
    identity: () => Promise.resolve({ from: options }),
    status: () => renewed.status(),
  };
}
