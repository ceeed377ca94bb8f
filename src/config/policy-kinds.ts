import { isIP } from 'node:net';
import { describeFound, ValueError, type ValueKind } from './value-kinds.ts';

/** A pattern over names of callers: `*` stands for any characters. */
export const nameGlob: ValueKind<string> = {
  jsonSchema: { type: 'string', minLength: 1 },
  parse: (found) => matching(found, /^.{1,500}$/s, 'a name, or a pattern of names such as ci-*'),
};

/** `name=pattern` over a claim of a token. */
export const claimCondition: ValueKind<string> = {
  jsonSchema: { type: 'string', pattern: '^[^=\\s]+=' },
  parse: (found) => matching(found, /^[^=\s]{1,200}=.{1,500}$/s, 'a claim and a pattern, such as ref=refs/heads/*'),
};

/** A pattern over full names of repositories, in which `{user}`, `{group}` and `{claim.NAME}` stand for the caller's. */
export const policyPattern: ValueKind<string> = {
  jsonSchema: { type: 'string', minLength: 1 },
  parse(found) {
    const accepted = 'a pattern of full repository names, such as docker.io/** or team/{claim.group}/**';
    const pattern = matching(found, /^[a-z0-9._*{}:[\]/A-Z-]{1,500}$/, accepted);
    const fixed = pattern.replaceAll(/\{(?:user|group|claim\.[^{}\s]{1,200})\}/g, 'x');
    return matching(fixed, /^[a-z0-9._*:[\]-]+(?:\/[a-z0-9._*-]+)*$/, accepted, found) && pattern;
  },
};

/** The `iss` of tokens: the URL of their issuer, and nothing that may be a secret. */
export const issuerName: ValueKind<string> = {
  jsonSchema: { type: 'string', minLength: 1 },
  parse(found) {
    const accepted = 'the `iss` of its tokens, such as https://login.example, without credentials and without a query';
    const issuer = matching(found, /^[^?#]+$/, accepted);
    const { username = '', password = '' } = URL.parse(issuer) ?? {};
    if (username + password !== '') throw new ValueError(`found ${describeFound(found)}; accepted: ${accepted}`);
    return issuer;
  },
};

/** A text, which may be empty. */
export const anyText: ValueKind<string> = {
  jsonSchema: { type: 'string' },
  parse: (found) => matching(found, /^.{0,200}$/s, 'a text'),
};

/** An address, or a range in CIDR notation. */
export const addressRange: ValueKind<string> = {
  jsonSchema: { type: 'string', minLength: 2 },
  parse(found) {
    const [, address = '', bits = '0'] = /^([0-9a-fA-F.:]+)(?:\/(\d{1,3}))?$/.exec(String(found)) ?? [];
    const family = isIP(address);
    if (family === 0 || Number(bits) > (family === 4 ? 32 : 128)) {
      throw new ValueError(`found ${describeFound(found)}; accepted: an address or a range, such as 10.0.0.0/8`);
    }
    return String(found);
  },
};

function matching(found: unknown, form: RegExp, accepted: string, shown: unknown = found): string {
  if (typeof found !== 'string' || !form.test(found)) {
    throw new ValueError(`found ${describeFound(shown)}; accepted: ${accepted}`);
  }
  return found;
}
