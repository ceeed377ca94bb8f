import { z } from 'zod';
import { listenAddress, oneOf, path } from './value-kinds.ts';
import { value } from './value-schema.ts';

const file = path('file');

/** TLS of a listener. */
export const serverTlsSchema = z.strictObject({
  certFile: value(file).describe('Certificate chain (PEM).'),
  keyFile: value(file).describe('Its private key (PEM).'),
  clientCaFile: value(file)
    .optional()
    .describe(
      'Authorities (PEM) that must have signed client certificates; requires a certificate of every client, unless `clientCertificates` says otherwise.',
    ),
  clientCertificates: value(oneOf(['required', 'optional']))
    .prefault('required')
    .describe('With `clientCaFile`: whether a client without a certificate is let in; `auth` decides what it may do.'),
  minVersion: value(oneOf(['TLSv1.2', 'TLSv1.3']))
    .prefault('TLSv1.2')
    .describe('Lowest version of TLS.'),
});

/** A listener beside the one of clients. */
function listenerSchema(example: string) {
  return z.strictObject({
    listen: value(listenAddress).describe(`Address and port, such as \`${example}\`.`),
    tls: serverTlsSchema.optional().describe('Serve HTTPS there; absent: plain HTTP.'),
  });
}

/** The section `listeners`. */
export const listenersSchema = z.strictObject({
  metrics: listenerSchema('127.0.0.1:9090')
    .optional()
    .describe(
      'Serves `/metrics`, `/healthz` and `/readyz` to anyone who can reach it; `/metrics` is then served nowhere else.',
    ),
  peers: listenerSchema('10.0.0.7:5001')
    .optional()
    .describe('Serves other replicas, which are then served nowhere else.'),
  administration: listenerSchema('10.0.0.7:5002')
    .optional()
    .describe('Serves what `control.sock` does to callers that may administer. Requires `auth`.'),
});
