
-- Runs of jobs ------------------------------------------------------------------------------------

local RUNNING = {assigned = true, in_progress = true, accepted = true}

-- A job that waits goes back among those that do, to the place it had.
local function wait_again(id, job, at, avoided)
  redis.call('ZADD', 'jobs:pending', job.queue_score or '0', id)
  return file(id, job, at, avoided)
end

-- Jobs whose wait after a failure is over go back to the place they had. Returns when the next is due.
local function promote(at)
  local first = redis.call('ZRANGE', 'jobs:delayed', 0, 0, 'WITHSCORES')
  if not first[1] then return -1 end
  if tonumber(first[2]) <= at then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'jobs:delayed', '-inf', at, 'LIMIT', 0, 100)) do
      redis.call('ZREM', 'jobs:delayed', id)
      local job = hash('job:' .. id)
      if job.status == 'pending' then
        apart(id, at, false, wait_again, id, job, at, job.last_failed_worker)
      end
    end
    first = redis.call('ZRANGE', 'jobs:delayed', 0, 0, 'WITHSCORES')
  end
  return first[2] and math.max(0, tonumber(first[2]) - at) or -1
end

local function channel_of(machine, worker) return 'machine:' .. machine .. ':worker:' .. worker end

local function worker_event(machine, worker, kind, id, service, outcome, at)
  local channel = channel_of(machine, worker)
  if machine == '' or not is_heard(channel) then return end
  publish(channel, {worker_id = worker, event_type = kind,
    data = {job_id = id, service_type = service, outcome = outcome}, timestamp = at})
end

