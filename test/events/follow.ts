import { request } from 'node:http';

/** An event as a client of the stream reads it. */
export interface StreamedEvent {
  readonly id: string;
  readonly type: string;
  readonly data: { readonly data: { readonly repository?: string; readonly tag?: string } };
}

/** Follows the events of a mirror until it is disposed. */
export function follow(
  site: { readonly origin: string },
  headers: Readonly<Record<string, string>> = {},
  { path = '/v2/_millpond/events', query = '' }: { path?: string; query?: string } = {},
) {
  const events: StreamedEvent[] = [];
  let opened = false;
  let ended = false;
  const asked = request(new URL(`${path}${query}`, site.origin), {
    agent: false,
    headers: { accept: 'text/event-stream', ...headers },
  });
  asked.on('response', (response) => {
    let rest = '';
    response.on('data', (piece: Buffer) => {
      rest += piece.toString();
      const blocks = rest.split('\n\n');
      rest = blocks.pop() ?? '';
      for (const block of blocks) {
        opened = true;
        const of = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1];
        const data = of('data');
        if (data !== undefined) events.push({ id: of('id') ?? '', type: of('event') ?? '', data: JSON.parse(data) });
      }
    });
    response.on('end', () => (ended = true));
  });
  asked.on('error', () => undefined);
  asked.end();
  return {
    events,
    isOpened: () => opened,
    isEnded: () => ended,
    [Symbol.dispose]: () => void asked.destroy(),
  };
}
