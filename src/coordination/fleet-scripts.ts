import { clock, type Script } from './scripts.ts';

const dayMs = 86_400_000;
/** The counter of messages outlives the longest absence of a replica. */
const fleetMs = 31 * dayMs;
/** How much later than a replica's knowledge another one may have announced a change. */
const nearMs = 60_000;

// The fleet's hash has the replicas by id, and also '#version', '#epoch' and '#seq', which cannot be ids.
const fleetEpoch = `
local epoch = redis.call('HGET', KEYS[1], '#epoch')
if not epoch then
  epoch = ARGV[1]
  redis.call('HSET', KEYS[1], '#epoch', epoch, '#seq', 0)
  redis.call('DEL', KEYS[2])
end
redis.call('PEXPIRE', KEYS[1], ${fleetMs})
local seq = tonumber(redis.call('HGET', KEYS[1], '#seq') or '0')
`;

/**
 * KEYS: fleet, messages, expiries, changes, news. ARGV: new epoch, own id, own entry, ms it lives ('0': leaves), known
 * version, known epoch, known seq, how many messages before the last are wanted in any case. Answers version, whether
 * what follows are all replicas (1) or those that have changed since the known version (0), their ids and entries ('':
 * gone), epoch, seq, now, messages, number of changes, time of the last, and the entry that stood there as one's own.
 *
 * `news` has the replicas by the version that changed them last, complete from the score of '#since' on. A replica that
 * knows an older version gets all: so do all replicas when Redis has evicted one of the keys.
 */
export const beatScript: Script = {
  name: 'beat',
  isVital: true,
  lua: `${clock}${fleetEpoch}
local version = tonumber(redis.call('HGET', KEYS[1], '#version') or '0')
local before = version
local since = tonumber(redis.call('ZSCORE', KEYS[5], '#since') or '0')
if before == 0 or since == 0 or redis.call('EXISTS', KEYS[3]) == 0 then
  version = version + 1
  since = version
  redis.call('DEL', KEYS[5])
end
local function changed(id)
  version = version + 1
  redis.call('ZADD', KEYS[5], version, id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now)) do
  redis.call('ZREM', KEYS[3], id)
  redis.call('HDEL', KEYS[1], id)
  changed(id)
end
local lives = tonumber(ARGV[4])
-- What is further ahead is from before the clock went back.
if lives > 0 then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], now + 2 * lives, '+inf')) do
    redis.call('ZADD', KEYS[3], now + lives, id)
  end
end
local entry = redis.call('HGET', KEYS[1], ARGV[2])
if lives == 0 then
  redis.call('ZREM', KEYS[3], ARGV[2])
  redis.call('HDEL', KEYS[1], ARGV[2])
  changed(ARGV[2])
else
  if entry ~= ARGV[3] or not redis.call('ZSCORE', KEYS[3], ARGV[2]) then
    redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
    changed(ARGV[2])
  end
  redis.call('ZADD', KEYS[3], now + lives, ARGV[2])
  redis.call('PEXPIRE', KEYS[3], ${dayMs})
end
if version ~= before then
  local tooMany = redis.call('ZCARD', KEYS[5]) - 2 * redis.call('ZCARD', KEYS[3]) - 256
  if tooMany > 0 then
    since = tonumber(redis.call('ZRANGE', KEYS[5], tooMany, tooMany, 'WITHSCORES')[2])
    redis.call('ZREMRANGEBYRANK', KEYS[5], 0, tooMany)
  end
  redis.call('ZADD', KEYS[5], since, '#since')
  redis.call('HSET', KEYS[1], '#version', version)
end
redis.call('PEXPIRE', KEYS[5], ${dayMs})
local known = tonumber(ARGV[5])
local isAll = ARGV[6] ~= epoch or known < since
local ids = {}
if isAll then ids = redis.call('ZRANGE', KEYS[3], 0, -1)
elseif known < version then ids = redis.call('ZRANGEBYSCORE', KEYS[5], string.format('(%.0f', known), '+inf')
end
local entries = {}
for _, id in ipairs(ids) do
  if id ~= '#since' then
    entries[#entries + 1] = id
    entries[#entries + 1] = redis.call('HGET', KEYS[1], id) or ''
  end
end
local messages = {}
local heard = seq - tonumber(ARGV[8])
if ARGV[6] == epoch then heard = math.min(heard, tonumber(ARGV[7])) end
if heard < seq then
  messages = redis.call('XRANGE', KEYS[2], string.format('%.0f-0', math.max(heard + 1, 1)), '+', 'COUNT', 500)
end
local last = redis.call('ZREVRANGE', KEYS[4], 0, 0, 'WITHSCORES')[2] or '0'
return { version, isAll and 1 or 0, entries, epoch, seq, now, messages, redis.call('ZCARD', KEYS[4]), last, entry or '' }
`,
};

// A replica that may not publish is heard a second later: what has been written by then must not seem to have failed.

/** KEYS: fleet, messages. ARGV: new epoch, sealed message, channel. */
export const announceScript: Script = {
  name: 'announce',
  lua: `${fleetEpoch}
seq = redis.call('HINCRBY', KEYS[1], '#seq', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 4096, string.format('%.0f-0', seq), 'm', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ${dayMs})
redis.pcall('PUBLISH', ARGV[3], seq)
return seq
`,
};

/**
 * KEYS: changes. ARGV: channel, ms they are kept, how many are kept, when the last that is known was done, then each
 * change and the time it was done, '' for now: after all others, also where the clock has gone back since. Only who knows
 * the secret can tell whether what is far ahead is one of them, and names its time. One that is there already was done
 * when it says. Answers their times, no two the same.
 */
export const recordChangesScript: Script = {
  name: 'record-changes',
  lua: `${clock}
local last = tonumber(ARGV[4])
local near = string.format('%.0f', math.max(now, last) + ${nearMs})
last = math.max(last, tonumber(redis.call('ZREVRANGEBYSCORE', KEYS[1], near, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or '0'))
local times = {}
for index = 5, #ARGV, 2 do
  local at = tonumber(ARGV[index + 1] == '' and redis.call('ZSCORE', KEYS[1], ARGV[index]) or ARGV[index + 1])
  if not at then
    last = math.max(now, last + 1)
    at = last
  end
  times[#times + 1] = string.format('%.0f', at)
  redis.call('ZADD', KEYS[1], 'GT', times[#times], ARGV[index])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.pcall('PUBLISH', ARGV[1], '')
return times
`,
};

/** KEYS: changes. Answers each and its time, the earliest first. */
export const readChangesScript: Script = {
  name: 'read-changes',
  lua: `
return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
`,
};
