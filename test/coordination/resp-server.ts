import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';

/** A reply of Redis; an error goes out as one, `undefined`: nothing is sent. */
export type RespReply = string | number | Error | null | undefined | readonly RespReply[];

/** Something that speaks the protocol of Redis (RESP 2) and answers as a test says. */
export interface RespServer extends AsyncDisposable {
  readonly port: number;
  /** The connections that are open. */
  readonly sockets: ReadonlySet<Socket>;
  /** Every command so far, with its arguments. */
  readonly commands: string[][];
  /** What answers everything but the commands with which a client begins. */
  answer: (command: readonly string[]) => RespReply;
  /** Sends a message to those who have subscribed. */
  publish(channel: string): void;
}

export async function startResp(): Promise<RespServer> {
  const sockets = new Set<Socket>();
  const subscribers = new Set<Socket>();
  const commands: string[][] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    let buffered = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      buffered += text;
      for (;;) {
        const found = takeCommand(buffered);
        if (found === undefined) return;
        buffered = found.rest;
        commands.push(found.command);
        const reply = resp.answer(found.command) ?? usual(socket, found.command);
        if (reply !== undefined) socket.write(encoded(reply));
      }
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      sockets.delete(socket);
      subscribers.delete(socket);
    });
  });
  const usual = (socket: Socket, [name = '', ...values]: readonly string[]): RespReply => {
    if (name === 'info') return '# Server\r\nredis_version:7.0.0\r\nloading:0\r\n';
    if (name === 'hello') return new Error("ERR unknown command 'HELLO'");
    if (name === 'auth') return 'OK';
    if (name !== 'subscribe') return undefined;
    subscribers.add(socket);
    return ['subscribe', values[0]!, 1];
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const resp: RespServer = {
    port: (server.address() as AddressInfo).port,
    sockets,
    commands,
    answer: () => undefined,
    publish(channel) {
      for (const socket of subscribers) socket.write(encoded(['message', channel, '']));
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
  return resp;
}

function takeCommand(text: string): { readonly command: string[]; readonly rest: string } | undefined {
  const lines = text.split('\r\n');
  const count = Number(lines[0]?.slice(1));
  if (lines.length <= 2 * count + 1) return undefined;
  const command = lines.slice(1, 2 * count + 1).filter((_, index) => index % 2 === 1);
  return { command: [command[0]!.toLowerCase(), ...command.slice(1)], rest: lines.slice(2 * count + 1).join('\r\n') };
}

function encoded(reply: RespReply): string {
  if (reply instanceof Error) return `-${reply.message}\r\n`;
  if (reply === null || reply === undefined) return '$-1\r\n';
  if (typeof reply === 'number') return `:${reply}\r\n`;
  if (typeof reply === 'string') return `$${Buffer.byteLength(reply)}\r\n${reply}\r\n`;
  return `*${reply.length}\r\n${reply.map(encoded).join('')}`;
}
