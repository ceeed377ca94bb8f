/** The values of a claim as texts; a dotted name leads into objects. None where it is absent. */
export function claimTexts(claims: Readonly<Record<string, unknown>>, name: string): string[] {
  const value = valueOf(claims, name);
  const values: unknown[] = Array.isArray(value) ? value : [value];
  return values.flatMap((one) =>
    typeof one === 'string' || typeof one === 'number' || typeof one === 'boolean' ? [String(one)] : [],
  );
}

/** Names of claims may have dots themselves (`kubernetes.io`): the longest that is there goes first. */
function valueOf(held: unknown, name: string): unknown {
  if (typeof held !== 'object' || held === null) return undefined;
  if (Object.hasOwn(held, name)) return (held as Record<string, unknown>)[name];
  for (let dot = name.lastIndexOf('.'); dot > 0; dot = name.lastIndexOf('.', dot - 1)) {
    const key = name.slice(0, dot);
    if (Object.hasOwn(held, key)) return valueOf((held as Record<string, unknown>)[key], name.slice(dot + 1));
  }
  return undefined;
}
