
-- The index ---------------------------------------------------------------------------------------
--
-- `jobs:pending` is what all parties share; this index is ours alone, and made of it.
--
-- A class is what matching looks at; jobs of one class can be run by the same workers. A profile is
-- what a worker can do, without its name; equal workers share one. Which profile fits which class
-- is decided once. A claim looks at the heads of its profile's classes, never at a job it can't run.
--
--   jobs:class:H        zset  job id -> exact place; gone when empty
--   jobs:classes        hash  H -> definition, and jobs:classes:used: zset H -> when last filed in
--   jobs:fits:H         set   of profiles
--   jobs:profiles       hash  P -> capabilities, and jobs:profiles:used: zset P -> last beat
--   jobs:heads:P        zset  H -> place of its best job, or a better one: claims correct it
--   jobs:idle:P         zset  worker -> since when it waits
--   jobs:workers:P      zset  worker -> last beat
--   jobs:index:size     how many are filed; jobs:index:cursor: how far the search for unfiled ones is,
--                       and jobs:index:swept: that for filed ones which wait no more
--   jobs:pins           set   of workflows that workers are kept for
--   jobs:unworkable     set   of classes that no worker fits
--   jobs:personal:worker:W, jobs:personal:machine:M
--                       set   of classes for that one; jobs:personal: of those that ask for more than a name
--   jobs:barred:worker:W, jobs:barred:machine:M
--                       set   of classes for all but that one
--   jobs:leaving        hash  P -> how far the classes it fitted were told that it is gone
--   jobs:telling        hash  H -> how far its jobs were told whether some worker fits
--   jobs:avoided:W      zset  jobs that failed on worker W and go to others for a while -> until when;
--                       jobs:avoided:machine:M likewise, for all workers of a machine
--   jobs:foreign        another party submitted jobs within the hour: jobs:ear, a worker, listens

local EPOCH = 1577836800000
local SPAN = 2199023255552 -- 2^41 ms, 69 years
local HIGHEST = 2047
local PROFILE_KEPT = 120000 -- as long as the record of a worker that beats no more
local WORKER_LIVES = 45000
local CLASS_KEPT = 3600000
local MOST_CLASSES = 20000
local INDEX_TTL = 604800
local FOREIGN_KEPT = 3600
local CHUNK = 200
local AVOIDED_FOR = 30000
local LOOKS = 64
local CLASSES_SWEPT = 16

-- What was decoded once. It only saves work: emptied at any time, everything goes on.
local memo = {classes = {}, caps = {}, count = 0}

local function remember(kind, key, value)
  if memo.count >= 2000 then memo.classes, memo.caps, memo.count = {}, {}, 0 end
  memo[kind][key], memo.count = value, memo.count + 1
  return value
end

local WAITING = {pending = true, queued = true, unworkable = true}

local function exactly(number, least, most, otherwise)
  number = tonumber(number) or otherwise
  if not (number >= least) then return least end
  return math.min(math.floor(number), most)
end

-- The place: by priority, then by age; a double holds it exactly.
local function place_of(job)
  local priority = exactly(given(job.workflow_priority) and job.workflow_priority or job.priority,
    0, HIGHEST, 50)
  local born = tonumber(job.workflow_datetime) or ms_of(job.created_at) or EPOCH
  return priority * SPAN + SPAN - 1 - exactly(born - EPOCH, 0, SPAN - 1, 0)
end

local function leave_index(h, ...)
  local gone = redis.call('ZREM', 'jobs:class:' .. h, ...)
  if gone > 0 and redis.call('DECRBY', 'jobs:index:size', gone) <= 0 then
    redis.call('DEL', 'jobs:index:size')
  end
end

local function unfile(id, job)
  if given(job.queue_class) then leave_index(job.queue_class, id) end
end

