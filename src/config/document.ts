import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseAllDocuments,
  parseDocument,
  type Scalar,
  visit,
  type YAMLMap,
} from 'yaml';
import type { ConfigPath } from './schema-node.ts';

/** Something in the text that is not YAML as Millpond takes it. */
export interface SyntaxProblem {
  readonly line: number;
  readonly message: string;
}

/** A YAML text with the line of everything in it. */
export interface YamlDocument {
  /** The document as plain data; `undefined` where the text is empty or has problems. */
  readonly data: unknown;
  readonly problems: readonly SyntaxProblem[];
  /** The line (from 1) of a key or list entry; `undefined` where the text has no such thing. */
  lineOf(path: ConfigPath): number | undefined;
}

// Sentences of our own: those of the library may quote the text around the mistake, which may hold a password.
const syntaxMessages: Readonly<Record<string, string>> = {
  BAD_ALIAS: 'an alias (*name) that no anchor (&name) defines, or that expands without bounds',
  BAD_INDENT: 'wrong indentation, or a bracket that is not closed',
  BLOCK_AS_IMPLICIT_KEY: 'a mapping begins inside a line; put it on a line of its own, or a text with ": " into quotes',
  BLOCK_IN_FLOW: 'a block inside [ ] or { }',
  DUPLICATE_KEY: 'this key is written twice',
  MISSING_CHAR: 'a character is missing: a closing quote, bracket, comma, or a space after a colon',
  MULTIPLE_DOCS: 'a second document begins; a configuration is one document',
  TAB_AS_INDENT: 'a tab in the indentation; YAML takes spaces only',
  TAG_RESOLVE_FAILED: 'an unknown tag (!name)',
};

// Merge keys (`<<: *name`) are not of YAML 1.2, and yet what people share settings with.
const asWeRead = { merge: true, prettyErrors: false } as const;

/** Reads YAML 1.2. Problems of the text are in the result; nothing is thrown. */
export function readYaml(text: string): YamlDocument {
  const lineCounter = new LineCounter();
  // The library compares each key with all of its mapping: that takes seconds for thousands of upstreams.
  const document = parseDocument(withoutMark(text), { ...asWeRead, lineCounter, uniqueKeys: false });
  const problems = [...document.errors, ...document.warnings].map((error) => ({
    line: lineCounter.linePos(error.pos[0]).line,
    message: syntaxMessages[error.code] ?? 'not valid YAML',
  }));
  for (const key of repeatedKeys(document)) {
    problems.push({ line: lineCounter.linePos(startOf(key) ?? 0).line, message: syntaxMessages['DUPLICATE_KEY']! });
  }
  return {
    data: problems.length > 0 ? undefined : plainData(document, problems, lineCounter),
    problems,
    lineOf(path) {
      const offset = offsetOf(document.contents, path);
      return offset === undefined ? undefined : lineCounter.linePos(offset).line;
    },
  };

  function offsetOf(root: Node | null, path: ConfigPath): number | undefined {
    let node: unknown = root;
    let offset: number | undefined;
    for (const step of path) {
      if (isAlias(node)) node = node.resolve(document);
      if (isSeq(node) && typeof step === 'number') {
        node = node.items[step];
        offset = startOf(node);
      } else if (isMap(node)) {
        const pair = pairOf(node, String(step), document);
        node = pair?.value;
        offset = startOf(pair?.key);
      } else {
        return undefined;
      }
      if (offset === undefined) return undefined;
    }
    return offset;
  }
}

/**
 * Reads any number of YAML documents of others, as plain data: what only a strict reader would refuse (keys written
 * twice, unknown tags) is let pass.
 * @param options.textKeys keys under which a number or flag is the text that stands there: `1.10` is not 1.1
 */
