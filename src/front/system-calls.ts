import { createRequire } from 'node:module';
import process from 'node:process';

/** The system calls that Node has no function for. All do what they can at once and never wait. */
export interface SystemCalls {
  /**
   * sendfile(2) to a socket that does not block.
   * @returns bytes taken; 0 where the file has ended; `undefined` where nothing was taken: an ordinary write finds out why
   */
  sendFile(
    socketFd: number,
    file: { readonly fd: number; readonly position: number; readonly length: number },
  ): number | undefined;
  /** Whether a byte of a file can be had from memory, by preadv2(2) with RWF_NOWAIT; `true` where the system cannot tell. */
  isInMemory(fd: number, position: number): boolean;
  /** dup(2): another descriptor of the same socket. @throws Error where there is none left */
  duplicate(fd: number): number;
}

const notSupported = 95;
const noSuchCall = 38;
const badArgument = 22;
const readWithoutWaiting = 8;
/** F_DUPFD_CLOEXEC: what is started from here does not hold connections open. */
const duplicateCloseOnExec = 1030;

/** `undefined` on platforms other than 64-bit Linux with glibc, and where Node has no `node:ffi`. */
export function systemCalls(): SystemCalls | undefined {
  if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) return undefined;
  try {
    return bind(createRequire(import.meta.url)('node:ffi') as Ffi);
  } catch {
    // Another C library, or a Node without it: bodies are read and written instead.
    return undefined;
  }
}

/** The part of `node:ffi` that is used; its types are not in @types/node yet. */
interface Ffi {
  dlopen(
    path: string,
    definitions: Record<string, { readonly arguments: readonly string[]; readonly return: string }>,
  ): { readonly functions: Record<string, (...args: readonly unknown[]) => unknown> };
  getRawPointer(buffer: ArrayBufferView | ArrayBuffer): bigint;
  getInt32(pointer: bigint, offset: number): number;
}

function bind(ffi: Ffi): SystemCalls {
  const { functions } = ffi.dlopen('libc.so.6', {
    sendfile: { arguments: ['int32', 'int32', 'pointer', 'uint64'], return: 'int64' },
    preadv2: { arguments: ['int32', 'pointer', 'int32', 'int64', 'int32'], return: 'int64' },
    __errno_location: { arguments: [], return: 'pointer' },
    fcntl: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
  });
  const sendfile = functions['sendfile'] as (out: number, from: number, offset: bigint, count: bigint) => bigint;
  const preadv2 = functions['preadv2'] as (fd: number, io: bigint, n: number, at: bigint, flags: number) => bigint;
  const fcntl = functions['fcntl'] as (fd: number, command: number, argument: number) => number;
  const errnoLocation = functions['__errno_location'] as () => bigint;
  const offset = new BigInt64Array(1);
  const offsetAt = ffi.getRawPointer(offset);
  const oneByte = new Uint8Array(1);
  // struct iovec { void *base; size_t length; }
  const oneByteVector = new BigUint64Array([ffi.getRawPointer(oneByte), 1n]);
  const vectorAt = ffi.getRawPointer(oneByteVector);
  return {
    sendFile(socketFd, { fd, position, length }) {
      offset[0] = BigInt(position);
      const sent = Number(sendfile(socketFd, fd, offsetAt, BigInt(length)));
      return sent < 0 ? undefined : sent;
    },
    duplicate(fd) {
      const other = fcntl(fd, duplicateCloseOnExec, 0);
      if (other < 0) throw new Error('no descriptor is left');
      return other;
    },
    isInMemory(fd, position) {
      // Named, so that the memory outlives the call.
      if (oneByteVector.length === 0 || oneByte.length === 0) return false;
      const read = Number(preadv2(fd, vectorAt, 1, BigInt(position), readWithoutWaiting));
      if (read >= 0) return true;
      const errno = ffi.getInt32(errnoLocation(), 0);
      return errno === notSupported || errno === noSuchCall || errno === badArgument;
    },
  };
}
