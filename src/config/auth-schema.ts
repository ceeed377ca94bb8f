import { z } from 'zod';
import { addressRange, anyText, claimCondition, issuerName, nameGlob, policyPattern } from './policy-kinds.ts';
import { duration, flag, oneOf, originUrl, path, registryUrl, text } from './value-kinds.ts';
import { value } from './value-schema.ts';

const actions = ['pull', 'push', 'delete', 'search', 'administer'] as const;

const issuerSchema = z.strictObject({
  issuer: value(issuerName).describe(
    '`iss` of its tokens, exactly, such as `https://token.actions.githubusercontent.com`.',
  ),
  audience: value(text('an audience')).describe(
    '`aud` that a token has to name. No other service should accept the same one, or it could use the tokens here.',
  ),
  jwks: value(registryUrl)
    .optional()
    .describe('Where its public keys are. Default: where its discovery document says.'),
  jwksFile: value(path('file')).optional().describe('A file with its public keys, for networks that do not reach it.'),
  tokenReview: value(registryUrl)
    .optional()
    .describe(
      'A Kubernetes API server to ask about each token instead (TokenReview): it knows of deleted pods and service accounts.',
    ),
  caFile: value(path('file')).optional().describe('Authorities (PEM) of these addresses. Default: the usual ones.'),
  tokenFile: value(path('file'))
    .optional()
    .describe('A bearer token for these addresses, such as that of the pod itself; read again when it changes.'),
  prefix: value(anyText)
    .optional()
    .describe(
      "Goes before the names of its users and groups, so that they are no one else's. Default: the host of `issuer` and a colon.",
    ),
  userClaim: value(text('the name of a claim')).prefault('sub').describe('The claim that names the user.'),
  groupsClaim: value(text('the name of a claim')).prefault('groups').describe('The claim that lists the groups.'),
});

const policySchema = z.strictObject({
  name: value(text('a name')).optional().describe('A name for `explain` and the audit log.'),
  effect: value(oneOf(['allow', 'deny']))
    .prefault('allow')
    .describe('What the rule says to what it matches.'),
  users: z
    .array(value(nameGlob))
    .prefault([])
    .describe('Names of callers, such as `ci-*`. With `groups`: callers that either names.'),
  groups: z
    .array(value(nameGlob))
    .prefault([])
    .describe('Groups of callers, as their issuer or certificate names them.'),
  claims: z
    .array(value(claimCondition))
    .prefault([])
    .describe(
      'What the token of a caller has to say, all of it, such as `ref=refs/heads/main` or `kubernetes.io.namespace=ci-*`.',
    ),
  kinds: z
    .array(value(oneOf(['user', 'certificate', 'key', 'guest'])))
    .prefault([])
    .describe(
      'How a caller has shown who it is: by a password or token, a client certificate, a key, or credentials of an upstream (`guest`, whose name is that of the upstream, a colon and the user); empty: any.',
    ),
  anonymous: value(flag).prefault(false).describe('Also match callers without credentials. Requires `auth.anonymous`.'),
  addresses: z
    .array(value(addressRange))
    .prefault([])
    .describe('Addresses of callers, such as `10.0.0.0/8`; empty: any.'),
  repositories: z
    .array(value(policyPattern))
    .prefault(['**'])
    .describe(
      'Repositories by their full name, such as `docker.io/**` or `local/{user}/**`. `{user}`, `{group}` and `{claim.NAME}` stand for what is known of the caller.',
    ),
  actions: z
    .array(value(oneOf(actions)))
    .min(1)
    .prefault(['pull'])
    .describe('`pull`, `push`, `delete`, `search` (see the name in catalogs and searches), `administer`.'),
});

/** The section `auth`. */
export const authSchema = z.strictObject({
  htpasswdFile: value(path('file'))
    .optional()
    .describe('Users with bcrypt hashes of their passwords, as `htpasswd -B` makes them.'),
  certificates: value(flag)
    .prefault(false)
    .describe(
      'Client certificates say who a caller is: `CN` of the subject is its name, `O` and `OU` are its groups. Requires `tls.clientCaFile`.',
    ),
  issuers: z
    .array(issuerSchema)
    .prefault([])
    .describe(
      'Issuers of JSON Web Tokens, such as CI systems and Kubernetes clusters, whose tokens are accepted as passwords.',
    ),
  keysFile: value(path('file'))
    .optional()
    .describe(
      'Where `millpond key` keeps the keys of robots, as hashes. Replicas need a file that they share. Default: `keys.json` in the cache directory.',
    ),
  url: value(originUrl)
    .optional()
    .describe(
      'Where clients reach this mirror, such as `https://mirror.example`: where they get tokens. Default: the scheme and host of each request, as `X-Forwarded-Proto` and `X-Forwarded-Host` of a proxy in front give them.',
    ),
  tokenExpiry: value(duration({ minMs: 60_000, maxMs: 3_600_000 }))
    .prefault('5m')
    .describe('How long a token of this mirror is valid, at most 1h.'),
  refreshTokenExpiry: value(duration({ minMs: 3_600_000 }))
    .optional()
    .describe(
      'Give users refresh tokens that are valid for this long, until their password changes. `docker login` then stores one in place of the password, and kubelet cannot use it. Default: none are given.',
    ),
  anonymous: value(flag).prefault(false).describe('Whether requests without credentials are answered at all.'),
  policies: z
    .array(policySchema)
    .prefault([])
    .describe(
      'Who may do what: the first rule that matches caller, action and repository decides; none: denied. Without any rule, callers with credentials may do everything but administer, and others may read.',
    ),
});
