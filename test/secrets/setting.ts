import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { hashSync } from 'bcryptjs';
import { errorAnswer } from '../support/answers.ts';
import { makeAuthority } from '../support/certificates.ts';
import { type FakeGoogle, startGoogle } from '../support/clouds/google.ts';
import { writeProgram } from '../support/programs.ts';
import { startRedis } from '../support/redis.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import type { secretKeys } from './places.ts';

type Key = (typeof secretKeys)[number];

/** What one secret is, and where alone it may be sent: the name of a server, or nowhere. */
export interface Canary {
  readonly key: Key;
  readonly texts: readonly string[];
  readonly place: string | undefined;
}

/** All that a server was sent. */
export interface Place {
  readonly name: string;
  readonly received: () => string;
}

const kinds = ['password', 'passwordFile', 'passwordEnv', 'dockerConfig', 'helper', 'kubeletProvider'] as const;
const user = 'mirror';

/** A configuration with a secret of its own in each key that takes one, and the servers that these are for. */
export async function prepareSecrets(stack: AsyncDisposableStack, folder: string) {
  const canaries: Canary[] = [];
  const env: Record<string, string> = { PATH: `${folder}:${process.env['PATH']}` };
  const places: Place[] = [];
  const file = async (name: string, content: string): Promise<string> => {
    await writeFile(join(folder, name), content, { mode: 0o600 });
    return join(folder, name);
  };
  const add = (key: Key, place: string | undefined, ...texts: string[]): string => {
    canaries.push({ key, texts, place });
    return texts[0]!;
  };
  const authority = await makeAuthority(folder, 'authority');
  const certificate = async (name: string, key: Key) => {
    const { certFile, keyFile, key: pem } = await authority.issue(name);
    // The second line: the first of each key says only what it is.
    add(key, undefined, pem.split('\n')[2]!);
    return { certFile, keyFile };
  };
  const registries = new Map<string, ScriptedRegistry>();
  const upstreams: Record<string, object> = {};
  const credentialOf = async (
    kind: (typeof kinds)[number],
    at: 'auth' | 'additionalAuth',
    registry: ScriptedRegistry,
  ) => {
    const password = `canary-${kind}-${at}`;
    add(at === 'auth' ? `upstreams.*.auth.${kind}` : `upstreams.*.additionalAuth.[].${kind}`, kind, password);
    const username = `${user}-${at}`;
    switch (kind) {
      case 'password':
        return { username, password };
      case 'passwordFile':
        return { username, passwordFile: await file(`${kind}-${at}`, `${password}\n`) };
      case 'passwordEnv': {
        const passwordEnv = `PASSWORD_OF_${at.toUpperCase()}`;
        env[passwordEnv] = password;
        return { username, passwordEnv };
      }
      case 'helper': {
        const answer = JSON.stringify({ ServerURL: registry.host, Username: username, Secret: password });
        await writeProgram(
          folder,
          `docker-credential-${at.toLowerCase()}`,
          `process.stdout.write(${JSON.stringify(answer)})`,
        );
        return { helper: at.toLowerCase() };
      }
      case 'dockerConfig': {
        const auth = Buffer.from(`${username}:${password}`).toString('base64');
        return { dockerConfig: await file(`${kind}-${at}`, JSON.stringify({ auths: { [registry.host]: { auth } } })) };
      }
      case 'kubeletProvider': {
        const response = {
          apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
          kind: 'CredentialProviderResponse',
          cacheKeyType: 'Registry',
          cacheDuration: '1h',
          auth: { [registry.host]: { username, password } },
        };
        const body = `process.stdout.write(${JSON.stringify(JSON.stringify(response))})`;
        return { kubeletProvider: await writeProgram(folder, `provider-${at}`, body) };
      }
      default:
        return kind satisfies never;
    }
  };
  for (const kind of kinds) {
    const registry = stack.use(
      await startRegistry({ instead: ({ headers }) => answerTo(headers['authorization'], kind) }),
    );
    const [auth, more] = [
      await credentialOf(kind, 'auth', registry),
      await credentialOf(kind, 'additionalAuth', registry),
    ];
    upstreams[`${kind.toLowerCase()}.test`] = { urls: [registry.origin], auth, additionalAuth: [more] };
    registries.set(kind, registry);
    places.push(placeOf(kind, registry));
  }
  const google: FakeGoogle = stack.use(await startGoogle());
  const { private_key: pem } = google.serviceAccountKey as { private_key: string };
  const credentialsFile = await file('google.json', JSON.stringify(google.serviceAccountKey));
  for (const at of ['upstreams.*.auth.credentialsFile', 'upstreams.*.additionalAuth.[].credentialsFile'] as const) {
    add(at, undefined, pem.split('\n')[2]!);
  }
  const cloud = { provider: 'google', credentialsFile };
  upstreams['google.test'] = { urls: [google.registry.origin], auth: cloud, additionalAuth: [cloud] };
  registries.set('google', google.registry);
  places.push(placeOf('google', google.registry));
  const { certFile, keyFile } = await certificate('client', 'upstreams.*.tls.keyFile');
  upstreams['tls.test'] = { urls: ['https://127.0.0.1:1'], tls: { caFile: authority.certFile, certFile, keyFile } };

  const redisPassword = add('redis.url', 'redis', 'canary-redis-url');
  const redis = stack.use(await startRedis({ args: ['--requirepass', redisPassword] }));
  const reviewer = stack.use(await startReceiver('reviewer', places));
  const hook = stack.use(await startReceiver('hook', places));
  const hash = hashSync('right', 4);
  add('auth.htpasswdFile', undefined, hash.slice(7));
  const config = {
    log: { level: 'trace' },
    tls: await certificate('main', 'tls.keyFile'),
    listeners: {
      metrics: { listen: '127.0.0.1:0', tls: await certificate('metrics', 'listeners.metrics.tls.keyFile') },
      peers: { listen: '127.0.0.1:0', tls: await certificate('peers', 'listeners.peers.tls.keyFile') },
      administration: {
        listen: '127.0.0.1:0',
        tls: await certificate('administration', 'listeners.administration.tls.keyFile'),
      },
    },
    upstreams,
    redis: { url: redis.url.replace('//', `//:${redisPassword}@`) },
    cluster: { secretFile: await file('cluster', add('cluster.secretFile', undefined, 'canary-of-the-cluster')) },
    auth: {
      htpasswdFile: await file('htpasswd', `ann:${hash}\n`),
      keysFile: join(folder, 'keys.json'),
      issuers: [
        {
          issuer: 'https://issuer.test',
          audience: 'millpond',
          tokenReview: reviewer.origin,
          tokenFile: await file('token', add('auth.issuers.[].tokenFile', 'reviewer', 'canary-token-file')),
        },
      ],
      policies: [{ users: ['ann', 'robot'], actions: ['pull', 'push', 'search', 'administer'] }],
    },
    events: {
      webhooks: [
        {
          url: `${hook.origin}/`,
          secretFile: await file('hook', add('events.webhooks.[].secretFile', undefined, 'canary-of-the-webhook')),
        },
      ],
    },
  };
  return { config, canaries, places, registries, authority, redis, redisPassword, file, env };
}