-- Add to the story of a job, of which the last ten entries are kept.
local function tell_story(id, job, entry)
  local story = {}
  if given(job.history) then
    local ok, known = pcall(cjson.decode, job.history)
    if ok and type(known) == 'table' then story = known end
  end
  story[#story + 1] = entry
  while #story > 10 do table.remove(story, 1) end
  redis.call('HSET', 'job:' .. id, 'history', cjson.encode(story))
end

-- Set a job aside that nobody can ever run.
local function bury(id, reason, at)
  local job = hash('job:' .. id)
  redis.call('ZREM', 'jobs:pending', id)
  unfile(id, job)
  redis.call('ZREM', 'jobs:delayed', id)
  redis.call('ZADD', 'jobs:dead', at, id)
  redis.call('HSET', 'jobs:dead:reasons', id, reason)
  local over = redis.call('ZRANGE', 'jobs:dead', 0, -DEAD_KEPT - 1)
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', 'jobs:dead', '-inf', at - RECORD_TTL * 1000)) do
    over[#over + 1] = gone
  end
  for _, gone in ipairs(over) do
    redis.call('ZREM', 'jobs:dead', gone)
    redis.call('HDEL', 'jobs:dead:reasons', gone)
    -- Else it goes with the other records.
    if not redis.call('ZSCORE', 'jobs:failed:at', gone) then forget(gone) end
  end
  redis.call('EXPIRE', 'jobs:dead', RECORD_TTL)
  redis.call('EXPIRE', 'jobs:dead:reasons', RECORD_TTL)
  local retries = exactly(job.retry_count, 0, SPAN, 0)
  if next(job) then
    redis.call('HSET', 'job:' .. id, 'status', 'failed', 'error', reason, 'failed_at', iso(at))
    step(id, job, 'failed', 0, at, job.worker_id, reason)
    ended(id, 'failed')
  end
  record(id, {error = reason, failed_at = iso(at), retry_count = retries}, at)
  publish('job_failed', workflow_fields(job, {job_id = id, worker_id = job.worker_id or '',
    status = 'failed', error = reason, failed_at = iso(at), retry_count = retries,
    can_retry = false, timestamp = at}))
end

-- Do something about one job. What Redis refuses about it for good is no matter for others: the job
-- is set aside with that as the reason. What a user may not do is no fault of the job, but of one
-- that *ends* here it is the end: nothing else would come of it.
local function apart(id, at, ends, work, ...)
  local done, found, more = pcall(work, ...)
  if done then return found, more end
  local said = type(found) == 'table' and found.err or tostring(found)
  if not ends and string.find(said, 'ACL failure', 1, true) then error(said, 0) end
  local reason = 'Redis refuses it: ' .. said
  return nil, reason, pcall(bury, id, reason, at)
end

local function caps_of(digest)
  local known = memo.caps[digest]
  if known then return known end
  local text_of = redis.call('HGET', 'jobs:profiles', digest)
  if not text_of then return nil end
  return remember('caps', digest, cjson.decode(text_of))
end

local NAMED = {'worker', 'machine'}

-- The names that a requirement lists; nil if it says something else.
local function names_in(wanted)
  local list = is_list(wanted) and wanted or {wanted}
  for _, name in ipairs(list) do
    if type(name) ~= 'string' or name == 'all' then return nil end
  end
  return list
end

-- Whether it is decided for each worker by itself, or for all that can do the same.
local function personal(class)
  for _, kind in ipairs(NAMED) do
    if class.positive[kind .. '_id'] ~= nil or not names_in(class.negative[kind .. '_id']) then return true end
  end
  return false
end

-- Where a personal class is listed: with a name, where it asks for one, so that others need not look at
-- it. Of several names a worker must have each: who lacks the first lacks enough.
local function listed_as(class)
  for _, kind in ipairs(NAMED) do
    local name = (names_in(class.positive[kind .. '_id']) or {})[1]
    if name then return 'jobs:personal:' .. kind .. ':' .. name end
  end
  return 'jobs:personal'
end

-- The lists that a class is in, as it names workers or machines.
local function lists_of(class)
  if personal(class) then return {listed_as(class)} end
  local lists = {}
  for _, kind in ipairs(NAMED) do
    for _, name in ipairs(names_in(class.negative[kind .. '_id'])) do
      lists[#lists + 1] = 'jobs:barred:' .. kind .. ':' .. name
    end
  end
  return lists
end

local function fitting(h) return redis.call('SMEMBERS', 'jobs:fits:' .. h) end

local function fit(h, class, digest)
  local caps = caps_of(digest)
  if caps and #lacks(caps, class) == 0 then
    redis.call('SADD', 'jobs:fits:' .. h, digest)
    redis.call('EXPIRE', 'jobs:fits:' .. h, INDEX_TTL)
    redis.call('SREM', 'jobs:unworkable', h)
    return true
  end
  return false
end

-- The class of a job (h, personal), made known if it is new; nil and a reason for a job nobody can ever run.
local function known_class(job, at)
  local workflow = ''
  if given(job.workflow_id) and redis.call('SISMEMBER', 'jobs:pins', job.workflow_id) == 1 then
    workflow = job.workflow_id
  end
  local raw = table.concat({job.service_required or '', job.requirements or '',
    job.customer_id or '', workflow}, '\0')
  local known = memo.classes[raw]
  if not known then
    local class, reason = class_of(job.service_required, job.requirements, job.customer_id)
    if reason then return nil, reason end
    class.workflow = workflow
    local lists, own = lists_of(class), personal(class)
    class.bars = not own and #lists > 0 or nil -- by which it is another one than before it was listed so
    local words = canonical(class)
    known = remember('classes', raw, {h = redis.sha1hex(words), class = class,
      words = words, personal = own, lists = lists})
  end
  if redis.call('ZADD', 'jobs:classes:used', at, known.h) == 1 then
    redis.call('HSET', 'jobs:classes', known.h, known.words)
    redis.call('EXPIRE', 'jobs:classes', INDEX_TTL)
    redis.call('EXPIRE', 'jobs:classes:used', INDEX_TTL)
    for _, list in ipairs(known.lists) do
      redis.call('SADD', list, known.h)
      redis.call('EXPIRE', list, INDEX_TTL)
    end
    if not known.personal then
      for _, digest in ipairs(redis.call('HKEYS', 'jobs:profiles')) do
        fit(known.h, known.class, digest)
      end
    end
  end
  return known
end

-- Tell one worker that waits and fits that there is a job. It is a hint: whoever asks first has it.
local function machine_of(worker)
  return fields('worker:' .. worker, {'machine_id'}).machine_id or ''
end

-- Whether a class is for others than a worker, or than its machine.
local function barred(h, worker)
  return redis.call('SISMEMBER', 'jobs:barred:worker:' .. worker, h) == 1
    or redis.call('SISMEMBER', 'jobs:barred:machine:' .. machine_of(worker), h) == 1
end

local function arouse(h, class, profiles, avoided)
  local machine, sibling = avoided and machine_of(avoided), nil
  for _, digest in ipairs(profiles) do
    local set_back, told = {}, false
    repeat
      local waiting = redis.call('ZPOPMIN', 'jobs:idle:' .. digest)
      local worker = waiting[1]
      if not worker then break end
      local bars = class.bars and barred(h, worker)
      if bars or worker == avoided or (given(machine) and machine_of(worker) == machine) then
        set_back[#set_back + 1], set_back[#set_back + 2] = waiting[2], worker
        if worker ~= avoided and not bars then sibling = worker end
      else told = redis.call('PUBLISH', 'jobs:wake:' .. worker, h) > 0 end
    until told
    if #set_back > 0 then redis.call('ZADD', 'jobs:idle:' .. digest, unpack(set_back)) end
    if told then return true end
  end
  -- On its machine there is another one: it may have the job if no other machine can do it.
  return sibling ~= nil and redis.call('PUBLISH', 'jobs:wake:' .. sibling, h) > 0
end

local function arouse_anybody(h, class)
  local name = string.match(listed_as(class), '^jobs:personal:worker:(.*)$')
  if name then return redis.call('PUBLISH', 'jobs:wake:' .. name, h) end
  -- A class for some by name: those who wait are asked one by one, they are few.
  for _, digest in ipairs(redis.call('HKEYS', 'jobs:profiles')) do
    for _, worker in ipairs(redis.call('ZRANGE', 'jobs:idle:' .. digest, 0, 99)) do
      redis.call('PUBLISH', 'jobs:wake:' .. worker, h)
    end
  end
end

local function unworkable(h)
  redis.call('SADD', 'jobs:unworkable', h)
  redis.call('EXPIRE', 'jobs:unworkable', INDEX_TTL)
end

-- Put a waiting job into the index. Returns its status: `pending`, `unworkable`, or nil if it is
-- set aside. *known*, *profiles*: its class and who fits that, where it was found out before.
local function file(id, job, at, avoided, known, profiles)
  local reason
  if not known then known, reason = known_class(job, at) end
  if not known then
    bury(id, reason, at)
    return nil
  end
  local h, place, status = known.h, place_of(job), 'pending'
  if redis.call('ZADD', 'jobs:class:' .. h, place, id) == 1 then redis.call('INCR', 'jobs:index:size') end
  if known.personal then arouse_anybody(h, known.class)
  else
    profiles = profiles or fitting(h)
    if #profiles < 3 or redis.call('ZREVRANGE', 'jobs:class:' .. h, 0, 0)[1] == id then
      for _, digest in ipairs(profiles) do redis.call('ZADD', 'jobs:heads:' .. digest, 'GT', place, h) end
    end
    if #profiles == 0 and redis.call('HLEN', 'jobs:profiles') > 0 then
      status = 'unworkable'
      unworkable(h)
    end
    arouse(h, known.class, profiles, avoided)
  end
  if status ~= 'pending' or job.status ~= status or job.queue_class ~= h then
    redis.call('HSET', 'job:' .. id, 'queue_class', h, 'status', status)
  end
  return status
end

-- Whether nothing but UTF-8 is in it.
local function is_text(id)
  if not string.find(id, '[\128-\255]') then return true end
  local rest = string.gsub(id, '[\194-\223][\128-\191]', '')
  rest = string.gsub(rest, '[\224-\239][\128-\191][\128-\191]', '')
  rest = string.gsub(rest, '[\240-\244][\128-\191][\128-\191][\128-\191]', '')
  return not string.find(rest, '[\128-\255]')
end

-- A waiting job that another party may have put there. True if it was not filed yet.
local function adopt(id, at)
  if not is_text(id) then -- workers would read another id, and write under that
    bury(id, 'its id is no UTF-8 text', at)
    return true
  end
  local seen = redis.pcall('HMGET', 'job:' .. id, 'queue_class', 'status', 'service_required',
    'requirements', 'customer_id', 'workflow_id', 'priority', 'workflow_priority',
    'workflow_datetime', 'created_at', 'id')
  if seen.err then
    bury(id, 'its record is no hash', at)
    return true
  end
  if not seen[2] and not seen[3] and not seen[11] then
    bury(id, 'the job has no record', at)
    return true
  end
  if given(seen[1]) and redis.call('HEXISTS', 'jobs:classes', seen[1]) == 1
    and redis.call('ZSCORE', 'jobs:class:' .. seen[1], id) then return false end
  redis.call('SET', 'jobs:foreign', 1, 'EX', FOREIGN_KEPT)
  file(id, {service_required = seen[3] or '', requirements = seen[4] or '', customer_id = seen[5] or '',
    workflow_id = seen[6] or '', priority = seen[7], workflow_priority = seen[8],
    workflow_datetime = seen[9], created_at = seen[10]}, at)
  return true
end

local function unfiled()
  return redis.call('ZCARD', 'jobs:pending') - (tonumber(redis.call('GET', 'jobs:index:size') or '0') or 0)
end

-- Search a chunk of what waits for jobs that are not in the index. Returns whether some were found,
-- and whether the end was reached.
local function search(at, most)
  local waiting = redis.call('ZCARD', 'jobs:pending')
  if waiting == 0 then
    redis.call('DEL', 'jobs:index:cursor')
    return false, true
  end
  local from = tonumber(redis.call('GET', 'jobs:index:cursor') or '0') or 0
  if from >= waiting then from = 0 end
  local found = false
  for _, id in ipairs(redis.call('ZREVRANGE', 'jobs:pending', from, from + most - 1)) do
    if apart(id, at, false, adopt, id, at) then found = true end
  end
  local over = from + most >= waiting
  redis.call('SET', 'jobs:index:cursor', over and 0 or from + most, 'EX', 86400)
  if over and not found and unfiled() ~= 0 then
    -- All are filed: set right what the count may have missed.
    local size = 0
    for _, h in ipairs(redis.call('HKEYS', 'jobs:classes')) do
      size = size + redis.call('ZCARD', 'jobs:class:' .. h)
    end
    redis.call('SET', 'jobs:index:size', size, 'EX', INDEX_TTL)
  end
  return found, over
end

-- Look at a chunk of the index for jobs that another party took out of `jobs:pending`, and drop them;
-- a claim would find them only once it comes to them.
local function sweep(most)
  local rank, cursor, h = string.match(redis.call('GET', 'jobs:index:swept') or '', '^(%d+) (%d+) (%x*)$')
  rank, cursor = tonumber(rank or '0'), cursor or '0'
  for _ = 1, CLASSES_SWEPT do
    if cursor == '0' then h = redis.call('ZRANGE', 'jobs:classes:used', rank, rank)[1] end
    if not h then
      rank = 0
      break
    end
    local reply, ids, gone = redis.call('ZSCAN', 'jobs:class:' .. h, cursor, 'COUNT', most), {}, {}
    for i = 1, #reply[2], 2 do ids[#ids + 1] = reply[2][i] end
    if #ids > 0 then
      for i, score in ipairs(redis.call('ZMSCORE', 'jobs:pending', unpack(ids))) do
        if not score then gone[#gone + 1] = ids[i] end
      end
    end
    if #gone > 0 then leave_index(h, unpack(gone)) end
    cursor, most = reply[1], most - #ids
    if cursor == '0' then rank = rank + 1 end
    if most <= 0 then break end
  end
  redis.call('SET', 'jobs:index:swept', rank .. ' ' .. cursor .. ' ' .. (h or ''), 'EX', 86400)
end

-- Say of all that waits in a class whether somebody can do it: a chunk now, the rest later.
local function retell(h)
  redis.call('HSET', 'jobs:telling', h, '0')
  redis.call('EXPIRE', 'jobs:telling', INDEX_TTL)
end

-- Go on with one class of which that is to be told. False if there is none.
local function tell_some()
  local picked = redis.call('HRANDFIELD', 'jobs:telling', 1, 'WITHVALUES')
  local h = picked[1]
  if not h then return false end
  local status = redis.call('SISMEMBER', 'jobs:unworkable', h) == 1 and 'unworkable' or 'pending'
  local reply = redis.call('ZSCAN', 'jobs:class:' .. h, picked[2], 'COUNT', CHUNK)
  for i = 1, #reply[2], 2 do
    local key = 'job:' .. reply[2][i]
    local known = redis.pcall('HGET', key, 'status')
    if known ~= status and WAITING[known] then redis.call('HSET', key, 'status', status) end
  end
  if reply[1] == '0' then redis.call('HDEL', 'jobs:telling', h)
  else redis.call('HSET', 'jobs:telling', h, reply[1]) end
  return true
end

-- Take profiles that are gone out of the classes they fitted: a chunk now, the rest later.
local function drop_some()
  local picked = redis.call('HRANDFIELD', 'jobs:leaving', 1, 'WITHVALUES')
  local digest, cursor = picked[1], picked[2]
  if not digest then return end
  -- With no worker at all nothing is known of what the next ones can do.
  local others, seen = redis.call('HLEN', 'jobs:profiles') > 0, 0
  repeat
    local reply = redis.call('HSCAN', 'jobs:classes', cursor, 'COUNT', CHUNK)
    for i = 1, #reply[2], 2 do
      local h = reply[2][i]
      if redis.call('SREM', 'jobs:fits:' .. h, digest) == 1 and others
        and redis.call('EXISTS', 'jobs:fits:' .. h) == 0
        and redis.call('EXISTS', 'jobs:class:' .. h) == 1 then
        unworkable(h)
        retell(h)
      end
    end
    cursor, seen = reply[1], seen + #reply[2] / 2
  until cursor == '0' or seen >= CHUNK
  if cursor == '0' then
    redis.call('HDEL', 'jobs:leaving', digest)
    redis.call('DEL', 'jobs:heads:' .. digest)
  else
    redis.call('HSET', 'jobs:leaving', digest, cursor)
  end
end

local function drop_profile(digest)
  redis.call('DEL', 'jobs:heads:' .. digest, 'jobs:idle:' .. digest, 'jobs:workers:' .. digest)
  redis.call('HDEL', 'jobs:profiles', digest)
  redis.call('ZREM', 'jobs:profiles:used', digest)
  redis.call('HSET', 'jobs:leaving', digest, '0')
  redis.call('EXPIRE', 'jobs:leaving', INDEX_TTL)
  memo.caps[digest] = nil
end

local function drop_class(h)
  local words = redis.call('HGET', 'jobs:classes', h)
  for _, list in ipairs(words and lists_of(cjson.decode(words)) or {}) do redis.call('SREM', list, h) end
  redis.call('HDEL', 'jobs:classes', h)
  redis.call('ZREM', 'jobs:classes:used', h)
  redis.call('DEL', 'jobs:fits:' .. h)
  redis.call('SREM', 'jobs:unworkable', h)
  redis.call('HDEL', 'jobs:telling', h)
end

-- Forget profiles without a worker, and classes that nobody files in any more.
local function tidy(at)
  for _, digest in ipairs(redis.call('ZRANGEBYSCORE', 'jobs:profiles:used', '-inf',
    at - PROFILE_KEPT, 'LIMIT', 0, 5)) do drop_profile(digest) end
  drop_some()
  local oldest = at - CLASS_KEPT
  if redis.call('ZCARD', 'jobs:classes:used') > MOST_CLASSES then oldest = at end
  for _, h in ipairs(redis.call('ZRANGEBYSCORE', 'jobs:classes:used', '-inf', oldest, 'LIMIT', 0, 20)) do
    if redis.call('EXISTS', 'jobs:class:' .. h) == 1 then
      redis.call('ZADD', 'jobs:classes:used', at, h)
      redis.call('EXPIRE', 'jobs:fits:' .. h, INDEX_TTL)
      local words = redis.call('HGET', 'jobs:classes', h)
      for _, list in ipairs(words and lists_of(cjson.decode(words)) or {}) do
        redis.call('EXPIRE', list, INDEX_TTL)
      end
    else drop_class(h) end
  end
end

local function worker_waits(worker, digest, at)
  redis.call('ZADD', 'jobs:idle:' .. digest, at, worker)
end

-- Whether another worker lives that can do a class; or, for *elsewhere*, one of another machine.
local function others_live(h, worker, machine, elsewhere, at)
  for _, digest in ipairs(fitting(h)) do
    local live = redis.call('ZRANGEBYSCORE', 'jobs:workers:' .. digest, at - WORKER_LIVES, '+inf',
      'LIMIT', 0, 50)
    for _, other in ipairs(live) do
      if other ~= worker and not (elsewhere and machine_of(other) == machine) and not barred(h, other) then
        return true
      end
    end
  end
  return false
end

-- A job failed on a worker: for a while others are to have it, those of other machines first, if
-- there are any.
local function avoid(id, worker, at)
  local machine = machine_of(worker)
  for _, who in ipairs({worker, machine ~= '' and 'machine:' .. machine or nil}) do
    local key = 'jobs:avoided:' .. who
    redis.call('ZADD', key, at + AVOIDED_FOR, id)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', at)
    redis.call('EXPIRE', key, math.ceil(AVOIDED_FOR / 1000))
  end
end

-- The jobs that this worker is to leave to others, and whether to other machines; nil for none.
local function avoided_by(worker, machine, at)
  local found
  for elsewhere, who in pairs({[true] = 'machine:' .. machine, [false] = worker}) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'jobs:avoided:' .. who, at, '+inf')) do
      found = found or {machine = machine, here = {}, ids = {}}
      found.ids[id] = true
      if not elsewhere then found.here[id] = true end
    end
  end
  return found
end

-- Whether a worker is to leave a job of a class to others, of whom some live.
local function left_to_others(id, h, worker, avoided, at)
  if not (avoided and avoided.ids[id]) then return false end
  return others_live(h, worker, avoided.machine, true, at)
    or (avoided.here[id] and others_live(h, worker, avoided.machine, false, at))
end

local AHEAD = 16

-- The first jobs of a class that this worker may have, at most *most*, none below *floor*; and the
-- class's own first place, nil if it is empty. Where that is not the one *believed*, no more is done.
local function first_of(h, worker, avoided, at, most, floor, believed)
  local ahead = avoided and math.max(most, AHEAD) or most
  local entries = redis.call('ZREVRANGE', 'jobs:class:' .. h, 0, ahead, 'WITHSCORES')
  local found, first = {}, tonumber(entries[2])
  if first ~= (believed or first) then return found, first end
  for i = 1, #entries, 2 do
    local place = tonumber(entries[i + 1])
    if #found == most or place < floor then
      found.following = place
      break
    end
    if not left_to_others(entries[i], h, worker, avoided, at) then found[#found + 1] = {entries[i], place}
    else found.passed = true end
  end
  return found, first
end

-- The classes for others than this worker or its machine, and how many; nil for none.
local function barred_here(worker, machine)
  local list = redis.call('SUNION', 'jobs:barred:worker:' .. worker, 'jobs:barred:machine:' .. machine)
  if #list == 0 then return nil, 0 end
  local found = {}
  for _, h in ipairs(list) do found[h] = true end
  return found, #list
end

-- The best job of the classes that name this worker or its machine.
local function best_personal(worker, avoided, machine, digest, at)
  local best, best_h
  for _, h in ipairs(redis.call('SUNION', 'jobs:personal', 'jobs:personal:worker:' .. worker,
    'jobs:personal:machine:' .. machine)) do
    local found = first_of(h, worker, avoided, at, 1, 0)[1]
    if found and (not best or found[2] > best[2]) then
      local caps = cjson.decode(redis.call('HGET', 'jobs:profiles', digest) or '{}')
      caps.worker_id, caps.machine_id = worker, machine
      local class = cjson.decode(redis.call('HGET', 'jobs:classes', h) or '{}')
      if class.service and #lacks(caps, class) == 0 then best, best_h = found, h end
    end
  end
  return best, best_h
end

-- The best jobs for a worker, all of one class, and that class: at most *most*, and none that a job
-- of another class goes before. `more` for the class if there is more to see than one call may.
-- *plain*: no job waits for workers by name.
local function best(worker, avoided, machine, digest, at, most, plain)
  local heads, skipped, own, own_h = 'jobs:heads:' .. digest, 0, nil, nil
  local bars, more = nil, 0
  if not plain then
    own, own_h = best_personal(worker, avoided, machine, digest, at)
    bars, more = barred_here(worker, machine)
  end
  for _ = 1, LOOKS + more do
    local top = redis.call('ZREVRANGE', heads, skipped, skipped + 1, 'WITHSCORES')
    local h, place = top[1], tonumber(top[2])
    if not h or (own and own[2] >= place) then
      return own and {own} or {}, own_h
    end
    -- What is left of a class that was passed over counts for nothing: others are to have it.
    local floor = math.max(tonumber(top[4] or '0'), own and own[2] or 0)
    local alone = skipped == 0 and not (own or top[3]) -- its place decides nothing, and may be too good
    local found, first = {}, place
    if not (bars and bars[h]) then
      found, first = first_of(h, worker, avoided, at, most, floor, not alone and place or nil)
    end
    if not first then redis.call('ZREM', heads, h)
    elseif alone and #found > 0 then return found, h
    elseif first ~= place then redis.call('ZADD', heads, first, h)
    elseif #found > 0 then
      -- What comes after them is known: the next claim need not find out.
      if found.following and not found.passed then redis.call('ZADD', heads, found.following, h) end
      return found, h
    else skipped = skipped + 1
    end
  end
  return {}, 'more'
end
