/** The event loop stalls where it is held for longer than this, in milliseconds. */
export const stallMs = 200;

/** What the thread that watches the main one is given. */
export interface StallWatch {
  /** One number, which the main thread counts up. */
  readonly beats: Int32Array<SharedArrayBuffer>;
  /** What the URLs of Millpond's own files begin with. */
  readonly root: string;
}
