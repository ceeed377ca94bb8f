import { appendFile, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Once the file has this many lines more than there is to say, it is written again. */
const spareLines = 1_000;

/**
 * The digests that this replica may not give, as the owner of the hosted repositories said last: deleted ones, and those held
 * for a scanner. It counts while the owner cannot be asked. A kill of this replica loses nothing of it.
 */
export class OwnerWord {
  readonly #path: string;
  readonly #onFault: (error: unknown) => void;
  readonly #refused = new Set<string>();
  #lines = 0;
  #reading: Promise<void> | undefined;
  #writing: Promise<void> = Promise.resolve();

  /**
   * @param path of a file of its own; it is read with the first question
   * @param options `onFault`: called where the disk does not take it, or does not give it back: memory has it until the end
   */
  constructor(path: string, { onFault }: { readonly onFault: (error: unknown) => void }) {
    this.#path = path;
    this.#onFault = onFault;
  }

  /** Whether a tag or digest of a repository may not be given. */
  async isRefused(repository: string, reference: string): Promise<boolean> {
    await this.#read();
    return this.#refused.has(keyOf(repository, reference));
  }

  /** The tags and digests of a repository that may not be given. */
  async refusedOf(repository: string): Promise<ReadonlySet<string>> {
    await this.#read();
    const before = keyOf(repository, '');
    return new Set([...this.#refused].filter((key) => key.startsWith(before)).map((key) => key.slice(before.length)));
  }

  /** The owner does not give a tag or digest. */
  async refuse(repository: string, reference: string): Promise<void> {
    await this.#read();
    const key = keyOf(repository, reference);
    if (this.#refused.has(key)) return;
    this.#refused.add(key);
    await this.#write(`+${key}\n`);
  }

  /** The owner gives a tag or digest. */
  async allow(repository: string, reference: string): Promise<void> {
    await this.#read();
    const key = keyOf(repository, reference);
    if (this.#refused.delete(key)) await this.#write(`-${key}\n`);
  }

  async #read(): Promise<void> {
    this.#reading ??= this.#readAll().catch(this.#onFault);
    await this.#reading;
  }

  async #readAll(): Promise<void> {
    let text: string;
    try {
      text = await readFile(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      text = '';
    }
    // The last line is whole, or was never answered.
    for (const line of text.split('\n').slice(0, -1)) {
      this.#lines += 1;
      if (line.startsWith('+')) this.#refused.add(line.slice(1));
      else this.#refused.delete(line.slice(1));
    }
    if (text !== '' && !text.endsWith('\n')) await this.#write('\n');
  }

  async #write(line: string): Promise<void> {
    const work = this.#writing.then(async () => {
      this.#lines += 1;
      if (this.#lines <= this.#refused.size + spareLines) return await this.#append(line);
      const temporary = `${this.#path}.new`;
      await writeFile(temporary, [...this.#refused].map((key) => `+${key}\n`).join(''), { mode: 0o600 });
      await rename(temporary, this.#path);
      this.#lines = this.#refused.size;
    });
    this.#writing = work.catch(this.#onFault);
    await this.#writing;
  }

  async #append(line: string): Promise<void> {
    await mkdir(dirname(this.#path), { recursive: true });
    await appendFile(this.#path, line, { mode: 0o600 });
  }
}

/** Neither a name of a repository nor a reference has a space. */
function keyOf(repository: string, reference: string): string {
  return `${repository} ${reference}`;
}
