import { unavailable } from '../failures.ts';
import type { AwsKeys } from './cloud/aws-keys.ts';
import type { CloudContext } from './cloud/context.ts';
import type { CredentialContext } from './credential.ts';
import { serverUrlOf } from './docker-config.ts';
import { askHelper } from './docker-helper.ts';
import { askPlugin } from './kubelet-plugin.ts';
import { type CredentialOptions, isStatic, type RenewedCredentials, type StaticCredentials } from './options.ts';
import { readCredential } from './read.ts';
import { type Obtained, Renewed } from './renewed.ts';
import { ServiceError } from './service-client.ts';
import type { CredentialSource } from './source.ts';

export interface SourceContext extends CredentialContext, CloudContext {}

/** The source that options describe. Nothing is asked before the first use. */
export function credentialSource(options: CredentialOptions, context: SourceContext): CredentialSource {
  return isStatic(options) ? readSource(options, context) : renewedSource(options, context);
}

/** A source that is read at each use; Docker's `config.json` may name a helper that is asked instead. */
function readSource(options: StaticCredentials, context: SourceContext): CredentialSource {
  const { now } = context;
  // It may name one helper now and another one later.
  let last: { readonly key: string; readonly renewed: Renewed } | undefined;
  const renewedFor = (helper: string, serverUrl: string): Renewed => {
    const key = `${helper} ${serverUrl}`;
    if (last?.key !== key) {
      last = { key, renewed: new Renewed({ now, obtain: () => askHelper(helper, { serverUrl, context, now }) }) };
    }
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

function renewedSource(options: RenewedCredentials, context: SourceContext): CredentialSource {
  const renewed = new Renewed({ now: context.now, obtain: () => obtain(options, context) });
  return {
    get: (asked) => renewed.get(asked),
    refused: (credential, asked) => renewed.refused(credential, asked),
    identity: () => Promise.resolve({ from: options }),
    status: () => renewed.status(),
  };
}

/** Clients of clouds are loaded with the first question: most mirrors ask none. */
async function obtain(options: RenewedCredentials, context: SourceContext): Promise<Obtained> {
  switch (options.kind) {
    case 'helper':
      return await askHelper(options.helper, { serverUrl: serverUrlOf(context.host), context, now: context.now });
    case 'kubelet':
      return await askPlugin(options, context);
    case 'ecr': {
      const { keys } = options;
      const asked = { ...options, keys: keys && (() => awsKeysOf(keys, context)) };
      return await ofService('Amazon ECR', context, async () => {
        const { ecrCredential } = await import('./cloud/ecr.ts');
        return await ecrCredential(asked, context);
      });
    }
    case 'google':
      return await ofService('Google', context, async () => {
        const { googleCredential } = await import('./cloud/google.ts');
        return await googleCredential(options.credentialsFile, context);
      });
    case 'acr':
      return await ofService('Azure', context, async () => {
        const { acrCredential } = await import('./cloud/acr.ts');
        return await acrCredential(options, context);
      });
    default:
      return options satisfies never;
  }
}

/** Keys that are configured as a user name and a password. */
async function awsKeysOf(keys: StaticCredentials, context: SourceContext): Promise<AwsKeys> {
  const entry = await readCredential(keys, context);
  if (entry === undefined || !('credential' in entry) || entry.credential.kind !== 'basic') {
    throw new ServiceError('needs an access key, which cannot be read');
  }
  const { username, password } = entry.credential;
  return { accessKeyId: username, secretAccessKey: password };
}

async function ofService<T>(service: string, { upstream }: SourceContext, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    const clause = `gets its credentials from ${service}, which ${error.message}`;
    throw unavailable(upstream, clause, { reason: 'no-credentials' });
  }
}
