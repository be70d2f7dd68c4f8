#!lua name=machine_lifecycle_1
-- revision 33

-- Every change of a job's state is one call here, so that it happens whole or not at all. Times
-- are the server's own: clocks of workers never count.

local TERMINAL_TTL = {completed = 86400, failed = 604800, cancelled = 604800}
local RECORD_TTL = 604800
local ACTIVE_TTL = 604800
local WORKER_TTL = 120
local HEARTBEAT_TTL = 60
local PROGRESS_TTL = 86400
local ENDED_PROGRESS_TTL = 3600
local MAX_CRASHES = 3
local MAX_LOST = 5
local DEAD_KEPT = 1000
local STREAM_KEPT = 200
local ENDED_KEPT = 10000 -- of those that completed, and of those that did not, …
local ENDED_FOR = 300000 -- … unless they ended within so many ms: who asked for them may be slow
local BYTES_KEPT = 536870912 -- of each, at most, and no more than a quarter of what the server may hold: …
local BYTES_STRICTLY = 2 -- … times that of those, too, that ended just now
local HEAVY = 4096 -- bytes from which on a job's are counted: below, the number is bound enough
local FORGOTTEN_AT_ONCE = 100
local MOST_AT_ONCE = 1000 -- jobs: unpack takes 8000 words at most, and a script that fails takes nothing back
local OUTPUTS_FORGOTTEN = 32
local OUTPUTS_TOLD = 65536 -- bytes: with many who wait, it is in the server's memory until they read
local NAMES_LOOKED_AT = 3
local TOLD_MOST = 1048576 -- bytes of a result: a server ends the connection of who is told 32 MB at once
local PUSHED_MOST = 262144 -- bytes of a payload: what a worker has not asked for is not to fill its line

local heard -- see below

-- What time it is; every call begins with it.
local function now()
  local t = redis.call('TIME')
  local at = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
  heard = {at = at}
  return at
end

local function given(value) return value ~= nil and value ~= false and value ~= '' end

-- ISO 8601 in UTC; civil-from-days after Howard Hinnant, chrono-Compatible Low-Level Date Algorithms.
local function iso_of(ms)
  local secs = math.floor(ms / 1000)
  local days = math.floor(secs / 86400)
  local rest = secs - days * 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month, day,
    math.floor(rest / 3600), math.floor(rest % 3600 / 60), rest % 60, ms % 1000)
end

local last_ms, last_iso
local function iso(ms)
  if ms ~= last_ms then last_ms, last_iso = ms, iso_of(ms) end
  return last_iso
end

-- Milliseconds since 1970 of an ISO time, or of seconds; nil for what is neither. Days from civil
-- after the same source.
local function ms_of(moment)
  if not given(moment) then return nil end
  local y, mo, d, h, mi, s, fraction, zone = string.match(moment,
    '^(%d%d%d%d)-(%d%d)-(%d%d)[T ](%d%d):(%d%d):(%d%d)%.?(%d*)(.*)$')
  if not y then
    local seconds = tonumber(moment)
    return seconds and math.floor(seconds * 1000)
  end
  y, mo = tonumber(y), tonumber(mo)
  if mo <= 2 then y = y - 1 end
  local era = math.floor(y / 400)
  local yoe = y - era * 400
  local doy = math.floor((153 * (mo + (mo > 2 and -3 or 9)) + 2) / 5) + tonumber(d) - 1
  local days = era * 146097 + yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy - 719468
  local ms = (((days * 24 + tonumber(h)) * 60 + tonumber(mi)) * 60 + tonumber(s)) * 1000
  if fraction ~= '' then ms = ms + math.floor(tonumber('0.' .. fraction) * 1000 + 0.5) end
  local sign, zh, zm = string.match(zone, '^([+-])(%d%d):?(%d%d)$')
  if sign then ms = ms - (sign == '+' and 1 or -1) * (tonumber(zh) * 60 + tonumber(zm)) * 60000 end
  return ms
end

-- A key of another type than it should be reads as one that is not there.
local function unreadable(answer)
  if answer.err and string.find(answer.err, 'ACL failure', 1, true) then error(answer.err, 0) end
  return answer.err
end

local function hash(key)
  local flat, map = redis.pcall('HGETALL', key), {}
  if unreadable(flat) then return map, flat.err end
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

-- Some fields of a hash: a job's payload may be large.
local function fields(key, names)
  local seen, map = redis.pcall('HMGET', key, unpack(names)), {}
  if unreadable(seen) then return map end
  for i, name in ipairs(names) do map[name] = seen[i] or nil end
  return map
