import { Redis } from 'ioredis';
import { afterAll, beforeAll } from 'vitest';
import type { RedisLocation } from '../../src/coordination/connection.ts';
import type { Message } from '../../src/coordination/coordinator.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { SharedCoordinator } from '../../src/coordination/shared.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';

export const secret = Buffer.from('a secret of the replicas');

/** A digest that no test but one uses. */
export function digest(number: number): Digest {
  return `sha256:${number.toString(16).padStart(64, '0')}` as Digest;
}

/** The messages that a replica has received. */
export interface Heard {
  readonly messages: Message[];
  missed: number;
}

/** A replica's coordinator, without the replica. */
export function startCoordinator(
  port: number,
  name: string,
  options: {
    readonly secret?: Buffer;
    readonly username?: string;
    readonly password?: string;
    /** Default: longer than a busy machine takes, so that none loses a Redis that is there. */
    readonly deadlineMs?: number;
    /** Default: longer than a busy machine takes to reach a Redis that is there. */
    readonly firstLookMs?: number;
    /** Default: a single server. */
    readonly location?: RedisLocation;
    /** Default: its name. */
    readonly id?: string;
    /** Of its last run. */
    readonly position?: string | undefined;
    /** What that could not tell. */
    readonly untold?: string | undefined;
  } = {},
): {
  readonly coordinator: SharedCoordinator;
  readonly heard: Heard;
  readonly events: string[];
  /** The scripts that Redis was asked to run. */
  readonly calls: string[];
  /** Those of them that failed. */
  readonly failures: string[];
  /** What it could not tell, each time that changed. */
  readonly kept: string[];
} & AsyncDisposable {
  const events: string[] = [];
  const calls: string[] = [];
  const failures: string[] = [];
  const coordinator = new SharedCoordinator({
    location: options.location ?? {
      kind: 'single',
      host: '127.0.0.1',
      port,
      db: 0,
      tls: false,
      username: options.username,
      password: options.password,
    },
    keyPrefix: 'test:',
    deadlineMs: options.deadlineMs ?? 5_000,
    firstLookMs: options.firstLookMs ?? 60_000,
    seal: new Seal(options.secret ?? secret),
    report(event) {
      switch (event.kind) {
        case 'redis-lost':
          events.push(`lost: ${event.reason}`);
          return;
        case 'redis-found':
          events.push('found');
          return;
        case 'redis-refused':
          events.push(`refused: ${event.what}: ${event.reason}`);
          return;
        case 'redis-called':
          calls.push(event.script);
          if (event.result === 'failed') failures.push(event.script);
          return;
        default:
          event satisfies never;
      }
    },
    onUnread: (count) => events.push(`unread: ${count}`),
  });
  const kept: string[] = [];
  coordinator.join(`http://${name}.test:5000`, {
    id: options.id ?? name,
    position: options.position,
    untold: options.untold,
    keepUntold: (untold) => void kept.push(untold),
  });
  const heard: Heard = { messages: [], missed: 0 };
  coordinator.subscribe({
    received: (message) => void heard.messages.push(message),
    missed: () => void (heard.missed += 1),
  });
  return {
    coordinator,
    heard,
    events,
    calls,
    failures,
    kept,
    [Symbol.asyncDispose]: () => coordinator[Symbol.asyncDispose](),
  };
}

/** Whether a coordinator is connected, has looked who is there and what was done, and sees so many others. */
export function sees(coordinator: SharedCoordinator, others: number): () => boolean {
  return () => {
    const { atMs } = JSON.parse(coordinator.position ?? '{"atMs":0}') as { readonly atMs: number };
    return (
      coordinator.status().state === 'connected' &&
      coordinator.epoch !== '' &&
      atMs > 0 &&
      coordinator.replicas.length === others
    );
  };
}

/** A Redis for the tests of one suite, and a connection to it. Call it in `describe`. */
export function suiteRedis(): { readonly port: number; readonly client: Redis } {
  let redis: RedisServer;
  let client: Redis;
  beforeAll(async () => {
    redis = await startRedis();
    client = new Redis(redis.port, '127.0.0.1');
  });
  afterAll(async () => {
    client.disconnect();
    await redis[Symbol.asyncDispose]();
  });
  return {
    get port() {
      return redis.port;
    },
    get client() {
      return client;
    },
  };
}
