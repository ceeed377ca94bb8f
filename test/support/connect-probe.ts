import { createHook } from 'node:async_hooks';
import { appendFileSync } from 'node:fs';

// Loaded into a program with `--import`: notes each attempt of it to reach somebody, or to find an address, in a file.
const outward = new Set(['TCPCONNECTWRAP', 'GETADDRINFOREQWRAP', 'GETNAMEINFOREQWRAP', 'QUERYWRAP', 'UDPSENDWRAP']);

createHook({
  init(_id, type) {
    if (outward.has(type)) appendFileSync(process.env['CONNECT_PROBE_FILE'] ?? '', `${type}\n`);
  },
}).enable();
