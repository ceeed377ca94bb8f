import { z } from 'zod';
import { type ConfigPath, type SchemaNode, type SchemaProblem, schemaNode } from './schema-node.ts';
import { ValueError, type ValueKind } from './value-kinds.ts';

/** A scalar of a kind as a part of a schema. */
export function value<T>(kind: ValueKind<T>) {
  return z
    .unknown()
    .transform((found, context) => {
      try {
        return kind.parse(found);
      } catch (error) {
        if (!(error instanceof ValueError)) throw error;
        context.addIssue({ code: 'custom', message: found === undefined ? 'is missing' : error.message });
        return z.NEVER;
      }
    })
    .meta(kind.jsonSchema);
}

/** Checks data against a schema. @param root what the schema looks like, for the keys it knows */
export function parseWith<Schema extends z.ZodType>(
  schema: Schema,
  data: unknown,
  root: () => SchemaNode,
): { value: z.output<Schema> } | { problems: readonly SchemaProblem[] } {
  const result = schema.safeParse(data);
  if (result.success) return { value: result.data };
  return { problems: result.error.issues.flatMap((issue) => translateIssue(issue, root)) };
}

/** The form of a schema, for editors and for messages. */
export function schemaOf(schema: z.ZodType): SchemaNode & Readonly<Record<string, unknown>> {
  return z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
    override({ zodSchema, jsonSchema: node }) {
      // A section without anything under it is `null` in YAML.
      if (zodSchema._zod.def.type === 'object') node.type = ['object', 'null'] as never;
    },
  }) as never;
}

function translateIssue(issue: z.core.$ZodIssue, root: () => SchemaNode): SchemaProblem[] {
  const place = issue.path as ConfigPath;
  if (issue.code === 'unrecognized_keys') {
    const known = Object.keys(schemaNode(root(), place)?.properties ?? {});
    return issue.keys.map((key) => ({ kind: 'unknown key', path: [...place, key], key, known }));
  }
  if (issue.code === 'invalid_type') {
    return [{ kind: 'wrong type', path: place, expected: issue.expected === 'array' ? 'list' : 'mapping' }];
  }
  const message = issue.code === 'too_small' ? 'found an empty list; accepted: a list of at least one' : issue.message;
  return [{ kind: 'refused', path: place, message }];
}
