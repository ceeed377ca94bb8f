import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import { expect, test } from 'vitest';
import { getText } from '../http/raw-client.ts';
import { seededSource } from '../support/bytes.ts';
import { type Certificate, selfSigned } from '../support/certificates.ts';
import { get } from '../support/client.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';
import { describeWith } from '../support/tools.ts';

const app = '/v2/library/app';

/** A mirror with TLS and two front threads, whose operators ask over a listener of their own. */
async function start() {
  await using owned = new AsyncDisposableStack();
  const certificate = owned.use(await selfSigned());
  const upstream = owned.use(await startRegistry());
  const image = upstream.addImage('library/app', 'v1', { layers: [seededSource(3_000_000, 1)] });
  const mirror = owned.use(
    await startMillpond({
      tls: { certFile: certificate.certFile, keyFile: certificate.keyFile },
      upstreams: { 'docker.io': { urls: [upstream.origin] } },
      serve: { threads: 2 },
      listeners: { metrics: { listen: '127.0.0.1:0' } },
    }),
  );
  const held = owned.move();
  return { certificate, upstream, image, mirror, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

async function metric(mirror: MillpondProcess, name: string): Promise<number> {
  const [, address] = /"listener":"metrics","address":"([^"]+)"/.exec(mirror.process.output) ?? [];
  const { body } = await get(`http://${address}/metrics`);
  return Number(new RegExp(String.raw`^millpond_${name} (\S+)`, 'm').exec(body.toString())?.[1] ?? 0);
}

/** A connection that is kept, whose text is read as latin1. */
class Client implements Disposable {
  readonly socket: TLSSocket;
  text = '';
  #look = (): void => undefined;

  private constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.setEncoding('latin1').on('error', () => undefined);
    socket.on('data', (chunk: string) => {
      this.text += chunk;
      this.#look();
    });
    socket.on('close', () => this.#look());
  }

  static async connect({ host }: MillpondProcess, { cert }: Certificate): Promise<Client> {
    const socket = connect({ host: '127.0.0.1', port: Number(host.split(':')[1]), ca: cert });
    await once(socket, 'secureConnect');
    return new Client(socket);
  }

  /** Sends, and gives what comes until so many answers are there whole, or the connection is closed. */
  async ask(text: string, answers = 1): Promise<string[]> {
    this.text = '';
    this.socket.write(text);
    return await this.answers(answers);
  }

  async answers(count: number): Promise<string[]> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#look = () => {
      if (wholeAnswers(this.text).length >= count || this.socket.destroyed) resolve();
    };
    this.#look();
    await promise;
    return wholeAnswers(this.text);
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** The answers in a text that are whole, by their `Content-Length`. */
function wholeAnswers(text: string): string[] {
  const answers: string[] = [];
  for (let at = 0; ; ) {
    const end = text.indexOf('\r\n\r\n', at);
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(text.slice(at, end))?.[1]);
    if (end === -1 || text.length < end + 4 + length) return answers;
    answers.push(text.slice(at, end + 4 + length));
    at = end + 4 + length;
  }
}

const bodyOf = (answer: string | undefined): string => answer?.slice(answer.indexOf('\r\n\r\n') + 4) ?? '';

describeWith(['openssl'], 'front threads with TLS', () => {
  test('answer what is kept, and have the main thread decide the rest on the same connection', async () => {
    await using running = await start();
    const { mirror, image, upstream } = running;
    using client = await Client.connect(mirror, running.certificate);
    const layer = `${app}/blobs/${image.layers[0]!.digest}`;
    const [first] = await client.ask(getText(`${app}/manifests/v1`));
    expect(first).toContain('\r\nCache-Status: millpond; fwd=miss');
    const [cold] = await client.ask(getText(layer));
    expect(bodyOf(cold)).toHaveLength(3_000_000);
    for (let round = 0; round < 4; round += 1) {
      const [manifest] = await client.ask(getText(`${app}/manifests/v1`));
      expect(bodyOf(manifest)).toBe(bodyOf(first));
      const [list] = await client.ask(getText(`${app}/tags/list`));
      expect(bodyOf(list)).toContain('"tags":["v1"]');
      const [part] = await client.ask(getText(layer, 'Range: bytes=100-199\r\n'));
      expect(bodyOf(part)).toBe(bodyOf(cold).slice(100, 200));
      expect(bodyOf((await client.ask(getText(layer)))[0])).toBe(bodyOf(cold));
    }
    expect(upstream.requests.filter(({ digest }) => digest === image.layers[0]!.digest)).toHaveLength(1);
    expect(await metric(mirror, 'front_threads')).toBe(2);
    await expect.poll(() => metric(mirror, 'kept_answers_total')).toBeGreaterThanOrEqual(8);
    await expect.poll(() => mirror.process.output.split('"msg":"request"').length - 1).toBe(2 + 4 * 4);
    // The main thread knows whom it answers.
    expect(mirror.process.output.split('"client":"127.0.0.1"').length - 1).toBe(2 + 4 * 4);
    // The one that asks for the metrics is counted, too.
    await expect.poll(() => metric(mirror, 'client_connections')).toBe(2);
  });

  test('lose nothing that a client sends ahead, before or behind a request that has to be decided', async () => {
    await using running = await start();
    using client = await Client.connect(running.mirror, running.certificate);
    const manifest = getText(`${app}/manifests/v1`);
    const list = getText(`${app}/tags/list`);
    await client.ask(manifest);
    await client.ask(manifest);
    client.socket.write(list);
    client.socket.write(manifest);
    const answers = await client.ask(list.slice(0, 10), 2);
    expect(answers.map((answer) => bodyOf(answer).includes('"tags"'))).toEqual([true, false]);
    client.socket.write(list.slice(10) + manifest + list);
    const more = await client.answers(5);
    expect(more.map((answer) => bodyOf(answer).includes('"tags"'))).toEqual([true, false, true, false, true]);
  });

  test('end what the main thread does for a client that leaves', async () => {
    await using running = await start();
    const { mirror, upstream } = running;
    const blob = upstream.addBlob({ size: 2_000_000, seed: 'left' });
    const stalled = upstream.fault(blob.digest, { kind: 'stall', afterBytes: 1_000_000 });
    using client = await Client.connect(mirror, running.certificate);
    client.socket.write(getText(`${app}/blobs/${blob.digest}`));
    await stalled.reached;
    await expect.poll(() => metric(mirror, 'requests_running')).toBe(1);
    client.socket.destroy();
    await expect.poll(() => metric(mirror, 'requests_running')).toBe(0);
    // The one that asks for the metrics.
    await expect.poll(() => metric(mirror, 'client_connections')).toBe(1);
    stalled.release();
  });

  test('close a connection that the client half closes after its answer, and each when the mirror stops', async () => {
    await using running = await start();
    using half = await Client.connect(running.mirror, running.certificate);
    using idle = await Client.connect(running.mirror, running.certificate);
    await idle.ask(getText(`${app}/tags/list`));
    const closed = [half, idle].map(({ socket }) => once(socket, 'close'));
    half.socket.end(getText(`${app}/tags/list`));
    expect(bodyOf((await half.answers(1))[0])).toContain('"tags"');
    await closed[0];
    running.mirror.process.kill('SIGTERM');
    await closed[1];
    await running.mirror.process.untilOutput(/"msg":"stopped"/);
  });
});
