/** How an endpoint is known to behave; each value stays the default until the endpoint contradicts it. */
export interface Traits {
  /** `trusted`: HEAD of a manifest saves a GET. `unreliable`: it has denied what a GET then gave, and is not sent. */
  readonly manifestHead: 'trusted' | 'unreliable';
  /** The same for blobs. */
  readonly blobHead: 'trusted' | 'unreliable';
  /** `wrong`: a HEAD announced another length than the body had; lengths are taken from bodies only. */
  readonly headLength: 'trusted' | 'wrong';
  /** The scope that tokens are asked for: that of the path, or the one that challenges name. */
  readonly tokenScope: 'own' | 'challenge';
  /** Where it demands credentials: where they are needed, or at `/v2/` alone. */
  readonly challenge: 'in place' | 'at /v2/';
}

const defaults: Traits = {
  manifestHead: 'trusted',
  blobHead: 'trusted',
  headLength: 'trusted',
  tokenScope: 'own',
  challenge: 'in place',
};

/** The traits of one endpoint, learned since the start or configured. */
export class Profile {
  readonly #fixed: Partial<Traits>;
  readonly #learned: { -readonly [Trait in keyof Traits]?: Traits[Trait] } = {};

  /** @param fixed what the configuration says: nothing else is learned of these */
  constructor(fixed: Partial<Traits> = {}) {
    this.#fixed = fixed;
  }

  get<Trait extends keyof Traits>(trait: Trait): Traits[Trait] {
    return this.#fixed[trait] ?? this.#learned[trait] ?? defaults[trait];
  }

  /** The endpoint has shown that it behaves like this. */
  learn<Trait extends keyof Traits>(trait: Trait, value: Traits[Trait]): void {
    this.#learned[trait] = value;
  }

  /** The traits that differ from the defaults, each learned or configured. */
  describe(): Readonly<Record<string, { readonly value: string; readonly from: 'learned' | 'configured' }>> {
    const found: Record<string, { value: string; from: 'learned' | 'configured' }> = {};
    for (const trait of Object.keys(defaults) as (keyof Traits)[]) {
      const value = this.get(trait);
      if (this.#fixed[trait] !== undefined) found[trait] = { value, from: 'configured' };
      else if (value !== defaults[trait]) found[trait] = { value, from: 'learned' };
    }
    return found;
  }
}