/** Asks for credentials, and takes those that are for it. */
function answerTo(authorization: string | undefined, kind: string) {
  const [, password = ''] = Buffer.from((authorization ?? '').slice('Basic '.length), 'base64')
    .toString()
    .split(':');
  if (password.startsWith(`canary-${kind}-`)) return undefined;
  return errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': 'Basic realm="x"' });
}

/** A text as it may be found: as it is, and within Base64 at each of the three places where it may begin, and within hex. */
export function formsOf(secret: string): readonly string[] {
  const inBase64 = [0, 1, 2].map((before) => {
    const encoded = Buffer.from(' '.repeat(before) + secret).toString('base64url');
    // The first and the last characters depend on what stands beside.
    return encoded.slice(Math.ceil((before * 8) / 6), Math.floor(((before + secret.length) * 8) / 6));
  });
  return [
    secret,
    ...inBase64,
    ...inBase64.map((one) => one.replaceAll('-', '+').replaceAll('_', '/')),
    Buffer.from(secret).toString('hex'),
  ];
}

function placeOf(name: string, registry: ScriptedRegistry): Place {
  return { name, received: () => registry.requests.map(({ headers, body }) => shown(headers, body)).join('\n') };
}

function shown(headers: object, body: unknown): string {
  const { authorization = '' } = headers as { readonly authorization?: string };
  const opened = Buffer.from(authorization.replace(/^\w+ /, ''), 'base64').toString();
  return `${JSON.stringify(headers)} ${opened} ${String(body)}`;
}

/** A server that takes everything. */
async function startReceiver(name: string, places: Place[]) {
  let received = '';
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      received += `${shown(request.headers, body)}\n`;
      response.writeHead(201, { 'content-type': 'application/json' }).end('{"status":{"authenticated":false}}');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  places.push({ name, received: () => received });
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A server that answers nothing, in place of a Sentinel. */
export async function startSilent(stack: AsyncDisposableStack) {
  let received = '';
  const server = createTcpServer((socket) => {
    socket
      .on('error', () => undefined)
      .on('data', (piece) => {
        received += piece.toString();
        socket.end('-ERR not now\r\n');
      });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stack.defer(() => void server.close());
  return { port: (server.address() as AddressInfo).port, received: () => received };
}
