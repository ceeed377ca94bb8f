import type { YamlDocument } from './document.ts';
import type { ConfigPath } from './schema-node.ts';

/** Where a value came from. */
export type Origin =
  | { readonly kind: 'default' }
  | { readonly kind: 'file'; readonly file: string; readonly line: number }
  | { readonly kind: 'environment'; readonly variable: string }
  | { readonly kind: 'flag'; readonly flag: string };

/** One value from a flag or the environment that goes over the file's. */
export interface Override {
  readonly path: ConfigPath;
  readonly value: string;
  readonly origin: Origin;
}

/** Remembers where each value of a configuration came from. */
export class Origins {
  readonly #file: string | undefined;
  readonly #document: YamlDocument | undefined;
  readonly #overrides: readonly Override[];

  /** `file` is the name as the user gave it; `overrides` has at most one entry for each path. */
  constructor(options: {
    readonly file: string | undefined;
    readonly document: YamlDocument | undefined;
    readonly overrides: readonly Override[];
  }) {
    this.#file = options.file;
    this.#document = options.document;
    this.#overrides = options.overrides;
  }

  /** Where the value at exactly this path came from. */
  of(path: ConfigPath): Origin {
    const override = this.#overrides.find((candidate) => samePath(candidate.path, path));
    if (override !== undefined) return override.origin;
    const line = this.#document?.lineOf(path);
    return line === undefined ? { kind: 'default' } : { kind: 'file', file: this.#file!, line };
  }

  /** As {@link of}, or of the nearest thing around it, for what is missing or was refused. */
  nearest(path: ConfigPath): Origin {
    for (let length = path.length; length > 0; length--) {
      const origin = this.of(path.slice(0, length));
      if (origin.kind !== 'default') return origin;
    }
    return this.#file === undefined ? { kind: 'default' } : { kind: 'file', file: this.#file, line: 1 };
  }
}

/** How an origin is shown: `default`, `millpond.yaml:12`, `env MILLPOND_LISTEN`, `flag --listen`. */
export function formatOrigin(origin: Origin): string {
  switch (origin.kind) {
    case 'default':
      return 'default';
    case 'file':
      return `${origin.file}:${origin.line}`;
    case 'environment':
      return `env ${origin.variable}`;
    case 'flag':
      return `flag ${origin.flag}`;
    default:
      return origin satisfies never;
  }
}

function samePath(one: ConfigPath, other: ConfigPath): boolean {
  return one.length === other.length && one.every((step, index) => step === other[index]);
}