end

local function publish(channel, message) redis.call('PUBLISH', channel, cjson.encode(message)) end

-- Whether anybody may hear a channel; known for the length of one call. Most messages are heard by
-- nobody, and making them would be a good part of the cost of a short job. Who listens at a replica
-- can't be seen here: where there is one, or was within the hour, all is told.
local told_always, looked_at

-- Whether a channel is heard at this server.
local function listens(channel)
  if heard[channel] == nil then
    local counts = redis.call('PUBSUB', 'NUMSUB', channel, unpack(heard.too or {}))
    for i = 1, #counts, 2 do heard[counts[i]] = counts[i + 1] > 0 end
    heard.too = nil
  end
  return heard[channel]
end

local function is_heard(channel)
  if heard.all == false then return listens(channel) end
  if told_always == nil or math.abs(heard.at - looked_at) > 1000 then
    looked_at = heard.at
    told_always = not string.find(redis.call('INFO', 'replication'), 'repl_backlog_active:0', 1, true)
  end
  if heard.all == nil then heard.all = told_always or redis.call('PUBSUB', 'NUMPAT') > 0 end
  return heard.all or listens(channel)
end

-- These will be asked for, too: it is found out with the first.
local function may_be_heard(...) heard.too = {...} end

local function workflow_fields(job, message)
  if given(job.workflow_id) then message.workflow_id = job.workflow_id end
  for _, name in ipairs({'current_step', 'total_steps', 'workflow_priority', 'workflow_datetime'}) do
    local number = tonumber(job[name])
    if number and not (math.abs(number) < math.huge) then number = nil end -- which no JSON can say
    if given(job[name]) then message[name] = number or job[name] end
  end
  return message
end

-- The part of an attestation's key that names the job.
local function attestation_of(id, workflow)
  local step = 'step-id:' .. string.gsub(id, '^step%-', '')
  return given(workflow) and 'job-id:' .. workflow .. ':' .. step or step
end

