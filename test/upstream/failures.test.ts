import { describe, expect, test } from 'vitest';
import type { TransferBody } from '../../src/transport/body.ts';
import {
  connectionClause,
  connectionReason,
  denied,
  errorCodeOf,
  type FailedAnswer,
  failureOf,
  pauseOf,
  rateLimited,
  retryAfterSeconds,
  SecondHandAbsence,
  type Subject,
} from '../../src/upstream/failures.ts';
import { openGate } from '../../src/upstream/passage.ts';
import { Profile } from '../../src/upstream/profile.ts';
import { never } from './support.ts';

const now = Date.UTC(2026, 0, 1);

function failure(answer: Partial<FailedAnswer>, subject: Subject = 'manifest') {
  const whole: FailedAnswer = {
    status: 500,
    retryAfter: undefined,
    code: undefined,
    foreign: false,
    request: 'GET https://x/v2/a',
    shown: false,
    parentError: undefined,
    isRemembered: false,
    ...answer,
  };
  return failureOf(whole, { upstream: 'x', subject, repository: 'a', now });
}

describe('a failed answer', () => {
  test.each<[Subject, string]>([
    ['blob', 'BLOB_UNKNOWN'],
    ['manifest', 'MANIFEST_UNKNOWN'],
    ['repository', 'NAME_UNKNOWN'],
    ['referrers', 'MANIFEST_UNKNOWN'],
  ])('of 404 for a %s is %s', (subject, code) => {
    const error = failure({ status: 404 }, subject);
    expect(error).toMatchObject({
      reason: 'not-found',
      code,
      message: `upstream x has no such ${subject} in a`,
      detail: { upstream: 'x', repository: 'a', upstreamStatus: 404 },
    });
    expect(error).not.toBeInstanceOf(SecondHandAbsence);
    expect(failure({ status: 404, isRemembered: true }, subject)).toBeInstanceOf(SecondHandAbsence);
  });

  test.each<[Partial<FailedAnswer>, string, string]>([
    [{ status: 404, parentError: 'dns_error' }, 'other-mirror', 'could not ask (dns_error): 404 to GET https://x/v2/a'],
    [{ status: 429 }, 'limited', 'upstream x limits our requests; try again later'],
    [{ status: 503, retryAfter: '3' }, 'limited', 'upstream x asks for a pause; try again later'],
    [{ status: 503 }, 'bad-status', 'upstream x answered 503 for a (GET https://x/v2/a)'],
    [
      { status: 401 },
      'denied',
      'upstream x does not give a to anonymous clients; configure upstreams.x.auth (401 to GET https://x/v2/a)',
    ],
    [
      { status: 403, shown: true },
      'denied',
      'upstream x refuses our credentials for a; check upstreams.x.auth (403 to GET https://x/v2/a)',
    ],
    [{ status: 401, foreign: true }, 'bad-status', 'answered 401'],
    [{ status: 403, foreign: true }, 'bad-status', 'answered 403'],
    [{ status: 416 }, 'range-refused', 'answered 416'],
    [{ status: 302 }, 'bad-status', 'answered 302'],
  ])('of %j is %s', (answer, reason, message) => {
    const error = failure(answer);
    expect(error).toMatchObject({ reason, detail: { upstream: 'x' } });
    expect(error.message).toContain(message);
  });
});

test('a refusal by a token service names it', () => {
  expect(denied('x', { repository: 'a', status: 401, shown: true, place: 'token service' }).message).toBe(
    'the token service of upstream x refuses our credentials for a; check upstreams.x.auth',
  );
});

test('a limit says in whole seconds when to come back, and whose it is', () => {
  const error = rateLimited('x', { status: 429, pauseMs: 1_001, service: 'token service' });
  expect(error).toMatchObject({ headers: { 'Retry-After': '2' }, detail: { upstream: 'x', upstreamStatus: 429 } });
  expect(error.message).toBe('upstream x has a token service that limits our requests; try again later');
});

test.each<[Parameters<typeof pauseOf>[0], number | undefined]>([
  [{ status: 429, retryAfter: undefined }, 1_000],
  [{ status: 429, retryAfter: '3600' }, 3_600_000],
  [{ status: 429, retryAfter: '3601' }, 3_600_000],
  [{ status: 429, retryAfter: '0' }, 1_000],
  [{ status: 503, retryAfter: undefined }, undefined],
  [{ status: 503, retryAfter: '2' }, 2_000],
  [{ status: 403, retryAfter: undefined }, undefined],
  [{ status: 403, retryAfter: '2' }, 2_000],
  [{ status: 403, retryAfter: undefined, code: 'TOOMANYREQUESTS' }, 1_000],
  [{ status: 403, retryAfter: undefined, code: 'DENIED' }, undefined],
  [{ status: 503, retryAfter: undefined, code: 'TOOMANYREQUESTS' }, undefined],
  [{ status: 500, retryAfter: '2', code: 'TOOMANYREQUESTS' }, undefined],
  [{ status: 404, retryAfter: '2' }, undefined],
])('%j asks for a pause of %s ms', (answer, pauseMs) => {
  expect(pauseOf(answer, now)).toBe(pauseMs);
});

