/** The event loop stalls where it is held for longer than this, in milliseconds. */
export const stallMs = 200;

/** The data with which the watching thread starts. */
export interface StallWatch {
  /** One number, which the main thread counts up. */
  readonly beats: Int32Array<SharedArrayBuffer>;
  /** The prefix of the URLs of Millpond's own files. */
  readonly root: string;
}
