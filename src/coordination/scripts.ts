/** A Lua script and its name in the log. */
export interface Script {
  readonly name: string;
  readonly lua: string;
  /** Whether replicas work alone without it, whatever the reason of its failure. */
  readonly isVital?: true;
}

/** Maximum difference between two replicas' estimates of Redis's time; entries further ahead are from before it went back. */
export const skewMs = 1_000;

/** Prefix of a script: Redis's clock is the only one, because those of the replicas may differ. */
export const clock = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`;

/** On the cluster node that has the fleet: without it nothing is coordinated. */
export const probeKey = '{fleet}:probe';

/** KEYS: probe. A write: a Redis that only answers, such as one whose memory is full, is of no use. */
export const probeScript: Script = {
  name: 'probe',
  lua: `
return redis.call('SET', KEYS[1], '', 'PX', 1000)
`,
};

/**
 * KEYS: fill, holders. ARGV: own id, ms a lease lives, fence that may be taken over or '', how many read from one, ids to
 * avoid with commas, how many holders are named; 0: as if there were none. The replicas that read from a fill form a tree
 * with the lease at its root: each has a number and reads from one with a lower number, so that none can wait for
 * itself.
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

/** KEYS: fill. ARGV: own id, fence, ms it lives. Answers 1 while it is held; a lease that no one has taken is held again. */
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
  local age = now - tonumber(found[2])
  if age > -${skewMs} and age < tonumber(ARGV[2]) then return { 'known', found[1] } end
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
  if at <= tonumber(ARGV[3]) or at > now + ${skewMs} then
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
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + tonumber(ARGV[3]) + ${skewMs}, '+inf')
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not known and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
`,
};
