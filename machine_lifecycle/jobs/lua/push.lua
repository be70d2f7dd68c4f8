
-- Pushing --------------------------------------------------------------------------------------------

local TRIED = 8 -- profiles, and workers, in one call

-- Who waits, and can do the jobs of a class that these profiles fit, each with its profile: who has waited
-- longest is first. Where other jobs wait, for a profile or in the class, these go before.
local function who_waits(h, profiles)
  local found, lists = {}, 0
  for _, digest in ipairs(profiles) do
    if redis.call('EXISTS', 'jobs:heads:' .. digest) == 0 then
      local idle = redis.call('ZRANGE', 'jobs:idle:' .. digest, 0, TRIED - 1, 'WITHSCORES')
      for i = 1, #idle, 2 do found[#found + 1] = {idle[i], tonumber(idle[i + 1]), digest} end
      if idle[1] then lists = lists + 1 end
      if lists == TRIED then break end
    elseif #profiles == 1 or redis.call('EXISTS', 'jobs:class:' .. h) == 1 then return {} end
  end
  if lists > 1 then table.sort(found, function(one, other) return one[2] < other[2] end) end
  return found
end

-- What is known of one who waits, if it hears us and takes what is pushed; nil where it has to be asked the
-- ordinary way, and false where all have.
local function taker(worker, digest, at)
  local readable, seen = pcall(seen_of, worker, 'machine_id', 'waits', 'pushed', 'last_heartbeat')
  if not readable then return nil end -- something else stands in its place
  local machine, for_digest, room, lease, since, name = seen[6] or '', waits_of(seen[7])
  may_be_heard('job_claimed', 'update_job_progress', channel_of(machine, worker))
  if not listens('jobs:wake:' .. worker) then
    redis.call('ZREM', 'jobs:idle:' .. digest, worker) -- it is gone
    return nil
  end
  if not (seen[1] and for_digest == digest and room > 0) then return nil end
  if at - since > lease and at - (ms_of(seen[9]) or 0) > lease then return nil end -- it may be frozen
  if not nothing_special(worker, machine) then
    if redis.call('EXISTS', 'jobs:delayed', 'jobs:personal') > 0 then return false end
    return nil
  end
  return {name = worker, machine = machine, seen = seen, room = room, lease = lease, since = since,
    process = name, number = (tonumber(seen[8]) or 0) + 1}
end

-- Claim a job for a worker, and send it there. *words*: its hash until now, as HSET takes it.
local function send(id, job, words, digest, worker, at)
  local text, room, size = cjson.encode(job), worker.room - 1, #(job.payload or '')
  set(words, 'status', 'assigned')
  set(words, 'worker_id', worker.name)
  set(words, 'assigned_at', iso(at))
  set(words, 'fence', 1)
  set(words, 'pushed', words_of(1, worker.number, worker.process, worker.lease))
  if size > HEAVY then set(words, 'payload_bytes', size) end
  -- Before all else, as what follows may be refused: the lease brings the job back then.
  redis.call('ZADD', 'jobs:leases', at + math.min(worker.lease, HEARD_WITHIN), id)
  worker_now(worker.name, worker.seen, at, id, 0, 0, 'pushed', worker.number,
    'waits', words_of(digest, room, worker.lease, worker.since, worker.process))
  redis.call('HSET', 'job:' .. id, unpack(words))
  redis.call('HSET', 'jobs:active:' .. worker.name, id, text)
  if room > 0 then redis.call('ZADD', 'jobs:idle:' .. digest, at, worker.name)
  else redis.call('ZREM', 'jobs:idle:' .. digest, worker.name) end
  redis.call('PUBLISH', 'jobs:wake:' .. worker.name,
    words_of(worker.number, 1, worker.process, cjson.encode(id)) .. '\n' .. text)
  tell_claimed(id, job, worker.name, worker.machine, at)
end

-- Push a job that has just come, if a worker waits for it and no other job goes before it. Whether it was.
-- *a*: what was said of it, its fields from the fourth word on.
local function push(id, job, a, known, profiles, at)
  if known.personal or #(job.payload or '') > PUSHED_MOST then return false end
  for i, one in ipairs(who_waits(known.h, profiles)) do
    local worker = i <= TRIED and taker(one[1], one[3], at)
    if worker == false then return false end
    if worker then
      local sent = pcall(send, id, job, {unpack(a, 4)}, one[3], worker, at)
      if not sent then -- another party put something in the place of a key; the ordinary way needs it not
        redis.pcall('HDEL', 'jobs:active:' .. worker.name, id)
        redis.pcall('ZREM', 'jobs:leases', id)
        redis.pcall('DEL', 'job:' .. id)
      end
      return sent
    end
  end
  return false
end

-- What was pushed to a worker's process since the number that it names, and has not ended: id, fence, fields
-- as JSON, number. *known*: the jobs that it has.
local function missed_by(worker, process, number, known)
  local missed = {}
  for _, id in ipairs(redis.call('HKEYS', 'jobs:active:' .. worker)) do
    if not known[id] then
      local job = hash('job:' .. id)
      local pushed, by = pushed_as(job)
      if RUNNING[job.status] and job.worker_id == worker and by == process and pushed > number then
        missed[#missed + 1] = {id, tonumber(job.fence), cjson.encode(job), pushed}
      end
    end
  end
  return missed
end
