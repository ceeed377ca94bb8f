import { join } from 'node:path';
import { type Digest, isDigest } from '../oci/digest.ts';
import { byBytes, namesIn, putFile, readText, removeFile } from './durable-files.ts';
import type { HostedLayout } from './layout.ts';

/** The record of a tag. */
export interface HostedTag {
  readonly digest: Digest;
  /** When it was last moved there, in milliseconds since 1970. */
  readonly movedAtMs: number;
}

/** The record of a manifest, beside its bytes. */
export interface HostedManifest {
  readonly contentType: string;
  /** Bytes. */
  readonly size: number;
  readonly pushedAtMs: number;
  readonly subject: Digest | undefined;
}

/** A manifest that names a subject, as the referrers API lists it (distribution-spec, "Listing Referrers"). */
export interface HostedReferrer {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly artifactType?: string | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

/**
 * The content of hosted repositories, beside the bytes: a small file for each tag, manifest and referrer. Each change is one
 * rename or one removal, durable when it has resolved; nothing is cached, so two looks never differ.
 */
export class HostedRepositories {
  readonly #layout: HostedLayout;

  constructor(layout: HostedLayout) {
    this.#layout = layout;
  }

  /** The repositories that have a manifest or a tag, in byte order. @param after only those behind this name */
  async *all(after = ''): AsyncGenerator<string> {
    for await (const repository of this.#below('', { folders: ['_manifests', '_tags'], after })) {
      const has = (await this.tags(repository)).length > 0 || (await this.manifests(repository)).length > 0;
      if (has) yield repository;
    }
  }

  /** The repositories that have had a blob, in byte order. */
  withBlobs(): AsyncGenerator<string> {
    return this.#below('', { folders: ['_blobs'], after: '' });
  }

  async tag(repository: string, tag: string): Promise<HostedTag | undefined> {
    return await readJson<HostedTag>(this.#layout.tag(repository, tag));
  }

  /** In byte order (distribution-spec, "Listing Tags": lexical). */
  async tags(repository: string): Promise<string[]> {
    return await namesIn(this.#layout.tags(repository));
  }

  async putTag(repository: string, tag: string, record: HostedTag): Promise<void> {
    await putFile(this.#layout.tag(repository, tag), JSON.stringify(record));
  }

  /** @returns whether it was there */
  async removeTag(repository: string, tag: string): Promise<boolean> {
    return await removeFile(this.#layout.tag(repository, tag));
  }

  async manifest(repository: string, digest: Digest): Promise<HostedManifest | undefined> {
    return await readJson<HostedManifest>(this.#layout.manifest(repository, digest));
  }

  async manifests(repository: string): Promise<Digest[]> {
    return await digestsIn(this.#layout.manifests(repository));
  }

  async putManifest(repository: string, digest: Digest, record: HostedManifest): Promise<void> {
    await putFile(this.#layout.manifest(repository, digest), JSON.stringify(record));
  }

  /** @returns whether it was there */
  async removeManifest(repository: string, digest: Digest): Promise<boolean> {
    return await removeFile(this.#layout.manifest(repository, digest));
  }

  /** The blobs that the repository links, manifests among them. */
  async blobs(repository: string): Promise<Digest[]> {
    return await digestsIn(this.#layout.blobs(repository));
  }

  async referrers(repository: string, subject: Digest): Promise<HostedReferrer[]> {
    const folder = this.#layout.referrers(repository, subject);
    const found: HostedReferrer[] = [];
    for (const name of await namesIn(folder)) {
      const referrer = await readJson<HostedReferrer>(join(folder, name));
      if (referrer !== undefined) found.push(referrer);
    }
    return found;
  }

  async putReferrer(repository: string, subject: Digest, referrer: HostedReferrer): Promise<void> {
    await putFile(this.#layout.referrer(repository, subject, referrer.digest), JSON.stringify(referrer));
  }

  async removeReferrer(repository: string, subject: Digest, manifest: Digest): Promise<void> {
    await removeFile(this.#layout.referrer(repository, subject, manifest));
  }

  /** The repositories below a prefix, '' or one that ends with a slash, that have one of the folders; in byte order. */
  async *#below(prefix: string, wanted: { folders: readonly string[]; after: string }): AsyncGenerator<string> {
    const names = await namesIn(join(this.#layout.repositories, ...prefix.split('/').slice(0, -1)));
    const places = names.filter((name) => !name.startsWith('_')).flatMap((name) => [name, `${name}/`]);
    // A name comes before "-", "." and digits behind it, and these before what is below it: "a", "a-b", "a/b".
    for (const place of places.toSorted(byBytes)) {
      const path = `${prefix}${place}`;
      if (path <= wanted.after && !wanted.after.startsWith(path)) continue;
      if (place.endsWith('/')) yield* this.#below(path, wanted);
      else if (path > wanted.after && (await this.#hasOneOf(path, wanted.folders))) yield path;
    }
  }

  async #hasOneOf(repository: string, folders: readonly string[]): Promise<boolean> {
    const names = await namesIn(join(this.#layout.repositories, ...repository.split('/')));
    return folders.some((folder) => names.includes(folder));
  }
}

async function readJson<Value>(path: string): Promise<Value | undefined> {
  const text = await readText(path);
  return text === undefined ? undefined : (JSON.parse(text) as Value);
}

async function digestsIn(folder: string): Promise<Digest[]> {
  const found: Digest[] = [];
  for (const algorithm of ['sha256', 'sha512']) {
    for (const hex of await namesIn(join(folder, algorithm))) {
      const digest = `${algorithm}:${hex}`;
      if (isDigest(digest)) found.push(digest);
    }
  }
  return found;
}
