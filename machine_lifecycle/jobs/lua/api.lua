
-- Functions ---------------------------------------------------------------------------------------

local api = {} -- a name each would be too many: Lua has 200 for all that is written here

-- id, score, message, fields… Returns `ok`, `known` for an id that there is, or `refused` and why
-- nobody could ever run it: then nothing is written.
function api.ml1_submit(_, a)
  local at = now()
  if redis.call('EXISTS', 'job:' .. a[1]) == 1 then return 'known' end
  local job = {}
  for i = 4, #a, 2 do job[a[i]] = a[i + 1] end
  local known, reason = known_class(job, at)
  if not known then return 'refused ' .. reason end
  job.queue_class, job.queue_score = known.h, a[2]
  set(a, 'queue_class', known.h)
  set(a, 'queue_score', a[2])
  redis.call('PUBLISH', 'job_submitted', a[3])
  local profiles = not known.personal and fitting(known.h) or {}
  if push(a[1], job, a, known, profiles, at) then return 'ok' end
  redis.call('HSET', 'job:' .. a[1], unpack(a, 4))
  redis.call('ZADD', 'jobs:pending', a[2], a[1])
  file(a[1], job, at, nil, known, profiles)
  return 'ok'
end

local function ids_of(jobs)
  local ids = {}
  for i, job in ipairs(jobs) do ids[i] = job[1] end
  return table.concat(ids, '\0')
end

