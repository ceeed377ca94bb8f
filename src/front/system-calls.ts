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
  /**
   * send(2) to a socket that does not block.
   * @param bytes `isPart`: more follows at once, and may leave together with them
   * @returns bytes taken; `undefined` as of {@link sendFile}
   */
  send(socketFd: number, bytes: { readonly of: Uint8Array; readonly isPart: boolean }): number | undefined;
  /**
   * Whether bytes of a file can be had from memory, as far as a few of them tell: by cachestat(2), where the system has
   * it, and preadv2(2) with RWF_NOWAIT; `true` where the system cannot tell.
   */
  isInMemory(fd: number, stretch: { readonly position: number; readonly length: number }): boolean;
  /** accept4(2): the next connection that waits; `undefined` where none does, or no descriptor is left. */
  accept(listeningFd: number): number | undefined;
  /** socketpair(2): two descriptors of streams that lead to one another. @throws Error where there are none left */
  pair(): readonly [number, number];
  /** dup(2): another descriptor of the same socket. @throws Error where there is none left */
  duplicate(fd: number): number;
  /** dup3(2): has a descriptor stand for the same socket as another one, in place of what it stood for. @throws Error */
  duplicateOnto(fd: number, onto: number): void;
}

const notSupported = 95;
const noSuchCall = 38;
const badArgument = 22;
const readWithoutWaiting = 8;
/** The distance of bytes that are tried where the system counts no pages. */
const tryBytes = 256 * 1024;
/** The number of cachestat, the same on every architecture. */
const cachestatCall = 451n;
/** MSG_DONTWAIT and MSG_NOSIGNAL; MSG_MORE. */
const atOnce = 0x40 | 0x4000;
const moreFollows = 0x8000;
const unixFamily = 1;
/** SOCK_NONBLOCK and SOCK_CLOEXEC. */
const neverWaiting = 0x800 | 0x80000;
/** SOCK_STREAM. */
const streamType = 0x1 | neverWaiting;
/** F_DUPFD_CLOEXEC: what is started from here does not hold connections open. */
const duplicateCloseOnExec = 1030;
const closeOnExec = 0x80000;

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
    send: { arguments: ['int32', 'pointer', 'uint64', 'int32'], return: 'int64' },
    fcntl: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
    dup3: { arguments: ['int32', 'int32', 'int32'], return: 'int32' },
    accept4: { arguments: ['int32', 'pointer', 'pointer', 'int32'], return: 'int32' },
    socketpair: { arguments: ['int32', 'int32', 'int32', 'pointer'], return: 'int32' },
  });
  const sendfile = functions['sendfile'] as (out: number, from: number, offset: bigint, count: bigint) => bigint;
  const send = functions['send'] as (fd: number, bytes: Uint8Array, count: bigint, flags: number) => bigint;
  const fcntl = functions['fcntl'] as (fd: number, command: number, argument: number) => number;
  const accept4 = functions['accept4'] as (fd: number, from: bigint, length: bigint, flags: number) => number;
  const socketpair = functions['socketpair'] as (family: number, type: number, protocol: number, to: bigint) => number;
  const dup3 = functions['dup3'] as (fd: number, onto: number, flags: number) => number;
  const two = new Int32Array(2);
  const twoAt = ffi.getRawPointer(two);
  const offset = new BigInt64Array(1);
  const offsetAt = ffi.getRawPointer(offset);
  return {
    sendFile(socketFd, { fd, position, length }) {
      offset[0] = BigInt(position);
      const sent = Number(sendfile(socketFd, fd, offsetAt, BigInt(length)));
      return sent < 0 ? undefined : sent;
    },
    send(socketFd, { of, isPart }) {
      const sent = Number(send(socketFd, of, BigInt(of.length), isPart ? atOnce | moreFollows : atOnce));
      return sent < 0 ? undefined : sent;
    },
    accept(listeningFd) {
      const fd = accept4(listeningFd, 0n, 0n, neverWaiting);
      return fd < 0 ? undefined : fd;
    },
    pair() {
      if (socketpair(unixFamily, streamType, 0, twoAt) !== 0) throw new Error('no descriptor is left');
      return [two[0]!, two[1]!];
    },
    duplicate(fd) {
      const other = fcntl(fd, duplicateCloseOnExec, 0);
      if (other < 0) throw new Error('no descriptor is left');
      return other;
    },
    duplicateOnto(fd, onto) {
      if (dup3(fd, onto, closeOnExec) < 0) throw new Error('the descriptor cannot be used');
    },
    isInMemory: bindIsInMemory(ffi),
  };
}

function bindIsInMemory(ffi: Ffi): SystemCalls['isInMemory'] {
  const { functions } = ffi.dlopen('libc.so.6', {
    syscall: { arguments: ['int64', 'int32', 'pointer', 'pointer', 'uint32'], return: 'int64' },
    preadv2: { arguments: ['int32', 'pointer', 'int32', 'int64', 'int32'], return: 'int64' },
    getpagesize: { arguments: [], return: 'int32' },
    __errno_location: { arguments: [], return: 'pointer' },
  });
  const syscall = functions['syscall'] as (call: bigint, fd: number, range: bigint, found: bigint, n: number) => bigint;
  const preadv2 = functions['preadv2'] as (fd: number, io: bigint, n: number, at: bigint, flags: number) => bigint;
  const errnoLocation = functions['__errno_location'] as () => bigint;
  // struct cachestat_range { u64 offset; u64 length; }, struct cachestat { u64 cached, dirty, … }
  const range = new BigUint64Array(2);
  const found = new BigUint64Array(5);
  const [rangeAt, foundAt] = [ffi.getRawPointer(range), ffi.getRawPointer(found)];
  const oneByte = new Uint8Array(1);
  // struct iovec { void *base; size_t length; }
  const oneByteVector = new BigUint64Array([ffi.getRawPointer(oneByte), 1n]);
  const vectorAt = ffi.getRawPointer(oneByteVector);
  const pageBytes = (functions['getpagesize'] as () => number)();
  let countsPages = true;
  const hasByte = (fd: number, position: number): boolean => {
    // Named, so that the memory outlives the call.
    if (oneByteVector.length === 0 || oneByte.length === 0) return false;
    if (preadv2(fd, vectorAt, 1, BigInt(position), readWithoutWaiting) >= 0n) return true;
    const errno = ffi.getInt32(errnoLocation(), 0);
    return errno === notSupported || errno === noSuchCall || errno === badArgument;
  };
  return (fd, { position, length }) => {
    if (countsPages) {
      range[0] = BigInt(position);
      range[1] = BigInt(length);
      countsPages = syscall(cachestatCall, fd, rangeAt, foundAt, 0) === 0n;
    }
    if (countsPages) {
      const pages = Math.ceil((position + length) / pageBytes) - Math.floor(position / pageBytes);
      // Pages that are still being read are counted, too: the last of them says whether they are.
      return Number(found[0]) >= pages && hasByte(fd, position + length - 1);
    }
    for (let at = position; at < position + length; at += tryBytes) if (!hasByte(fd, at)) return false;
    return hasByte(fd, position + length - 1);
  };
}
