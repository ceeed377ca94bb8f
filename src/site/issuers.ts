import { jsonFetcher } from '../access/fetch-json.ts';
import { Issuer } from '../access/issuer.ts';
import type { Config } from '../config/config.ts';
import { named } from './configured-files.ts';
import type { FileTexts, FileUse } from './watched-files.ts';

type Auth = NonNullable<Config['auth']>;
type IssuerConfig = Auth['issuers'][number];

/** The issuers of the configuration in effect, with what their files hold now. */
export class LiveIssuers {
  readonly #auth: () => Config['auth'];
  readonly #now: () => number;
  readonly #onChange: () => void;
  readonly #texts = new Map<string, FileTexts>();
  #live: { readonly from: Config['auth']; readonly issuers: ReadonlyMap<string, Issuer> } | undefined;

  /** @param options.onChange called in the turn in which the files of an issuer are taken */
  constructor(options: {
    readonly auth: () => Config['auth'];
    readonly onChange: () => void;
    readonly now: () => number;
  }) {
    this.#auth = options.auth;
    this.#onChange = options.onChange;
    this.#now = options.now;
  }

  /** By `iss`. One whose files have not been read yet is left out. */
  get all(): ReadonlyMap<string, Issuer> {
    const auth = this.#auth();
    if (this.#live?.from !== auth) {
      const issuers = (auth?.issuers ?? []).flatMap((one) => {
        const issuer = this.#make(one);
        return issuer ? [[one.issuer, issuer] as const] : [];
      });
      this.#live = { from: auth, issuers: new Map(issuers) };
    }
    return this.#live!.issuers;
  }

  /** The files of the issuers of a configuration, to be watched. */
  files(auth: Auth): FileUse[] {
    return auth.issuers.flatMap((one, index) => {
      const files = filesOf(one, index);
      if (Object.keys(files).length === 0) return [];
      const take = (texts: FileTexts): void => {
        for (const [key, text] of Object.entries(texts)) if (key.endsWith('jwksFile')) requireKeys(text, key);
        this.#texts.set(one.issuer, byName(texts));
        this.#live = undefined;
        this.#onChange();
      };
      return [{ name: `keys of ${one.issuer}`, files, code: 'file-refused', take } as const];
    });
  }

  #make(config: IssuerConfig): Issuer | undefined {
    const { issuer, audience, jwks, tokenReview, userClaim, groupsClaim } = config;
    const texts = this.#texts.get(issuer) ?? {};
    if (Object.keys(filesOf(config, 0)).length !== Object.keys(texts).length) return undefined;
    const { prefix = `${URL.parse(issuer)?.host ?? issuer}:` } = config;
    const { jwksFile: keys, caFile: ca, tokenFile: token } = texts;
    const fetch = jsonFetcher({ ca, ...(token !== undefined && { token: () => token.trim() }) });
    const settings = { issuer, audience, jwks, keys, tokenReview, prefix, userClaim, groupsClaim };
    return new Issuer(settings, { fetch, now: this.#now });
  }
}

function filesOf({ jwksFile, caFile, tokenFile }: IssuerConfig, index: number): FileTexts {
  return named(['auth', 'issuers', String(index)], { jwksFile, caFile, tokenFile });
}

/** Texts by the last part of their key. */
function byName(texts: FileTexts): FileTexts {
  return Object.fromEntries(Object.entries(texts).map(([key, text]) => [key.slice(key.lastIndexOf('.') + 1), text]));
}

function requireKeys(text: string, key: string): void {
  try {
    const { keys } = JSON.parse(text) as { keys?: unknown };
    if (Array.isArray(keys)) return;
  } catch {
    // Told below.
  }
  throw new Error(`${key}: the file is no JSON Web Key Set`);
}
