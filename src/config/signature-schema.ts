import { z } from 'zod';
import { flag, oneOf, path, repositoryPattern, text } from './value-kinds.ts';
import { value } from './value-schema.ts';

const file = path('file');

const signerSchema = z.strictObject({
  issuer: value(text('the URL of an issuer')).describe(
    'Who vouches for the identity, exactly, such as `https://token.actions.githubusercontent.com`.',
  ),
  subject: value(text('an identity')).describe(
    'The identity in the certificate, such as an e-mail address or the URL of a workflow; `*` matches any characters.',
  ),
});

/** One entry of `upstreams.NAME.signatures`. */
export const signatureSchema = z.strictObject({
  repositories: z
    .array(value(repositoryPattern))
    .min(1)
    .prefault(['**'])
    .describe('The repositories of the upstream that the entry applies to, with the patterns of `repositories.allow`.'),
  mode: value(oneOf(['enforce', 'warn', 'off']))
    .prefault('enforce')
    .describe(
      '`enforce`: an image without a valid signature is refused. `warn`: it is served with a warning, a line in the log and a count. `off`: signatures are not looked at.',
    ),
  keys: z
    .array(value(file))
    .prefault([])
    .describe('Public keys (PEM), one a file, as `cosign generate-key-pair` writes them; a signature by one suffices.'),
  identities: z
    .array(signerSchema)
    .prefault([])
    .describe('Identities of keyless signatures; a signature by one suffices. Requires `trustRoot`.'),
  trustRoot: value(file)
    .optional()
    .describe(
      'The authorities of certificates, transparency logs and timestamps: a `trusted_root.json` of Sigstore. It is never fetched.',
    ),
  transparencyLog: value(flag)
    .prefault(false)
    .describe('Whether signatures by `keys` need an entry in a transparency log of `trustRoot`, too.'),
});

/** One entry as written. */
export type ParsedSignature = z.output<typeof signatureSchema>;
