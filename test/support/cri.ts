import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';

/** The credentials of an image-pull secret, as kubelet hands them on. */
export interface PullSecret {
  readonly username: string;
  readonly password: string;
}

/**
 * Pulls an image as kubelet does: by `runtime.v1.ImageService/PullImage` of CRI, which is gRPC over a socket.
 * @returns the reference of the image. @throws Error with what the runtime says
 */
export async function pullByCri(socket: string, image: string, secret?: PullSecret): Promise<string> {
  // PullImageRequest: 1 ImageSpec { 1 image }, 2 AuthConfig { 1 username, 2 password }.
  const auth = secret && [field(2, Buffer.concat([text(1, secret.username), text(2, secret.password)]))];
  const request = Buffer.concat([field(1, text(1, image)), ...(auth ?? [])]);
  const session = connectHttp2('http://localhost', { createConnection: () => connect(socket) });
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/runtime.v1.ImageService/PullImage',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const trailers: Record<string, unknown> = {};
    // A failure without a message has them in the place of headers.
    for (const event of ['response', 'trailers'] as const) {
      stream.on(event, (headers: object) => void Object.assign(trailers, headers));
    }
    const head = Buffer.alloc(5);
    head.writeUInt32BE(request.length, 1);
    stream.end(Buffer.concat([head, request]));
    const pieces: Buffer[] = [];
    for await (const piece of stream) pieces.push(piece as Buffer);
    if (trailers['grpc-status'] !== '0') throw new Error(decodeURIComponent(String(trailers['grpc-message'])));
    // PullImageResponse: 1 image_ref, which is short.
    return Buffer.concat(pieces)
      .subarray(5 + 2)
      .toString();
  } finally {
    session.destroy();
  }
}

function text(number: number, value: string): Buffer {
  return field(number, Buffer.from(value));
}

/** A field with a length (Protocol Buffers, wire type 2). */
function field(number: number, value: Buffer): Buffer {
  const length: number[] = [];
  let left = value.length;
  for (; left > 127; left >>= 7) length.push((left & 0x7f) | 0x80);
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length, left]), value]);
}
