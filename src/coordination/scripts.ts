/** A Lua script and what it is called in the log. */
export interface Script {
  readonly name: string;
  readonly lua: string;
}

// Redis's own clock is the only one: those of the replicas may differ.
const clock = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`;

/** On the node of a cluster that has the fleet: without that one nothing is agreed. */
export const probeKey = '{fleet}:probe';

/** KEYS: probe. A write: one that only answers is of no use, such as one whose memory is full. */
export const probeScript: Script = {
  name: 'probe',
  lua: `
return redis.call('SET', KEYS[1], '', 'PX', 1000)
`,
};

const dayMs = 86_400_000;
/** The count of messages outlives a replica's longest absence. */
const fleetMs = 31 * dayMs;

// The fleet's one hash has the replicas by id, and beside them '#version', '#epoch' and '#seq', which no id can be.
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
 * version, known epoch, known seq, how many messages before the last are wanted in any case. Answers version, whether what
 * follows are all replicas (1) or those that have changed since the known version (0), their ids and entries ('': gone),
 * epoch, seq, now, messages, number of changes, time of the last, and the entry that stood there as one's own.
 *
 * `news` has the replicas by the version that changed them last, complete from the score of '#since' on. Whoever knows an
 * older version is told of all: so is everybody when Redis has evicted one of the keys.
 */
export const beatScript: Script = {
  name: 'beat',
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

/** KEYS: fleet, messages. ARGV: new epoch, sealed message, channel. */
export const announceScript: Script = {
  name: 'announce',
  lua: `${fleetEpoch}
seq = redis.call('HINCRBY', KEYS[1], '#seq', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 4096, string.format('%.0f-0', seq), 'm', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ${dayMs})
redis.call('PUBLISH', ARGV[3], seq)
return seq
`,
};

/**
 * KEYS: changes. ARGV: channel, ms they are kept, how many are kept, then each change and the time it was done, '' for
 * now. No two are told to have been done at the same time. Answers their times.
 */
export const recordChangesScript: Script = {
  name: 'record-changes',
  lua: `${clock}
local last = tonumber(redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or '0')
local times = {}
for index = 4, #ARGV, 2 do
  local at = tonumber(ARGV[index + 1])
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
redis.call('PUBLISH', ARGV[1], '')
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

/**
 * KEYS: fill, holders. ARGV: own id, ms a lease lives, fence that may be taken over or '', how many read from one, ids to
 * avoid with commas, how many holders are named; 0: as if there were none. Those who read from one that fills form a tree with the lease at its root: each has a number, and
 * reads from one with a lower number, so that nobody can wait for himself.
 */
export const claimScript: Script = {
  name: 'claim',
  lua: `${clock}
local avoid = {}
local drawn = tonumber(ARGV[6])
for id in string.gmatch(ARGV[5], '[^,]+') do
  avoid[id] = true
  if drawn > 0 then drawn = drawn + 1 end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZREM', KEYS[2], ARGV[1])
local held = {}
for _, id in ipairs(redis.call('ZRANDMEMBER', KEYS[2], drawn)) do
  if not avoid[id] then held[#held + 1] = id end
end
if #held > 0 then return { 'held', held } end
local holder = redis.call('HGET', KEYS[1], 'holder')
local fence = redis.call('HGET', KEYS[1], 'fence')
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return { 'lease', fence }
end
if holder and fence ~= ARGV[3] then
  local number = redis.call('HGET', KEYS[1], 'n:' .. ARGV[1])
  if not number then
    number = redis.call('HINCRBY', KEYS[1], 'count', 1)
    redis.call('HSET', KEYS[1], 'n:' .. ARGV[1], number, 'r:' .. number, ARGV[1])
  end
  local chain = {}
  local place = tonumber(number)
  while place > 0 do
    place = math.floor((place - 1) / tonumber(ARGV[4]))
    local id = holder
    if place > 0 then id = redis.call('HGET', KEYS[1], 'r:' .. place) end
    if id and not avoid[id] then chain[#chain + 1] = id end
  end
  return { 'filling', chain, fence }
end
local following = time[1] * 1000000 + time[2]
if fence and tonumber(fence) >= following then following = tonumber(fence) + 1 end
local text = string.format('%.0f', following)
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'fence', text)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return { 'lease', text }
`,
};

/** KEYS: fill. ARGV: own id, fence, ms it lives. Answers 1 while it is ours; one that nobody has taken is ours again. */
export const renewScript: Script = {
  name: 'renew',
  lua: `
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and (holder ~= ARGV[1] or redis.call('HGET', KEYS[1], 'fence') ~= ARGV[2]) then return 0 end
if not holder then redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'fence', ARGV[2]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
`,
};

/** KEYS: fill. ARGV: own id, fence. */
export const releaseScript: Script = {
  name: 'release',
  lua: `
local held = redis.call('HMGET', KEYS[1], 'holder', 'fence')
if held[1] == ARGV[1] and held[2] == ARGV[2] then return redis.call('DEL', KEYS[1]) end
return 0
`,
};

/** KEYS: holders. ARGV: own id, ms it holds ('0': not any more). */
export const holdScript: Script = {
  name: 'hold',
  lua: `${clock}
if ARGV[2] == '0' then return redis.call('ZREM', KEYS[1], ARGV[1]) end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`,
};

/** KEYS: tag, check. ARGV: own id, greatest age in ms, ms a check may take. */
export const claimTagScript: Script = {
  name: 'claim-tag',
  lua: `${clock}
local found = redis.call('HMGET', KEYS[1], 'v', 'at')
if found[1] and found[2] then
  local age = math.max(0, now - tonumber(found[2]))
  if age < tonumber(ARGV[2]) then return { 'known', found[1] } end
end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[3]) then return { 'ours' } end
if redis.call('GET', KEYS[2]) == ARGV[1] then return { 'ours' } end
return { 'wait' }
`,
};

/** KEYS: tag, check. ARGV: own id, sealed record or '', its time, ms it is kept. A later one that is there stays. */
export const recordTagScript: Script = {
  name: 'record-tag',
  lua: `${clock}
if ARGV[2] ~= '' then
  local at = tonumber(redis.call('HGET', KEYS[1], 'at') or '0')
  if at <= tonumber(ARGV[3]) or at > now + 1000 then
    redis.call('HSET', KEYS[1], 'v', ARGV[2], 'at', ARGV[3])
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
  end
end
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 1
`,
};

/** KEYS: a value that is sealed. ARGV: '' to read it; else the value and ms it is kept. */
export const valueScript: Script = {
  name: 'value',
  lua: `
if ARGV[1] == '' then return redis.call('GET', KEYS[1]) end
return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
`,
};

/** KEYS: places in use. ARGV: place, most places, ms it is kept ('0': given back). Answers 1 where it was had. */
export const placeScript: Script = {
  name: 'place',
  lua: `${clock}
if ARGV[3] == '0' then return redis.call('ZREM', KEYS[1], ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not known and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
`,
};