export function readYamlStream(
  text: string,
  { textKeys }: { readonly textKeys: ReadonlySet<string> },
): { documents: readonly unknown[]; problems: readonly SyntaxProblem[] } {
  const lineCounter = new LineCounter();
  const parsed = parseAllDocuments(withoutMark(text), { ...asWeRead, lineCounter, uniqueKeys: false });
  const problems: SyntaxProblem[] = [];
  const documents = Array.isArray(parsed)
    ? parsed.map((document) => {
        for (const { code, pos } of document.errors) {
          const { line } = lineCounter.linePos(pos[0]);
          problems.push({
            line,
            message: syntaxMessages[code] ?? 'not valid YAML; a template has to be rendered first',
          });
        }
        if (document.errors.length > 0) return undefined;
        keepTexts(document, textKeys);
        return plainData(document, problems, lineCounter);
      })
    : [];
  return { documents, problems };
}

function keepTexts(document: Document, keys: ReadonlySet<string>): void {
  visit(document, {
    Pair(_, { key, value }) {
      if (!keys.has(keyText(key) ?? '')) return;
      const scalar = isAlias(value) ? value.resolve(document) : value;
      if (isScalar(scalar) && scalar.value !== null) scalar.value = scalar.source ?? scalar.value;
    },
  });
}

/** The problem is added where the aliases cannot be followed or merged, which the library says only now. */
function plainData(document: Document, problems: SyntaxProblem[], lineCounter: LineCounter): unknown {
  try {
    return document.toJS() ?? undefined;
  } catch {
    let line = 1;
    let message = syntaxMessages.BAD_ALIAS!;
    visit(document, {
      Alias(_, alias) {
        if (alias.resolve(document) !== undefined) return undefined;
        line = lineCounter.linePos(startOf(alias) ?? 0).line;
        return visit.BREAK;
      },
      Pair(_, { key, value }) {
        if (!isMergeKey(key) || mergedInto(value, document).every((one) => one === undefined || isMap(one)))
          return undefined;
        line = lineCounter.linePos(startOf(key) ?? 0).line;
        message = 'a merge (<<) of something else than mappings';
        return visit.BREAK;
      },
    });
    problems.push({ line, message });
    return undefined;
  }
}

/** Keys that their mapping has had before. */
function repeatedKeys(document: Document): Scalar[] {
  const repeated: Scalar[] = [];
  visit(document, {
    Map(_, { items }) {
      const seen = new Set<unknown>();
      for (const { key } of items) {
        if (!isScalar(key)) continue;
        if (seen.has(key.value)) repeated.push(key);
        seen.add(key.value);
      }
    },
  });
  return repeated;
}

/** The value of a mapping under a key, its own or a merged one. */
function pairOf(map: YAMLMap, key: string, document: Document): Pair | undefined {
  // Names of upstreams are looked for in lower case, however they are written.
  const own =
    map.items.find((item) => keyText(item.key) === key) ??
    map.items.find((item) => keyText(item.key)?.toLowerCase() === key);
  if (own) return own;
  for (const { key: merge, value } of map.items) {
    if (!isMergeKey(merge)) continue;
    for (const merged of mergedInto(value, document)) {
      const pair = isMap(merged) ? pairOf(merged, key, document) : undefined;
      if (pair) return pair;
    }
  }
  return undefined;
}

/** The mappings that a merge key names: one, or a list. */
function mergedInto(value: unknown, document: Document): unknown[] {
  const resolved = (node: unknown): unknown => (isAlias(node) ? node.resolve(document) : node);
  const merged = resolved(value);
  return isSeq(merged) ? merged.items.map(resolved) : [merged];
}

/** Editors of Windows put a mark in front, which is no part of the text. */
function withoutMark(text: string): string {
  return text.startsWith('\uFEFF') ? text.slice(1) : text;
}

function startOf(node: unknown): number | undefined {
  return (node as Node | undefined)?.range?.[0];
}

/** The library marks keys that merge. */
function isMergeKey(key: unknown): boolean {
  return isScalar(key) && typeof key.value === 'symbol';
}

function keyText(key: unknown): string | undefined {
  return isScalar(key) ? String(key.value) : undefined;
}