-- Ids of the jobs that a worker has and has not begun: of those that it had, the last ones, so many; and
-- those that it gets beyond what it wants to begin with.
local function not_begun(had, left, jobs, want)
  local ids, later = {}, {}
  for id in string.gmatch(had, '%Z+') do ids[#ids + 1] = id end
  for i = math.max(1, #ids - left + 1), #ids do later[#later + 1] = ids[i] end
  for i = want + 1, #jobs do later[#later + 1] = jobs[i][1] end
  return table.concat(later, '\0')
end

-- worker, machine, digest, token, lease ms, jobs wanted (N; or N+M-K: it does not wait for M of them, and
-- has K that it has not begun), and for each result: id, fence, result JSON, attestation JSON, its key, ms it took, service. At the end, from
-- a worker that takes what is pushed to it: up to which number it has heard of that, and the name of its
-- process. What ended is written down, and what comes next is claimed. Returns: per result `ok` or `lost`; jobs as {id, fence, fields as
-- JSON}; `profile` if the capabilities are to be told, `more` if it should ask again, `pushed` if it should
-- once it has heard of what is on its way, `drained` if its machine is to take none, or empty; ms until a
-- job is due.
function api.ml1_turn(_, a)
  local heard_of, process, word
  if (#a - 6) % 7 == 1 then
    word = table.remove(a)
    heard_of, process = heard_in(word)
  end
  local worker, machine, digest, token = a[1], a[2], a[3], a[4]
  local lease, want, ahead, left = tonumber(a[5]), string.match(a[6], '^(%d+)%+?(%d*)%-?(%d*)$')
  want = math.min(tonumber(want), MOST_AT_ONCE)
  local all = math.min(want + (tonumber(ahead) or 0), MOST_AT_ONCE)
  local at = now()
  may_be_heard('job_claimed', 'update_job_progress', 'complete_job', channel_of(machine, worker))
  local answers, completed = complete_all(worker, machine, at, a, 7)
  local plain, due, jobs, again = nothing_special(worker, machine), -1, {}, ''
  if not plain then
    due = promote(at)
    if all > 0 and drained(machine) then all, again = 0, 'drained' end
  end
  local lane = 'turn_' .. string.sub(token, 1, 1)
  local seen = seen_of(worker, 'waits', 'pushed', lane, 'ahead', 'heard')
  local waited, pushed, last = seen[6] or '', tonumber(seen[7]) or 0, seen[8]
  local on_its_way = heard_of and math.max(0, pushed - heard_of) or 0
  local change, room, later = {}, 0, seen[9] or ''
  if #token > 1 and last and string.sub(last, 1, #token) == token then
    -- A reply that was lost on its way: the same question gets the same answer, also from one who
    -- wants nothing more by now.
    for id in string.gmatch(string.sub(last, #token + 1), '%Z+') do
      local job = hash('job:' .. id)
      local fence = tonumber(job.fence)
      if RUNNING[job.status] and job.worker_id == worker and fence then
        jobs[#jobs + 1] = {id, fence, cjson.encode(job)}
      end
    end
  end
  -- Where nothing is left of that answer, as the leases have ended, it is a new question. Else it waits for
  -- nothing from here on.
  local new = #jobs == 0
  if not new and again == '' then again = 'more' end
  if new and all > 0 then
    local most = math.max(0, all - on_its_way)
    want = math.max(0, want - on_its_way)
    if not redis.call('ZSCORE', 'jobs:workers:' .. digest, worker) then
      again = 'profile'
    else
      if most > 0 then jobs, again = claim(worker, machine, digest, most, lease, at, plain) end
      -- Who has nothing else to do goes on with this until it is done.
      if #jobs == 0 and most > 0 and again == '' and tell_some() then again = 'more' end
      if #jobs > 0 then set(change, lane, token .. '\0' .. ids_of(jobs)) end
      if #jobs < want and again == '' then
        room = want - #jobs
        worker_waits(worker, digest, at)
      elseif not heard_of then redis.call('ZREM', 'jobs:idle:' .. digest, worker)
      elseif again == '' and on_its_way > 0 then again = 'pushed' end
    end
  end
  if new and (later ~= '' or #jobs > want) then
    later = not_begun(later, tonumber(left) or 0, jobs, want)
    if later ~= (seen[9] or '') then set(change, 'ahead', later) end
  end
  if heard_of then
    if pushed < heard_of then set(change, 'pushed', heard_of) end -- the server forgot
    if word ~= seen[10] then set(change, 'heard', word) end
    local waits = room > 0 and words_of(digest, room, lease, at, process) or ''
    if waits ~= waited then set(change, 'waits', waits) end
    if room > 0 and #jobs == 0 then set(change, lane, token) end -- whose name `ml1_leave` looks for
    waits_no_more(worker, waited, digest, room)
  end
  local current = nil
  if #jobs > 0 then current = jobs[1][1] elseif completed > 0 then current = running_here(worker) end
  if current or #change > 0 then worker_now(worker, seen, at, current, completed, 0, unpack(change)) end
  return {answers, jobs, again, due}
end

-- worker, digest, capabilities JSON without its name, cursor: make known what the worker can do.
-- Returns the cursor to go on with, '0' at the end.
function api.ml1_profile(_, a)
  local worker, digest, at = a[1], a[2], now()
  if redis.call('HSETNX', 'jobs:profiles', digest, a[3]) == 1 then
    redis.call('HDEL', 'jobs:leaving', digest)
    if a[4] == '' then redis.call('DEL', 'jobs:heads:' .. digest, 'jobs:idle:' .. digest) end
  end
  redis.call('ZADD', 'jobs:profiles:used', at, digest)
  redis.call('ZADD', 'jobs:workers:' .. digest, at, worker)
  for _, name in ipairs({'jobs:profiles', 'jobs:profiles:used'}) do
    redis.call('EXPIRE', name, INDEX_TTL)
  end
  redis.call('EXPIRE', 'jobs:workers:' .. digest, INDEX_TTL)
  local caps = caps_of(digest)
  local kind, cursor = string.match(a[4], '^(%a)(%d+)$')
  if given(caps.workflow_id) and kind ~= 'c' then
    -- Its workflow's jobs get classes of their own, those too that wait already.
    redis.call('SADD', 'jobs:pins', caps.workflow_id)
    redis.call('EXPIRE', 'jobs:pins', INDEX_TTL)
    local from = tonumber(cursor or '0')
    local ids = redis.call('ZREVRANGE', 'jobs:pending', from, from + CHUNK - 1)
    for _, id in ipairs(ids) do
      if redis.pcall('HGET', 'job:' .. id, 'workflow_id') == caps.workflow_id then
        local job = hash('job:' .. id)
        unfile(id, job)
        file(id, job, at)
      end
    end
    if #ids == CHUNK then return 'w' .. (from + CHUNK) end
    cursor = '0'
  end
  local reply = redis.call('HSCAN', 'jobs:classes', cursor or '0', 'COUNT', 100)
  for i = 1, #reply[2], 2 do
    local h, class = reply[2][i], cjson.decode(reply[2][i + 1])
    if not personal(class) then
      local fresh = redis.call('SISMEMBER', 'jobs:unworkable', h) == 1
      if fit(h, class, digest) then
        local head = redis.call('ZREVRANGE', 'jobs:class:' .. h, 0, 0, 'WITHSCORES')
        if head[1] then redis.call('ZADD', 'jobs:heads:' .. digest, head[2], h) end
        if fresh then retell(h) end
      end
    end
  end
  tell_some()
  return reply[1] == '0' and '0' or 'c' .. reply[1]
end

-- worker, digest, the name of its tokens, ids…: it takes no jobs from here on. What it was given, for
-- all the queue knows, goes back, but for these jobs: the answer may have been lost on its way.
function api.ml1_leave(_, a)
  local at, known = now(), {}
  for i = 4, #a do known[a[i]] = true end
  local lane = redis.call('HGET', 'worker:' .. a[1], 'turn_0')
  -- Else its successor has claimed since.
  local ours = given(a[3]) and lane and string.sub(lane, 2, #a[3] + 1) == a[3]
  for _, id in ipairs(ours and redis.call('HKEYS', 'jobs:active:' .. a[1]) or {}) do
    local job = hash('job:' .. id)
    if not known[id] and RUNNING[job.status] and job.worker_id == a[1] then
      apart(id, at, false, hand_back, id, a[1], job, 'release', 'its worker stops', at)
    end
  end
  redis.call('ZREM', 'jobs:idle:' .. a[2], a[1])
  redis.call('ZREM', 'jobs:workers:' .. a[2], a[1])
  if redis.call('EXISTS', 'jobs:workers:' .. a[2]) == 0 then
    drop_profile(a[2])
    drop_some()
    tell_some()
  end
  if redis.call('GET', 'jobs:ear') == a[1] then redis.call('DEL', 'jobs:ear') end
  return 'ok'
end

-- ids…: another party said that it put these jobs into the queue
function api.ml1_adopt(_, a)
  local at, found = now(), 0
  for _, id in ipairs(a) do
    if redis.call('ZSCORE', 'jobs:pending', id) and adopt(id, at) then found = found + 1 end
  end
  return found
end

-- worker, id, fence, percent, message, step, steps
function api.ml1_progress(_, a)
  local worker, id = a[1], a[2]
  local job = mine(id, worker, a[3], true)
  if not job then return 'lost' end
  local at = now()
  if job.status ~= 'in_progress' then
    redis.call('HSET', 'job:' .. id, 'status', 'in_progress', 'started_at', iso(at))
  end
  redis.call('HSET', 'job:' .. id .. ':progress', 'progress', a[4], 'status', 'in_progress',
    'message', a[5], 'updated_at', iso(at), 'current_step', a[6], 'total_steps', a[7])
  redis.call('EXPIRE', 'job:' .. id .. ':progress', PROGRESS_TTL)
  step(id, job, 'in_progress', a[4], at, worker, a[5])
  publish('update_job_progress', {job_id = id, worker_id = worker, progress = tonumber(a[4]),
    status = 'in_progress', message = a[5], current_step = a[6], total_steps = tonumber(a[7]) or 0,
    estimated_completion = '', timestamp = at})
  return job.cancel_requested == '1' and 'cancel' or 'ok'
end

-- worker, id, fence, error text, error JSON, recoverable 1|0, wait ms, attestation JSON, job part of
-- keys, machine, kind of failure
function api.ml1_fail(_, a)
  local worker, id = a[1], a[2]
  local job = mine(id, worker, a[3])
  if not job then
    redis.call('SET', 'job:' .. id .. ':late:' .. a[3], a[5], 'EX', 3600)
    return 'lost'
  end
  local at = now()
  redis.call('HDEL', 'jobs:active:' .. worker, id)
  redis.call('ZREM', 'jobs:leases', id)
  worker_now(worker, seen_of(worker), at, running_here(worker), 0, 1)
  if job.cancel_requested == '1' then
    end_cancelled(id, job, job.cancel_reason or 'cancelled', at)
    return 'cancelled'
  end
  local retries, most = exactly(job.retry_count, 0, SPAN, 0), exactly(job.max_retries, 0, SPAN, 3)
  local again = a[6] == '1' and retries + 1 < most
  local record_of = cjson.decode(a[8])
  record_of.retry_count, record_of.max_retries, record_of.will_retry = retries, most, again
  record_of.attestation_type = again and 'failure_retry' or 'failure_permanent'
  record_of.status = again and 'failed_retrying' or 'failed_permanent'
  record_of.workflow_impact = again and 'workflow_interrupted' or 'workflow_terminated'
  record_of.attestation_created_at = at
  local proof = cjson.encode(record_of)
  redis.call('SET', 'worker:failure:' .. a[9] .. (again and ':attempt:' .. (retries + 1) or ':permanent'),
    proof, 'EX', RECORD_TTL)
  redis.call('HSET', 'job:' .. id, 'error', a[4], 'error_details', a[5], 'last_failed_worker', worker)
  avoid(id, worker, at)
  tell_story(id, job, {at = iso(at), worker = worker, event = a[11] or 'failure', error = a[4]})
  worker_event(a[10] or '', worker, 'job_completed', id, job.service_required,
    again and 'retrying' or 'failed', at)
  if again then
    redis.call('HSET', 'job:' .. id, 'status', 'pending', 'retry_count', retries + 1, 'worker_id', '')
    redis.call('HDEL', 'job:' .. id, 'assigned_at', 'started_at')
    step(id, job, 'pending', 0, at, worker, a[4])
    redis.call('ZADD', 'jobs:delayed', at + tonumber(a[7]), id)
    promote(at)
    publish('jobs:ended', {job_id = id, status = 'retrying', reason = a[4], timestamp = at})
    return 'retrying'
  end
  redis.call('SET', 'worker:completion:' .. a[9], proof, 'EX', RECORD_TTL)
  if given(job.workflow_id) then
    record_of.failed_job_id, record_of.workflow_status = id, 'failed'
    redis.call('SET', 'workflow:failure:' .. job.workflow_id .. ':permanent', cjson.encode(record_of),
      'EX', RECORD_TTL)
  end
  redis.call('HSET', 'job:' .. id, 'status', 'failed', 'failed_at', iso(at),
    'proof', 'worker:completion:' .. a[9])
  record(id, {error = a[4], failed_at = iso(at), retry_count = retries}, at, (math.min(retries, 99) + 2) * #proof)
  step(id, job, 'failed', 0, at, worker, a[4])
  ended(id, 'failed')
  publish('job_failed', workflow_fields(job, {job_id = id, worker_id = worker, status = 'failed',
    error = a[4], failed_at = iso(at), retry_count = retries, can_retry = false, timestamp = at}))
  return 'failed'
end

-- worker, id, fence, why (release|crash|lost), reason
function api.ml1_release(_, a)
  local job = mine(a[2], a[1], a[3])
  if not job then return 'lost' end
  local at = now()
  job.pushed = nil -- who gives it back has heard of it
  local said = hand_back(a[2], a[1], job, a[4], a[5], at)
  worker_now(a[1], seen_of(a[1]), at, running_here(a[1]), 0, 0)
  return said
end

-- worker, id, fence: the running job ended because somebody asked for it
function api.ml1_cancelled(_, a)
  local job = mine(a[2], a[1], a[3])
  if not job then return 'lost' end
  local at = now()
  redis.call('HDEL', 'jobs:active:' .. a[1], a[2])
  worker_now(a[1], seen_of(a[1]), at, running_here(a[1]), 0, 0)
  end_cancelled(a[2], job, job.cancel_reason or 'cancelled', at)
  return 'cancelled'
end

-- The same, for what begins with worker, id, fence: a job ends, whatever Redis refuses about it.
local function for_sure(work)
  return function(names, a)
    look_at_records('jobs:failed')
    local said, why, ended_so = apart(a[2], now(), true, work, names, a)
    return said or answer_refused(a[1], a[2], a[3], nil, why, ended_so)
  end
end

-- id, reason
function api.ml1_cancel(_, a)
  local job = hash('job:' .. a[1])
  if not next(job) then return 'unknown' end
  look_at_records('jobs:failed')
  local at = now()
  local message = {job_id = a[1], worker_id = job.worker_id or '', reason = a[2], timestamp = at}
  local running = RUNNING[job.status]
  -- Who runs it without a lease is of another party, and hears of no cancelling.
  if WAITING[job.status] or (running and not redis.call('ZSCORE', 'jobs:leases', a[1])) then
    if given(job.worker_id) then redis.pcall('HDEL', 'jobs:active:' .. job.worker_id, a[1]) end
    end_cancelled(a[1], job, a[2], at)
    publish('cancel_job', message)
    return 'cancelled'
  end
  if running then
    redis.call('HSET', 'job:' .. a[1], 'cancel_requested', '1', 'cancel_reason', a[2])
    publish('cancel_job', message)
    return 'cancelling'
  end
  return 'ended ' .. (job.status or '')
end

-- id: run an ended job once more, in the place it had
function api.ml1_retry(_, a)
  local job = hash('job:' .. a[1])
  if not next(job) then return redis.call('HGET', 'jobs:dead:reasons', a[1]) and 'no record' or 'unknown' end
  if job.status ~= 'failed' and job.status ~= 'cancelled' then return job.status or 'unknown' end
  redis.call('PERSIST', 'job:' .. a[1])
  redis.call('HSET', 'job:' .. a[1], 'retry_count', '0', 'crashes', '0', 'losses', '0')
  redis.call('HDEL', 'job:' .. a[1], 'error', 'error_details', 'failed_at', 'cancel_requested',
    'cancel_reason')
  drop_records('jobs:failed', {a[1]})
  redis.call('ZREM', 'jobs:dead', a[1])
  redis.call('HDEL', 'jobs:dead:reasons', a[1])
  local at = now()
  local waits, why = apart(a[1], at, false, requeue, a[1], job, at)
  if not waits then return 'dead ' .. (why or redis.call('HGET', 'job:' .. a[1], 'error') or '') end
  return 'ok'
end

-- worker, how many words its record has, these, and channels with what is told there…: it appears.
function api.ml1_register(_, a)
  local key, last = 'worker:' .. a[1], 2 + tonumber(a[2])
  forget_waiting(a[1])
  redis.call('HSET', key, 'ahead', '', unpack(a, 3, last))
  redis.call('EXPIRE', key, WORKER_TTL)
  redis.call('SET', key .. ':heartbeat', iso(now()), 'EX', HEARTBEAT_TTL)
  redis.call('SADD', 'workers:active', a[1])
  for i = last + 1, #a, 2 do redis.call('PUBLISH', a[i], a[i + 1]) end
end

-- A machine that is lost leaves the names of its workers behind: some of all names are looked at each
-- time, else they would become ever more where each machine has new ones.
local function forget_workers()
  for _, worker in ipairs(redis.call('SRANDMEMBER', 'workers:active', NAMES_LOOKED_AT)) do
    if redis.call('EXISTS', 'worker:' .. worker, 'worker:' .. worker .. ':heartbeat') == 0 then
      redis.call('SREM', 'workers:active', worker)
    end
  end
end

-- worker, digest, lease ms, jobs the worker runs and their fences…, and, if it takes what is pushed to
-- it, up to which number it has heard of that and the name of its process: heartbeat, leases, and the look that makes up for lost
-- hints. Returns lost and cancelled ones; 0 for a worker that is not registered, 1 for one that is and
-- does not listen here, 2 for one that listens; whether there is work for it; whether it listens for jobs of other parties; how many workers live; and the number up to which
-- jobs were pushed to it, and those of them that it has not heard of.
function api.ml1_beat(_, a)
  local heard_of, process, word
  if (#a - 3) % 2 == 1 then
    word = table.remove(a)
    heard_of, process = heard_in(word)
  end
  local worker, digest, at = a[1], a[2], now()
  redis.call('SET', 'worker:' .. worker .. ':heartbeat', iso(at), 'EX', HEARTBEAT_TTL)
  local known, pushed = unpack(redis.call('HMGET', 'worker:' .. worker, 'worker_id', 'pushed'))
  local facts = {'last_heartbeat', iso(at), 'named_until', at + tonumber(a[3])}
  if word then set(facts, 'heard', word) end
  redis.call('HSET', 'worker:' .. worker, unpack(facts))
  redis.call('EXPIRE', 'worker:' .. worker, WORKER_TTL)
  redis.call('EXPIRE', 'jobs:active:' .. worker, ACTIVE_TTL)
  trim_records('jobs:completed', at, TERMINAL_TTL.completed)
  trim_records('jobs:failed', at, RECORD_TTL)
  local lost, cancel = {}, {}
  for i = 4, #a, 2 do
    local job = mine(a[i], worker, a[i + 1], true)
    if not job then lost[#lost + 1] = a[i]
    else
      redis.call('ZADD', 'jobs:leases', at + tonumber(a[3]), a[i])
      if job.pushed then redis.call('HDEL', 'job:' .. a[i], 'pushed') end
      if job.cancel_requested == '1' then cancel[#cancel + 1] = a[i] end
    end
  end
  promote(at)
  if not all_were_away(at, tonumber(a[3])) then reap(at) end
  local missing = unfiled()
  search(at, missing > 0 and CHUNK or 20)
  if missing < 0 or redis.call('EXISTS', 'jobs:foreign') == 1 then sweep(missing < 0 and CHUNK or 20) end
  local work = 0
  if redis.call('HEXISTS', 'jobs:profiles', digest) == 1 then
    redis.call('ZADD', 'jobs:workers:' .. digest, at, worker)
    redis.call('ZADD', 'jobs:profiles:used', at, digest)
    for _, name in ipairs({'jobs:profiles', 'jobs:profiles:used', 'jobs:classes', 'jobs:classes:used',
      'jobs:workers:' .. digest, 'jobs:heads:' .. digest, 'jobs:idle:' .. digest, 'jobs:personal',
      'jobs:pins', 'jobs:unworkable'}) do redis.call('EXPIRE', name, INDEX_TTL) end
    work = redis.call('EXISTS', 'jobs:heads:' .. digest)
    if work == 0 then
      work = redis.call('EXISTS', 'jobs:personal', 'jobs:personal:worker:' .. worker,
        'jobs:personal:machine:' .. machine_of(worker))
    end
  else -- it is to tell what it can do, once it asks: nothing is found for it until then
    redis.call('DEL', 'jobs:workers:' .. digest)
    work = 1
  end
  redis.call('ZREMRANGEBYSCORE', 'jobs:workers:' .. digest, '-inf', at - PROFILE_KEPT)
  tidy(at)
  tell_some()
  forget_workers()
  local ear = 0
  if redis.call('EXISTS', 'jobs:foreign') == 1 then
    local held = redis.call('GET', 'jobs:ear')
    if not held or held == worker then
      redis.call('SET', 'jobs:ear', worker, 'EX', 45)
      ear = 1
    end
  end
  local state = known and (listens('jobs:wake:' .. worker) and 2 or 1) or 0
  local said = {lost, cancel, state, work, ear, redis.call('SCARD', 'workers:active')}
  if heard_of then
    said[7], said[8] = tonumber(pushed) or 0, {}
    if said[7] > heard_of then
      local has = {}
      for i = 4, #a, 2 do has[a[i]] = true end
      said[8] = missed_by(worker, process, heard_of, has)
    end
  end
  return said
end

-- worker, reason, when it registered, if the caller knows: whatever a dead worker held goes back, but
-- nothing of a successor's, which has registered since. Returns the ids.
function api.ml1_recover(_, a)
  local at = now()
  local back = {}
  if a[3] and a[3] ~= (redis.call('HGET', 'worker:' .. a[1], 'connected_at') or '') then return back end
  forget_waiting(a[1])
  for _, id in ipairs(redis.call('HKEYS', 'jobs:active:' .. a[1])) do
    local job = hash('job:' .. id)
    if job.worker_id == a[1] and RUNNING[job.status] then
      apart(id, at, false, hand_back, id, a[1], job, 'crash', a[2], at)
      back[#back + 1] = id
    else
      redis.call('HDEL', 'jobs:active:' .. a[1], id)
    end
  end
  return back
end

-- machine, 1|0: it is to take no jobs from here on, or to take them again. Returns how many of its
-- workers are told.
function api.ml1_drain(_, a)
  if a[2] == '1' then redis.call('SET', drain_of(a[1]), now(), 'EX', RECORD_TTL)
  else redis.call('DEL', drain_of(a[1])) end
  local told = 0
  for _, worker in ipairs(redis.call('SMEMBERS', 'workers:active')) do
    if redis.call('HGET', 'worker:' .. worker, 'machine_id') == a[1] then
      told = told + redis.call('PUBLISH', 'jobs:wake:' .. worker, '')
    end
  end
  return told
end

-- What keeps a living worker from its next job, in words, or nil; whether it is busy; its machine.
local function state_of(worker)
  local machine, status, held_by = unpack(redis.call('HMGET', 'worker:' .. worker, 'machine_id', 'status',
    'held_by'))
  if machine and drained(machine) then return 'its machine ' .. machine .. ' is drained', false, machine end
  if given(held_by) or status == 'paused' or status == 'draining' then
    return 'takes no jobs now: ' .. (given(held_by) and held_by or 'it is ' .. status), false, machine
  end
  return nil, status == 'busy', machine
end

-- Living workers of one profile: those in one state together, or, for a class that names some, each.
local function living(digest, caps, class, at)
  local found, kinds, by_name = {}, {}, #lists_of(class) > 0
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', 'jobs:workers:' .. digest,
    at - WORKER_LIVES, '+inf', 'LIMIT', 0, 20)) do
    local held, busy, machine = state_of(worker)
    local kind = (held or '') .. (busy and 1 or 0) .. (by_name and worker or '')
    if not kinds[kind] then
      if by_name then caps.worker_id, caps.machine_id = worker, machine or '' end
      local lacking_here = lacks(caps, class, true)
      caps.worker_id, caps.machine_id = nil, nil
      if held then table.insert(lacking_here, 1, held) end
      kinds[kind] = {{}, lacking_here, busy and 1 or 0}
      found[#found + 1] = kinds[kind]
    end
    table.insert(kinds[kind][1], worker)
  end
  return found
end

-- id: why nobody runs it. Returns its status, or that and the reason why nobody ever can; then its
-- living workers, those that are alike together, what they lack, and whether they are busy.
function api.ml1_why(_, a)
  local job = hash('job:' .. a[1])
  if not next(job) then
    local reason = redis.call('HGET', 'jobs:dead:reasons', a[1])
    return reason and {'failed', reason} or {'unknown'}
  end
  local at = now()
  local class, reason = class_of(job.service_required, job.requirements, job.customer_id)
  if not class then return {job.status or '', reason} end
  if given(job.workflow_id) and redis.call('SISMEMBER', 'jobs:pins', job.workflow_id) == 1 then
    class.workflow = job.workflow_id
  end
  local found = {}
  for _, digest in ipairs(redis.call('HKEYS', 'jobs:profiles')) do
    for _, kind in ipairs(living(digest, caps_of(digest), class, at)) do found[#found + 1] = kind end
  end
  local ahead = -1
  if given(job.queue_class) then
    ahead = redis.call('ZREVRANK', 'jobs:class:' .. job.queue_class, a[1]) or -1
  end
  local due = redis.call('ZSCORE', 'jobs:delayed', a[1])
  return {job.status or '', '', found, ahead, due and math.max(0, tonumber(due) - at) or -1}
end

redis.register_function('ml1_submit', api.ml1_submit)
redis.register_function('ml1_adopt', api.ml1_adopt)
redis.register_function('ml1_progress', api.ml1_progress)
redis.register_function('ml1_retry', api.ml1_retry)
redis.register_function('ml1_drain', api.ml1_drain)
redis.register_function('ml1_why', api.ml1_why)

-- A server that is full takes no jobs, but has those done that it holds: it would stay full for ever.
local function register_for_full(name, work)
  redis.register_function{function_name = name, callback = work, flags = {'allow-oom'}}
end

register_for_full('ml1_register', api.ml1_register)
register_for_full('ml1_turn', api.ml1_turn)
register_for_full('ml1_profile', api.ml1_profile)
register_for_full('ml1_leave', api.ml1_leave)
register_for_full('ml1_fail', for_sure(api.ml1_fail))
register_for_full('ml1_release', for_sure(api.ml1_release))
register_for_full('ml1_cancelled', for_sure(api.ml1_cancelled))
register_for_full('ml1_cancel', api.ml1_cancel)
register_for_full('ml1_beat', api.ml1_beat)
register_for_full('ml1_recover', api.ml1_recover)