-- What the worker's hash says of it. *seen*: what `seen_of` told. *current*: what it runs, nil if that is
-- as it was. More pairs to set may follow.
local function worker_now(worker, seen, at, current, completed, failed, ...)
  local key, change = 'worker:' .. worker, {...}
  local function set(name, value) change[#change + 1], change[#change + 2] = name, value end
  if seen[1] and current then
    if completed > 0 then set('total_jobs_completed', (tonumber(seen[4]) or 0) + completed) end
    if failed > 0 then set('total_jobs_failed', (tonumber(seen[5]) or 0) + failed) end
    local status = current == '' and 'idle' or 'busy'
    if seen[2] == 'paused' or seen[2] == 'draining' then status = seen[2] end
    if seen[2] ~= status or seen[3] ~= current then
      set('status', status)
      set('current_job_id', current)
      set('last_status_change', iso(at))
    end
  end
  if #change > 0 then redis.call('HSET', key, unpack(change)) end
  if not seen[1] then redis.call('EXPIRE', key, WORKER_TTL) end -- it has left, or has not come yet
end

local function seen_of(worker, ...)
  return redis.call('HMGET', 'worker:' .. worker, 'worker_id', 'status', 'current_job_id',
    'total_jobs_completed', 'total_jobs_failed', ...)
end

local function running_here(worker)
  return redis.call('HKEYS', 'jobs:active:' .. worker)[1] or ''
end

local function tell_claimed(id, job, worker, machine, at)
  if is_heard('job_claimed') then
    publish('job_claimed', {job_id = id, worker_id = worker, status = 'claimed',
      message = 'Job claimed by worker', claimed_at = iso(at), timestamp = at,
      service_required = job.service_required, customer_id = job.customer_id or '',
      workflow_id = job.workflow_id or '', step_number = job.current_step or '',
      total_steps = job.total_steps or ''})
  end
  if is_heard('update_job_progress') then
    publish('update_job_progress', {job_id = id, worker_id = worker, progress = 0, timestamp = at})
  end
  worker_event(machine, worker, 'job_started', id, job.service_required, nil, at)
end

-- Give a job to a worker: id, fence, and its fields before that as JSON; and these themselves. Nil if
-- it can't be given.
local function take(id, score, worker, machine, at)
  local key = 'job:' .. id
  local before, wrong = hash(key)
  if not next(before) then
    bury(id, wrong and 'its record is no hash' or 'the job has no record', at)
    return nil
  end
  if before.status and not WAITING[before.status] then return nil end
  local fence = exactly(before.fence, 0, SPAN, 0) + 1
  redis.call('HSET', key, 'status', 'assigned', 'worker_id', worker, 'assigned_at', iso(at),
    'queue_score', score, 'fence', fence)
  if before.payload and #before.payload > HEAVY then
    redis.call('HSET', key, 'payload_bytes', #before.payload)
  end
  if before.cancel_requested or before.started_at or before.release_reason then
    redis.call('HDEL', key, 'cancel_requested', 'cancel_reason', 'started_at', 'release_reason')
  end
  tell_claimed(id, before, worker, machine, at)
  return {id, fence, cjson.encode(before)}, before
end

-- Give these jobs of one class to a worker, those of them that can be given.
local function take_all(found, h, worker, machine, lease, at, jobs)
  local ids = {}
  for i, entry in ipairs(found) do ids[i] = entry[1] end
  local scores = redis.call('ZMSCORE', 'jobs:pending', unpack(ids))
  local active, leases = {}, {}
  for i, id in ipairs(ids) do
    if scores[i] then leases[#leases + 1], leases[#leases + 2] = at + (lease or 0), id end
  end
  -- Before all else: should Redis refuse what follows, the jobs come back when this ends.
  if lease and #leases > 0 then redis.call('ZADD', 'jobs:leases', unpack(leases)) end
  leave_index(h, unpack(ids))
  redis.call('ZREM', 'jobs:pending', unpack(ids))
  for i, id in ipairs(ids) do
    -- Without a score another party took or cancelled it: our index learns of it here.
    local job, before
    if scores[i] then job, before = apart(id, at, false, take, id, scores[i], worker, machine, at) end
    if job then
      jobs[#jobs + 1] = job
      active[#active + 1], active[#active + 2] = id, job[3]
    elseif scores[i] and not before then redis.call('ZREM', 'jobs:leases', id) end
  end
  if #active > 0 then redis.call('HSET', 'jobs:active:' .. worker, unpack(active)) end
end

local function drain_of(machine) return 'machine:' .. machine .. ':drained' end

-- Whether somebody ordered that a machine take no jobs. The order lasts while anybody asks.
local function drained(machine)
  return redis.call('EXPIRE', drain_of(machine), RECORD_TTL) == 1
end

-- Whether a worker's turn has just its jobs to look at. One question instead of many.
local function nothing_special(worker, machine)
  return redis.call('EXISTS', 'jobs:delayed', drain_of(machine), 'jobs:avoided:' .. worker,
    'jobs:avoided:machine:' .. machine, 'jobs:personal', 'jobs:personal:worker:' .. worker,
    'jobs:personal:machine:' .. machine, 'jobs:barred:worker:' .. worker,
    'jobs:barred:machine:' .. machine) == 0
end

-- Up to *want* jobs for a worker, and whether it should ask again at once. *plain*: no job waits
-- for workers by name, or is to be left to others.
local function claim(worker, machine, digest, want, lease, at, plain)
  local jobs, avoided = {}, nil
  if not plain then avoided = avoided_by(worker, machine, at) end
  for _ = 1, want + LOOKS do
    if #jobs >= want then return jobs, '' end
    local found, h = best(worker, avoided, machine, digest, at, want - #jobs, plain)
    if h == 'more' then return jobs, 'more' end
    if #found > 0 then take_all(found, h, worker, machine, lease, at, jobs)
    elseif unfiled() <= 0 then return jobs, ''
    else
      local some, over = search(at, CHUNK)
      if not some then return jobs, over and '' or 'more' end
    end
  end
  return jobs, 'more'
end

local RUN = {'status', 'worker_id', 'fence', 'assigned_at', 'cancel_requested', 'pushed'}

-- A job, if it is still this worker's in this run of it; with *briefly*, what tells of the run alone.
local function mine(id, worker, fence, briefly)
  local key = 'job:' .. id
  local job = briefly and fields(key, RUN) or hash(key)
  if RUNNING[job.status] and job.worker_id == worker and job.fence == fence then return job end
  if job.worker_id ~= worker or not RUNNING[job.status] then
    redis.call('HDEL', 'jobs:active:' .. worker, id)
  end
  return nil
end

local function requeue(id, job, at, avoided)
  redis.call('HSET', 'job:' .. id, 'status', 'pending', 'worker_id', '')
  redis.call('HDEL', 'job:' .. id, 'assigned_at', 'started_at')
  redis.call('ZREM', 'jobs:leases', id)
  step(id, job, 'pending', 0, at, '', 'back in the queue')
  return wait_again(id, job, at, avoided)
end

local function end_cancelled(id, job, reason, at)
  redis.call('ZREM', 'jobs:pending', id)
  redis.call('ZREM', 'jobs:delayed', id)
  unfile(id, job)
  redis.call('HSET', 'job:' .. id, 'status', 'cancelled', 'error', reason, 'failed_at', iso(at))
  record(id, {error = reason, failed_at = iso(at), cancelled = true,
    retry_count = exactly(job.retry_count, 0, SPAN, 0)}, at)
  step(id, job, 'cancelled', 0, at, job.worker_id, reason)
  ended(id, 'cancelled')
  publish('jobs:ended', {job_id = id, status = 'cancelled', reason = reason, timestamp = at})
end

local function not_begun_here(worker, id)
  local ids = redis.pcall('HGET', 'worker:' .. worker, 'ahead')
  return type(ids) == 'string' and string.find('\0' .. ids .. '\0', '\0' .. id .. '\0', 1, true)
end

-- Take a job from a worker without using up an attempt. A crash counts, so that a job which kills
-- whatever runs it comes to an end, unless it never began; so does a service that lost it, for longer.
local function hand_back(id, worker, job, why, reason, at)
  redis.pcall('HDEL', 'jobs:active:' .. worker, id)
  local asleep = why == 'crash' and unheard(worker, job)
  if asleep or (why == 'crash' and not_begun_here(worker, id)) then
    why = 'release' -- another one ran, or none
  end
  if job.cancel_requested == '1' then
    end_cancelled(id, job, job.cancel_reason or 'cancelled', at)
    return 'cancelled'
  end
  tell_story(id, job, {at = iso(at), worker = worker, event = why, error = reason})
  local counted = why == 'crash' and {'crashes', MAX_CRASHES} or why == 'lost' and {'losses', MAX_LOST}
  if counted and redis.call('HINCRBY', 'job:' .. id, counted[1], 1) >= counted[2] then
    bury(id, 'poison: ended ' .. counted[2] .. ' runs without a result, last: ' .. reason, at)
    return 'dead'
  end
  if counted then
    redis.call('HSET', 'job:' .. id, 'last_failed_worker', worker)
    avoid(id, worker, at)
  end
  if asleep then pcall(forget_waiting, worker) end
  if reason ~= '' then redis.call('HSET', 'job:' .. id, 'release_reason', reason) end
  requeue(id, job, at, (counted or asleep) and worker or nil)
  return 'released'
end

-- The server's clock was set back: what is to end at a time is to end as much earlier.
local function set_back(name, by, from)
  local late = redis.call('ZRANGEBYSCORE', name, from, '+inf', 'WITHSCORES', 'LIMIT', 0, MOST_AT_ONCE)
  for i = 1, #late, 2 do redis.call('ZADD', name, tonumber(late[i + 1]) - by, late[i]) end
end

-- Whether workers that were not heard of may be living all the same: none was heard of for longer than
-- from one beat to the next, so that it was the server that was away, or its clock that was set. They have
-- the length of one more lease to come back.
local function all_were_away(at, lease)
  local heard_at = tonumber(redis.call('GET', 'jobs:heard') or at) or at
  redis.call('SET', 'jobs:heard', at, 'EX', ACTIVE_TTL)
  if at - heard_at > lease * 0.55 then -- who runs a job beats twice in a lease
    redis.call('SET', 'jobs:spared', 1, 'PX', lease)
  end
  if heard_at - at > lease then
    for _, name in ipairs({'jobs:leases', 'jobs:delayed'}) do set_back(name, heard_at - at, at + lease) end
  end
  return redis.call('EXISTS', 'jobs:spared') == 1
end

-- What became of a job whose lease is over, in a word and in words. A worker that has told since what it
-- runs, and did not name it, lives: it was the server that forgot how the job ended, as its successor may.
local function gone(worker, job, lease_end, at)
  local named_until = tonumber(redis.pcall('HGET', 'worker:' .. worker, 'named_until')) or 0
  if lease_end < named_until and not unheard(worker, job) then
    return 'lost', 'its worker lives, and has it no more', at
  end
  return 'crash', 'its worker was not heard of any more', at
end

-- Jobs whose worker has not been heard of. Any worker's beat does it, without a lock.
local function reap(at)
  local over = redis.call('ZRANGEBYSCORE', 'jobs:leases', '-inf', at, 'WITHSCORES', 'LIMIT', 0, 100)
  for i = 1, #over, 2 do
    local id = over[i]
    local run = fields('job:' .. id, RUN)
    if not (RUNNING[run.status] and goes_on(id, run, at)) then
      local job = hash('job:' .. id)
      redis.call('ZREM', 'jobs:leases', id)
      if RUNNING[job.status] then
        apart(id, at, false, hand_back, id, job.worker_id or '', job,
          gone(job.worker_id or '', job, tonumber(over[i + 1]), at))
      elseif WAITING[job.status] then -- a claim that was broken off in its midst
        apart(id, at, false, wait_again, id, job, at)
      end
    end
  end
end

-- Small files that came with a result, whose keys it names, go to who waits for the job before its end is
-- told, so that none need be asked for; who listens at another server asks. Returns the bytes of all.
local function tell_outputs(id, result)
  local key, channel, bytes, from, left = 'job:' .. id .. ':output:', 'jobs:outputs:' .. id, 0, 1, nil
  while true do
    local _, over = string.find(result, '"' .. key, from, true)
    if not over then return bytes end
    left = left or redis.call('PUBSUB', 'NUMSUB', channel)[2] > 0 and OUTPUTS_TOLD or 0
    local number = string.match(result, '^%d+', over + 1) or ''
    local size = redis.call('STRLEN', key .. number)
    if size > 0 and size <= left then
      left = left - size
      redis.call('PUBLISH', channel, number .. '\n' .. redis.call('GET', key .. number))
    end
    bytes, from = bytes + size, over + 1
  end
end

local STEP = {'workflow_id', 'current_step', 'total_steps', 'workflow_priority', 'workflow_datetime'}

local function tell_completed(worker, at, id, result)
  local seen, job = redis.call('HMGET', 'job:' .. id, unpack(STEP)), {}
  for i, name in ipairs(STEP) do job[name] = seen[i] end
  local message = cjson.encode(workflow_fields(job, {job_id = id, worker_id = worker,
    progress = 100, status = 'completed', message = 'Job completed successfully', timestamp = at}))
  if #result <= TOLD_MOST then message = string.sub(message, 1, -2) .. ',"result":' .. result .. '}' end
  redis.call('PUBLISH', 'complete_job', message)
end

-- That a job be cancelled was asked for before its result came: it ends so, and the result is dropped.
local function too_late(worker, machine, at, id, service)
  local job = hash('job:' .. id)
  redis.call('HDEL', 'jobs:active:' .. worker, id)
  for n = 0, OUTPUTS_FORGOTTEN - 1 do redis.call('DEL', 'job:' .. id .. ':output:' .. n) end
  worker_now(worker, seen_of(worker), at, running_here(worker), 0, 0)
  worker_event(machine, worker, 'job_completed', id, service, 'cancelled', at)
  end_cancelled(id, job, job.cancel_reason or 'cancelled', at)
  return 'cancelled'
end

-- Write a result. `ok` and the bytes of its files and, if those are many, of its payload; or `lost` for
-- a run that may not write any more, or `cancelled`. Once more for one that is written is `ok` alone.
local function complete(worker, machine, at, id, fence, result, proof, proof_key, took, service)
  local key = 'job:' .. id
  local seen = redis.pcall('HMGET', key, 'status', 'worker_id', 'fence', 'started_at', 'assigned_at',
    'payload_bytes', 'cancel_requested')
  local status, mine_still = seen[1], RUNNING[seen[1]] and seen[2] == worker
  if not (mine_still and seen[3] == fence) then
    if status == 'completed' and seen[3] == fence then return 'ok' end
    if not mine_still then redis.call('HDEL', 'jobs:active:' .. worker, id) end
    redis.call('SET', key .. ':late:' .. fence, result, 'EX', 3600)
    return 'lost'
  end
  if seen[7] == '1' then return too_late(worker, machine, at, id, service) end
  local when = iso(at)
  redis.call('HSET', key, 'status', 'completed', 'completed_at', when, 'started_at',
    given(seen[4]) and seen[4] or seen[5] or when, 'processing_time', took, 'proof', proof_key)
  redis.call('EXPIRE', key, TERMINAL_TTL.completed)
  redis.call('SET', proof_key, proof, 'EX', RECORD_TTL)
  if status ~= 'assigned' then -- else it was over before it reported any progress
    redis.pcall('HSET', key .. ':progress', 'progress', '100', 'status', 'completed',
      'message', 'Job completed', 'updated_at', when)
    redis.call('EXPIRE', key .. ':progress', ENDED_PROGRESS_TTL)
  end
  if status ~= 'assigned' or fence ~= '1' then
    step(id, {status = status, assigned_at = seen[5], worker_id = worker}, 'completed', 100, at, worker, '',
      ENDED_PROGRESS_TTL)
  end
  local output_bytes = tell_outputs(id, result)
  if is_heard('complete_job') then tell_completed(worker, at, id, result) end
  worker_event(machine, worker, 'job_completed', id, service, 'completed', at)
  return 'ok', (given(seen[6]) and length_of(id, 'payload') or 0) + output_bytes
end

-- The end of a run can't be written, for a reason that stays. The answer is `refused`, where the job
-- ended with that as its cause, or `unwritten`; and the reason. A result is kept for an hour.
local function answer_refused(worker, id, fence, result, why, ended_so)
  if not ended_so then return 'unwritten ' .. why end
  redis.pcall('HDEL', 'jobs:active:' .. worker, id)
  redis.pcall('HDEL', 'job:' .. id, 'completed_at', 'processing_time')
  if result then redis.pcall('SET', 'job:' .. id .. ':late:' .. fence, result, 'EX', 3600) end
  return 'refused ' .. why
end

-- Write results: a list of what became of each, and how many were written. *a* holds seven words
-- for each, from *from* on.
local function complete_all(worker, machine, at, a, from)
  local answers, done, times, results, heavy = {}, {}, {}, {}, false
  if #a >= from then look_at_records('jobs:completed') end
  for i = from, #a, 7 do
    local said, more, ended_so = apart(a[i], at, true, complete, worker, machine, at, a[i], a[i + 1], a[i + 2],
      a[i + 3], a[i + 4], a[i + 5], a[i + 6])
    if not said then said = answer_refused(worker, a[i], a[i + 1], a[i + 2], more, ended_so) end
    answers[#answers + 1] = said
    if said == 'ok' then
      done[#done + 1] = a[i]
      times[#times + 1], times[#times + 2] = at, a[i]
      -- The worker's own text goes in as it is: decoding and encoding would turn [] into {}.
      results[#results + 1], results[#results + 2] = a[i], '{"success":true,"data":' .. a[i + 2]
        .. ',"completed_at":"' .. iso(at) .. '"}'
      heavy = more and weigh('jobs:completed', a[i], #a[i + 2] + #a[i + 3] + more, at) or heavy
    end
  end
  if #done > 0 then
    redis.call('ZREM', 'jobs:leases', unpack(done))
    redis.call('HDEL', 'jobs:active:' .. worker, unpack(done))
    redis.call('ZADD', 'jobs:completed:at', unpack(times))
    redis.call('HSET', 'jobs:completed', unpack(results))
    -- Not each time: that would be a third of the cost of a short job. More than came meanwhile
    -- goes then, else they would become ever more.
    if heavy or at % 8 == 0 then
      trim_records('jobs:completed', at, TERMINAL_TTL.completed,
        math.min(math.max(FORGOTTEN_AT_ONCE, 16 * #done), 1000))
    end
  end
  return answers, #done
end