test.each<[string, number | undefined]>([
  ['999999999', 999_999_999],
  ['1234567890', undefined],
  ['1.5', undefined],
  ['Thursday, 01-Jan-26 00:00:10 GMT', 10],
  ['Thu Jan  1 00:00:10 2026 GMT', 10],
  ['Thu, 01 Jan 2026 00:00:00 GMT', 0],
  ['2026-01-01T00:00:10Z', undefined],
  ['1 Jan 2026 00:00:10 GMT', undefined],
  ['Th, 01 Jan 2026 00:00:10 GMT', undefined],
])('Retry-After "%s" is %s seconds', (header, seconds) => {
  expect(retryAfterSeconds(header, now)).toBe(seconds);
});

test.each([
  [undefined, 'unreachable'],
  ['ECONNREFUSED', 'unreachable'],
  ['HPE_INVALID_CONSTANT', 'bad-answer'],
  ['XHPE_', 'unreachable'],
  ['EMFILE', 'out-of-files'],
  ['ENFILE', 'out-of-files'],
  ['ERR_FORBIDDEN_ADDRESS', 'forbidden-address'],
])('a failure with the code %s has the reason %s', (code, reason) => {
  expect(connectionReason(code)).toBe(reason);
});

test.each<readonly [string | undefined, string]>([
  [undefined, 'cannot be reached at https://h:1 (connection failed)'],
  ['ECONNREFUSED', 'cannot be reached at https://h:1 (ECONNREFUSED)'],
  ['HPE_INVALID_CONSTANT', 'answered at https://h:1 in a way that is not HTTP/1.1 (HPE_INVALID_CONSTANT)'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'failed the TLS handshake at https://h:1 (ERR_SSL_WRONG_VERSION_NUMBER)'],
  ['EPROTO', 'failed the TLS handshake at https://h:1 (EPROTO)'],
  ['ERR_PROXY_TUNNEL', 'cannot be reached at https://h:1 through the proxy (ERR_PROXY_TUNNEL)'],
  ...[
    'CERT_HAS_EXPIRED',
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'SELF_SIGNED_CERT_IN_CHAIN',
    'ERR_TLS_CERT_ALTNAME_INVALID',
    'INVALID_CA',
    'PATH_LENGTH_EXCEEDED',
    'HOSTNAME_MISMATCH',
  ].map((code) => [code, `shows a certificate at https://h:1 that is not trusted (${code})`] as const),
  ['X_CERT_HAS_EXPIRED', 'cannot be reached at https://h:1 (X_CERT_HAS_EXPIRED)'],
])('a failure with the code %s is described as "%s"', (code, clause) => {
  const error = code === undefined ? new Error('x') : Object.assign(new Error('x'), { code });
  expect(connectionClause(error, new URL('https://u:p@h:1/path?q'))).toBe(clause);
});

test.each<[string, string | undefined]>([
  ['{"errors":[{"code":"toomanyrequests"},{"code":"other"}]}', 'TOOMANYREQUESTS'],
  [`{"errors":[{"code":"${'c'.repeat(60)}"}]}`, 'C'.repeat(50)],
  ['{"errors":[{"code":1}]}', undefined],
  ['{"errors":[]}', undefined],
  ['{}', undefined],
  ['text', undefined],
  ['', undefined],
])('the error code of the body %s is %s', async (text, code) => {
  const body: TransferBody = {
    async *[Symbol.asyncIterator]() {
      yield await Promise.resolve(Buffer.from(text));
    },
    destroy: () => undefined,
  };
  expect(await errorCodeOf(body)).toBe(code);
});

test('a profile has what the configuration says, then what was learned, then what is usual', () => {
  const profile = new Profile({ blobHead: 'unreliable' });
  expect(profile.get('manifestHead')).toBe('trusted');
  expect(profile.describe()).toEqual({ blobHead: { value: 'unreliable', from: 'configured' } });
  profile.learn('manifestHead', 'unreliable');
  profile.learn('blobHead', 'trusted');
  profile.learn('headLength', 'trusted');
  expect([profile.get('manifestHead'), profile.get('blobHead')]).toEqual(['unreliable', 'unreliable']);
  expect(profile.describe()).toEqual({
    manifestHead: { value: 'unreliable', from: 'learned' },
    blobHead: { value: 'unreliable', from: 'configured' },
  });
  expect(new Profile().describe()).toEqual({});
});

test('what is asked beside a pull goes through an open gate', async () => {
  openGate.check();
  using passage = await openGate.enter(never());
  expect(passage.answered({ status: 500, headers: {} })).toBeUndefined();
  expect(passage.failed(new Error('x'))).toBeUndefined();
});
