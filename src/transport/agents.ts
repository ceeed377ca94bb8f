import { type AgentOptions, Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent, type AgentOptions as TlsAgentOptions } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { SecureContext } from 'node:tls';
import { Line } from './line.ts';
import type { Proxies, Way } from './proxies.ts';
import { socksConnect } from './socks.ts';

export interface AgentsOptions {
  readonly proxies: Proxies;
  /** Connections to one host at a time. */
  readonly maxConnections: number;
  /** The TLS context, created when it is first needed. */
  readonly secureContext: () => SecureContext;
  readonly rejectUnauthorized: boolean;
  /** Whether large bodies come over these connections, which are then read as {@link Line} says. */
  readonly isBulk?: boolean;
}

/** A kept connection, or a new one, is given by the agent. */
export interface ChosenAgent {
  readonly agent: HttpAgent | HttpsAgent;
  /** Whether the connection goes to the host itself, and not to a proxy. */
  readonly isDirect: boolean;
}

/** The kept connections of one identity; agents are made when they are first needed. */
export class Agents implements Disposable {
  readonly #options: AgentsOptions;
  readonly #agents = new Map<string, HttpAgent | HttpsAgent>();
  #scratch: Buffer | undefined;

  constructor(options: AgentsOptions) {
    this.#options = options;
  }

  for(url: URL): ChosenAgent {
    const way = this.#options.proxies.for(url);
    const key = `${url.protocol} ${way.kind === 'direct' ? '' : way.proxy.href}`;
    let agent = this.#agents.get(key);
    if (agent === undefined) {
      agent = this.#create(url, way);
      this.#agents.set(key, agent);
    }
    return { agent, isDirect: way.kind === 'direct' };
  }

  /** Closes all connections, including those in use. */
  [Symbol.dispose](): void {
    for (const agent of this.#agents.values()) agent.destroy();
  }

  #create({ protocol }: URL, way: Way): HttpAgent | HttpsAgent {
    const { maxConnections, secureContext, rejectUnauthorized } = this.#options;
    const proxyEnv = way.kind === 'http' ? { http_proxy: way.proxy.href, https_proxy: way.proxy.href } : {};
    const common = { keepAlive: true, maxSockets: maxConnections, scheduling: 'lifo' as const, proxyEnv };
    const secure = { secureContext: protocol === 'https:' ? secureContext() : undefined, rejectUnauthorized };
    if (way.kind === 'socks') {
      return protocol === 'https:'
        ? new SocksTlsAgent(way.proxy, { ...common, ...secure })
        : new SocksAgent(way.proxy, common);
    }
    if (way.kind === 'direct' && this.#options.isBulk === true) {
      const scratch = (this.#scratch ??= Buffer.allocUnsafeSlow(scratchBytes));
      return protocol === 'https:'
        ? new BulkTlsAgent(scratch, { ...common, ...secure })
        : new BulkAgent(scratch, common);
    }
    return protocol === 'https:' ? new HttpsAgent({ ...common, ...secure }) : new HttpAgent(common);
  }
}

/** As much as libuv would read at a time. */
const scratchBytes = 64 * 1024;

class BulkAgent extends HttpAgent {
  readonly #scratch: Buffer;

  constructor(scratch: Buffer, options: AgentOptions) {
    super(options);
    this.#scratch = scratch;
  }

  override createConnection(options: Wanted, callback?: Connected): Duplex | null | undefined {
    const line = new Line(this.#scratch);
    return attached(line, super.createConnection({ ...options, onread: line.onread } as Wanted, callback));
  }
}

class BulkTlsAgent extends HttpsAgent {
  readonly #scratch: Buffer;

  constructor(scratch: Buffer, options: TlsAgentOptions) {
    super(options);
    this.#scratch = scratch;
  }

  override createConnection(options: TlsAgentOptions & Wanted, callback?: Connected): Duplex | null | undefined {
    const line = new Line(this.#scratch);
    return attached(line, super.createConnection({ ...options, onread: line.onread } as TlsAgentOptions, callback));
  }
}

function attached(line: Line, socket: Duplex | null | undefined): Duplex | null | undefined {
  if (socket) line.attach(socket as Socket);
  return socket;
}

type Connected = (error: Error | null, stream: Duplex) => void;
type Wanted = { readonly host?: string | null | undefined; readonly port?: number | string | null | undefined };

class SocksAgent extends HttpAgent {
  readonly #proxy: URL;

  constructor(proxy: URL, options: AgentOptions) {
    super(options);
    this.#proxy = proxy;
  }

  override createConnection(options: Wanted, callback?: Connected): undefined {
    void give(callback, () => connectBy(this.#proxy, options));
  }
}

class SocksTlsAgent extends HttpsAgent {
  readonly #proxy: URL;

  constructor(proxy: URL, options: TlsAgentOptions) {
    super(options);
    this.#proxy = proxy;
  }

  override createConnection(options: TlsAgentOptions & Wanted, callback?: Connected): undefined {
    void give(callback, async () => {
      const socket = await connectBy(this.#proxy, options);
      return super.createConnection({ ...options, socket } as TlsAgentOptions) as Duplex;
    });
  }
}

/** Calls Node's agent back with a connection, or with what it failed with. */
async function give(callback: Connected | undefined, connectTo: () => Promise<Duplex>): Promise<void> {
  let stream: Duplex;
  try {
    stream = await connectTo();
  } catch (error) {
    callback?.(error as Error, undefined as unknown as Duplex);
    return;
  }
  callback?.(null, stream);
}

function connectBy(proxy: URL, { host, port }: Wanted): Promise<Duplex> {
  return socksConnect(proxy, { host: host ?? '', port: Number(port) });
}