-- Remove all that is kept of an ended job; one that is set aside for somebody to look at only where
-- that may be.
local function forget(id, set_aside)
  local key = 'job:' .. id
  local seen = redis.pcall('HMGET', key, 'status', 'proof', 'workflow_id', 'retry_count')
  local over = seen[1] == 'completed' or seen[1] == 'failed' or seen[1] == 'cancelled'
  if not over then return end
  if redis.call('ZSCORE', 'jobs:dead', id) then
    if not set_aside then return end
    redis.call('ZREM', 'jobs:dead', id)
    redis.call('HDEL', 'jobs:dead:reasons', id)
  end
  local gone, name = {key, key .. ':progress', 'progress:' .. id}, attestation_of(id, seen[3])
  if given(seen[2]) then gone[#gone + 1] = seen[2] end
  for n = 1, math.min(tonumber(seen[4]) or 0, 99) do
    gone[#gone + 1] = 'worker:failure:' .. name .. ':attempt:' .. n
  end
  if seen[1] == 'failed' then
    gone[#gone + 1] = 'worker:failure:' .. name .. ':permanent'
    if given(seen[3]) then gone[#gone + 1] = 'workflow:failure:' .. seen[3] .. ':permanent' end
  end
  for n = 0, OUTPUTS_FORGOTTEN - 1 do gone[#gone + 1] = key .. ':output:' .. n end
  redis.call('DEL', unpack(gone))
end

-- Remember how many bytes an ended job takes, if it takes many; whether it does.
local function weigh(name, id, bytes, at)
  if bytes <= HEAVY then return false end
  local known = tonumber(redis.call('HGET', name .. ':heavy', id)) or 0
  redis.call('HSET', name .. ':heavy', id, bytes)
  redis.call('ZADD', name .. ':heavy:at', at, id)
  redis.call('INCRBY', name .. ':heavy:bytes', bytes - known)
  for _, key in ipairs({':heavy', ':heavy:at', ':heavy:bytes'}) do
    redis.call('EXPIRE', name .. key, RECORD_TTL)
  end
  return true
end

local function length_of(id, field)
  local length = redis.pcall('HSTRLEN', 'job:' .. id, field)
  return type(length) == 'number' and length or 0
end

local function unweigh(name, ids)
  local bytes = 0
  for _, size in ipairs(redis.call('HMGET', name .. ':heavy', unpack(ids))) do
    bytes = bytes + (tonumber(size) or 0)
  end
  if bytes == 0 then return end
  redis.call('HDEL', name .. ':heavy', unpack(ids))
  redis.call('ZREM', name .. ':heavy:at', unpack(ids))
  if redis.call('DECRBY', name .. ':heavy:bytes', bytes) <= 0 then
    redis.call('DEL', name .. ':heavy:bytes')
  end
end

local function drop_records(name, ids)
  if #ids == 0 then return end
  redis.call('HDEL', name, unpack(ids))
  redis.call('ZREM', name .. ':at', unpack(ids))
  unweigh(name, ids)
end

-- The oldest beyond the number that is kept, at most so many at a time.
local function trim_number(name, at, most)
  local over = redis.call('ZCARD', name .. ':at') - ENDED_KEPT
  if over <= 0 then return end
  local old = redis.call('ZRANGEBYSCORE', name .. ':at', '-inf', at - ENDED_FOR, 'LIMIT', 0,
    math.min(over, most))
  for _, id in ipairs(old) do forget(id) end
  drop_records(name, old)
end

-- The oldest heavy ones beyond the bytes that are kept.
local function trim_bytes(name, at)
  local held = tonumber(redis.call('GET', name .. ':heavy:bytes') or '0') or 0
  if held == 0 then return end
  local most = tonumber(string.match(redis.call('INFO', 'memory'), 'maxmemory:(%d+)') or '0')
  most = most > 0 and math.min(BYTES_KEPT, most / 4) or BYTES_KEPT
  if held <= most then return end
  local old = redis.call('ZRANGE', name .. ':heavy:at', 0, FORGOTTEN_AT_ONCE - 1, 'WITHSCORES')
  local gone = {}
  for i = 1, #old, 2 do
    local strictly = held > most * BYTES_STRICTLY
    if held <= most or (not strictly and tonumber(old[i + 1]) > at - ENDED_FOR) then break end
    held = held - (tonumber(redis.call('HGET', name .. ':heavy', old[i])) or 0)
    forget(old[i], strictly)
    gone[#gone + 1] = old[i]
  end
  drop_records(name, gone)
end

-- Where another party has put something else in the place of these records, break off before anything
-- is changed.
local function look_at_records(name)
  redis.call('HLEN', name)
  redis.call('ZCARD', name .. ':at')
end

-- Bounded records of ended jobs: each field has its time in a sorted set beside the hash, and goes
-- when it is too old. A TTL of the whole hash would either never fire or take all at once.
local function trim_records(name, at, ttl, most)
  drop_records(name, redis.call('ZRANGEBYSCORE', name .. ':at', '-inf', at - ttl * 1000, 'LIMIT', 0, 1000))
  trim_number(name, at, most or FORGOTTEN_AT_ONCE)
  trim_bytes(name, at)
  redis.call('EXPIRE', name, ttl)
  redis.call('EXPIRE', name .. ':at', ttl)
end

-- An ended job that did not complete.
local function record(id, value, at, bytes)
  redis.call('HSET', 'jobs:failed', id, cjson.encode(value))
  redis.call('ZADD', 'jobs:failed:at', at, id)
  weigh('jobs:failed', id, (bytes or 0) + length_of(id, 'payload') + length_of(id, 'error_details'), at)
  trim_records('jobs:failed', at, RECORD_TTL)
end

-- A step of the job's life, in a bounded stream for those who look later. Where another party has put
-- something else in its place they see nothing, and the job goes on.
local function add_step(id, status, progress, at, worker, message)
  redis.pcall('XADD', 'progress:' .. id, 'MAXLEN', '~', STREAM_KEPT, '*', 'job_id', id, 'status', status,
    'progress', progress, 'worker_id', worker or '', 'message', message or '',
    'timestamp', at)
end

-- *job*: what its record says until now. That a run began is written with the first thing that comes
-- of it: of a job that is over before it reported anything, nothing is, and its record tells as much.
local function step(id, job, status, progress, at, worker, message, ttl)
  if job.status == 'assigned' then
    add_step(id, 'assigned', 0, ms_of(job.assigned_at) or at, job.worker_id)
  end
  add_step(id, status, progress, at, worker, message)
  redis.call('EXPIRE', 'progress:' .. id, ttl or PROGRESS_TTL)
end

local function ended(id, status)
  redis.call('ZREM', 'jobs:leases', id)
  redis.call('EXPIRE', 'job:' .. id, TERMINAL_TTL[status])
  redis.call('EXPIRE', 'job:' .. id .. ':progress', ENDED_PROGRESS_TTL)
  redis.call('EXPIRE', 'progress:' .. id, ENDED_PROGRESS_TTL)
end

