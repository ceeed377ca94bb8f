import { z } from 'zod';
import { oneOf, path, secret, text, ValueError, type ValueKind } from './value-kinds.ts';
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
  username: value(text('a user name'))
    .optional()
    .describe(
      'User name; requires one of the three passwords. With provider `ecr`: an access key ID, with the secret access key as password.',
    ),
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
  provider: value(oneOf(['ecr', 'ecr-public', 'google', 'acr', 'github', 'gitlab']))
    .optional()
    .describe(
      'The cloud that gives short-lived credentials, by the role or identity of this machine or pod: Amazon ECR, Google Artifact Registry, Azure Container Registry. With `github` and `gitlab`, the password is a token, and the user name need not be written.',
    ),
  region: value(text('a region such as eu-west-1'))
    .optional()
    .describe("Region of Amazon ECR. Default: the one in the registry's name, or `AWS_REGION`."),
  credentialsFile: value(file)
    .optional()
    .describe(
      "Google credentials: a service account's key, or workload identity federation. Default: `GOOGLE_APPLICATION_CREDENTIALS`, or the metadata service.",
    ),
  clientId: value(text('a client ID'))
    .optional()
    .describe('Client ID of the identity for Azure. Default: `AZURE_CLIENT_ID`, or the only identity of the machine.'),
  tenantId: value(text('a tenant ID')).optional().describe('Tenant of that identity. Default: `AZURE_TENANT_ID`.'),
  kubeletProvider: value(file)
    .optional()
    .describe(
      'A credential provider plugin of the kubelet (API `credentialprovider.kubelet.k8s.io/v1`); excludes the other keys.',
    ),
  kubeletArgs: z
    .array(value(text('an argument')))
    .min(1)
    .optional()
    .describe('Arguments of that program.'),
});

/** One credential as written. */
export type ParsedAuth = z.output<typeof authSchema>;
