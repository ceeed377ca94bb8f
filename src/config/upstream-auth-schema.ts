import { z } from 'zod';
import { path, secret, text, ValueError, type ValueKind } from './value-kinds.ts';
import { value } from './value-schema.ts';

const file = path('file');

/** The `NAME` of a program `docker-credential-NAME`. */
const helperName: ValueKind<string> = {
  jsonSchema: { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]*$' },
  parse(found) {
    if (typeof found === 'string' && /^[a-z0-9][a-z0-9._-]{0,99}$/i.test(found)) return found;
    throw new ValueError(
      'accepted: the name of a credential helper without "docker-credential-", such as ecr-login; it is looked up in PATH',
    );
  },
};

/** One credential of an upstream. */
export const authSchema = z.strictObject({
  username: value(text('a user name')).optional().describe('User name; requires one of the three passwords.'),
  password: value(secret).optional().describe('The password or access token itself.'),
  passwordFile: value(file).optional().describe('A file with the password; a trailing line end is ignored.'),
  passwordEnv: value(text('the name of an environment variable'))
    .optional()
    .describe('The environment variable with the password.'),
  dockerConfig: value(file)
    .optional()
    .describe(
      "A Docker `config.json` with this upstream's credentials, or with the credential helper that has them; excludes the other keys.",
    ),
  helper: value(helperName)
    .optional()
    .describe(
      'A Docker credential helper: `ecr-login` runs `docker-credential-ecr-login`, found in `PATH`; excludes the other keys.',
    ),
});

/** One credential as written. */
export type ParsedAuth = z.output<typeof authSchema>;
