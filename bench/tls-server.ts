// What Node's own TLS server can do: node tls-server.ts PORT CERTIFICATE KEY FILE
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:https';

const pieceBytes = 512 * 1024;
const [port, certFile = '', keyFile = '', file = ''] = process.argv.slice(2);
const { size } = statSync(file);

createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) }, (request, response) => {
  const startedAtMs = performance.now();
  response.writeHead(200, { 'Content-Length': size, 'Content-Type': 'application/octet-stream' });
  createReadStream(file, { highWaterMark: pieceBytes }).pipe(response);
  response.once('close', () => {
    console.log(JSON.stringify({ time: new Date(), url: request.url, ms: performance.now() - startedAtMs }));
  });
}).listen(Number(port), '127.0.0.1');
