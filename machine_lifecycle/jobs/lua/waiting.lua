
-- Workers that wait, and jobs that are pushed to them ------------------------------------------------
--
-- A job that comes while a worker waits goes to it at once, without its asking: it is claimed for the
-- worker by the call that submits it, and told on the worker's own channel. That saves both a round trip.
--
-- The worker's record says what it waits for, in `waits`: profile, jobs it has room for, ms of a lease,
-- since when, and the name of the process. `pushed` numbers what was pushed to it. It says with each turn
-- up to which number it has heard: what is still on its way to it takes of its room, so that it never has
-- more than it can do. What it missed, as its connection broke, the next beat brings. Two processes that
-- have one id by mistake hear the same: each takes only what is for its own name.
--
-- A worker may be frozen when a job is pushed to it, or its machine lost. `heard` is what it last said of
-- itself. A job of which it has not is looked at after a moment: who is to begin it is asked for a beat,
-- and if none comes, the job goes back to its place. That is held against no job, as it has not begun, for
-- all that is known; and as a job is pushed but once, when it comes, that may be wrong but once.

local HEARD_WITHIN = 1000 -- ms after which a pushed job is looked at: most are over, or are known to have begun
local BEATS_WITHIN = 4000 -- ms in which a worker beats that is asked to: it may be coming back to a server

local function words_of(...) return table.concat({...}, ' ') end

local function waits_of(words)
  local digest, room, lease, since, name = string.match(words or '', '^(%S+) (%d+) (%d+) (%d+) ?(%S*)$')
  return digest, tonumber(room), tonumber(lease), tonumber(since), name
end

-- What a worker says of itself: up to which number it has heard, and the name of its process.
local function heard_in(word)
  local number, name = string.match(word, '^(%d+) ?(%S*)$')
  return tonumber(number), name
end

-- What a worker waited for before is not what it waits for now.
local function waits_no_more(worker, before, digest, room)
  local from = waits_of(before)
  if from and (room == 0 or from ~= digest) then redis.call('ZREM', 'jobs:idle:' .. from, worker) end
end

local function set(words, name, value) words[#words + 1], words[#words + 2] = name, value end

-- It waits for nothing, until it asks again.
local function forget_waiting(worker)
  local digest = waits_of(redis.call('HGET', 'worker:' .. worker, 'waits') or '')
  if digest then redis.call('ZREM', 'jobs:idle:' .. digest, worker) end
  redis.call('HDEL', 'worker:' .. worker, 'waits')
end

-- How a job was pushed to the process that is to run it now: number, process, ms of a lease, and whether
-- that was asked for a beat. Nil for one that was not, or of which that is no longer of interest.
local function pushed_as(job)
  local fence, number, process, lease, asked = string.match(job.pushed or '',
    '^(%d+) (%d+) (%S*) ?(%d*) ?(%d?)$')
  if not fence or fence ~= job.fence then return nil end
  return tonumber(number), process, tonumber(lease), asked == '1'
end

-- Whether a job is one of which its worker never said that it heard.
local function unheard(worker, job)
  local number, process = pushed_as(job)
  if not number or job.status ~= 'assigned' then return false end
  local said = redis.pcall('HGET', 'worker:' .. worker, 'heard')
  local heard_of, by = heard_in(type(said) == 'string' and said or '')
  return not (heard_of and by == process and heard_of >= number)
end

-- Whether a job whose lease is over is one to go on with, as it was pushed but a moment ago. One that has
-- begun, for all that is known, has the rest of its lease from now on.
local function goes_on(id, job, at)
  local number, process, lease, asked = pushed_as(job)
  if not (lease and job.worker_id) then return false end
  local begun = not unheard(job.worker_id, job)
  if asked and not begun then return false end
  if begun then
    redis.call('HDEL', 'job:' .. id, 'pushed')
    lease = lease - HEARD_WITHIN
  else
    redis.call('HSET', 'job:' .. id, 'pushed', words_of(job.fence, number, process, lease, 1))
    redis.call('PUBLISH', 'jobs:wake:' .. job.worker_id, '?\n')
    lease = math.min(lease, BEATS_WITHIN)
  end
  if lease > 0 then redis.call('ZADD', 'jobs:leases', at + lease, id) end
  return lease > 0
end
