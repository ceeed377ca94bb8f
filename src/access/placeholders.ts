import { isRepository } from '../oci/reference.ts';
import type { Caller } from './caller.ts';
import { claimTexts } from './claims.ts';

/** Most values of one claim that a pattern is tried with. */
const maxValues = 100;

/**
 * A pattern of repositories for one caller: `{user}` and `{claim.NAME}` stand for what is known of it; a claim with several
 * values gives several patterns.
 * @returns none where there is no such claim, or where a value is no repository name and could mean something else
 */
export function expanded(pattern: string, caller: Caller): readonly string[] {
  const [, before = '', name = '', after = ''] = /^([^{}]*)\{([^{}]+)\}(.*)$/s.exec(pattern) ?? [];
  if (name === '') return [pattern];
  return valuesOf(name, caller)
    .filter((value) => isRepository(value))
    .slice(0, maxValues)
    .flatMap((value) => expanded(after, caller).map((rest) => `${before}${value}${rest}`));
}

function valuesOf(name: string, caller: Caller): readonly string[] {
  if (name === 'user') return caller.kind === 'anonymous' ? [] : [caller.name];
  if (name === 'group') return caller.groups;
  return name.startsWith('claim.') ? claimTexts(caller.claims, name.slice('claim.'.length)) : [];
}
