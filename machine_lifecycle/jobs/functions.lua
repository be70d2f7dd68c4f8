#!lua name=machine_lifecycle_1
-- revision 1

-- Every change of a job's state is one call here, so that it happens whole or not at all. Times
-- are the server's own: clocks of workers never count.

local TERMINAL_TTL = {completed = 86400, failed = 604800, cancelled = 604800}
local RECORD_TTL = 604800
local ACTIVE_TTL = 604800
local PROGRESS_TTL = 86400
local ENDED_PROGRESS_TTL = 3600
local CHUNK = 500
local MAX_CRASHES = 3
local DEAD_KEPT = 1000
local STREAM_KEPT = 200

local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- ISO 8601 in UTC; civil-from-days after Howard Hinnant, chrono-Compatible Low-Level Date Algorithms.
local function iso(ms)
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

local function text(number) return string.format('%.17g', number) end

local function hash(key)
  local flat = redis.call('HGETALL', key)
  local map = {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map, flat
end

local function publish(channel, message) redis.call('PUBLISH', channel, cjson.encode(message)) end

local function given(value) return value ~= nil and value ~= false and value ~= '' end

local function workflow_fields(job, message)
  if given(job.workflow_id) then message.workflow_id = job.workflow_id end
  for _, name in ipairs({'current_step', 'total_steps', 'workflow_priority', 'workflow_datetime'}) do
    if given(job[name]) then message[name] = tonumber(job[name]) or job[name] end
  end
  return message
end

local function decoded(value)
  if not given(value) then return nil end
  local ok, result = pcall(cjson.decode, value)
  if not ok then return nil end
  return result
end

local function wake(service, due)
  publish('jobs:wake', {service_required = service or '', due = due or 0})
end

-- Bounded records of ended jobs: each field has its time in a sorted set beside the hash, and goes
-- when it is too old. A TTL of the whole hash would either never fire or take all at once.
local function record(name, id, value, at, ttl)
  redis.call('HSET', name, id, cjson.encode(value))
  redis.call('ZADD', name .. ':at', at, id)
  local old = redis.call('ZRANGEBYSCORE', name .. ':at', '-inf', at - ttl * 1000, 'LIMIT', 0, 20)
  if #old > 0 then
    redis.call('HDEL', name, unpack(old))
    redis.call('ZREM', name .. ':at', unpack(old))
  end
  redis.call('EXPIRE', name, ttl)
  redis.call('EXPIRE', name .. ':at', ttl)
end

local function step(id, status, progress, at, worker, message)
  redis.call('XADD', 'progress:' .. id, 'MAXLEN', '~', STREAM_KEPT, '*', 'job_id', id, 'status', status,
    'progress', tostring(progress), 'worker_id', worker or '', 'message', message or '',
    'timestamp', text(at))
  redis.call('EXPIRE', 'progress:' .. id, PROGRESS_TTL)
end

local function ended(id, status)
  redis.call('ZREM', 'jobs:leases', id)
  redis.call('EXPIRE', 'job:' .. id, TERMINAL_TTL[status])
  redis.call('EXPIRE', 'job:' .. id .. ':progress', ENDED_PROGRESS_TTL)
  redis.call('EXPIRE', 'progress:' .. id, ENDED_PROGRESS_TTL)
end

local function worker_is_idle(worker, at, counter)
  local key = 'worker:' .. worker
  if redis.call('EXISTS', key) == 0 then return end
  if counter then redis.call('HINCRBY', key, counter, 1) end
  redis.call('HSET', key, 'status', 'idle', 'current_job_id', '', 'last_status_change', iso(at))
end

-- Set a job aside that nobody can ever run.
local function bury(id, reason, at)
  local job = hash('job:' .. id)
  redis.call('ZREM', 'jobs:pending', id)
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
  end
  redis.call('EXPIRE', 'jobs:dead', RECORD_TTL)
  redis.call('EXPIRE', 'jobs:dead:reasons', RECORD_TTL)
  local retries = tonumber(job.retry_count or '0') or 0
  if next(job) then
    redis.call('HSET', 'job:' .. id, 'status', 'failed', 'error', reason, 'failed_at', iso(at))
    ended(id, 'failed')
  end
  record('jobs:failed', id, {error = reason, failed_at = iso(at), retry_count = retries}, at, RECORD_TTL)
  publish('job_failed', workflow_fields(job, {job_id = id, worker_id = job.worker_id or '',
    status = 'failed', error = reason, failed_at = iso(at), retry_count = retries,
    can_retry = false, timestamp = at}))
end

-- Matching ---------------------------------------------------------------------------------------

local HARDWARE = {gpu_memory_gb = true, cpu_cores = true, ram_gb = true}
-- Asked of the run or of the result, not of the worker.
local NOT_REQUIRED = {service_type = true, timeout_minutes = true, quality_level = true,
  component = true, components = true, compliance = true, geographic_region = true,
  priority = true, positive_requirements = true, negative_requirements = true}
-- What a worker may advertise beside services, hardware, models and customers. A key outside of
-- this list counts only if the worker at hand publishes it, or if it is a dotted path.
local CUSTOM = {asset_type = true, available_models = true, performance_tier = true,
  features = true, specialization = true, sla_tier = true, limitations = true,
  availability = true, debugging_enabled = true, experimental_mode = true,
  development_mode = true, memory_constrained = true, max_batch_size = true,
  multi_service = true, comfyui_version = true, a1111_version = true, workflow_id = true,
  performance = true, location = true, cost = true, metadata = true, supported_components = true}

local function is_list(value) return type(value) == 'table' and (#value > 0 or next(value) == nil) end

local function path(object, name)
  if object[name] ~= nil then return object[name] end
  for part in string.gmatch(name, '[^.]+') do
    if type(object) ~= 'table' then return nil end
    object = object[part]
  end
  return object
end

local function has(list, wanted)
  for _, item in ipairs(list) do if tostring(item) == tostring(wanted) then return true end end
  return false
end

local satisfies

satisfies = function(have, wanted)
  if wanted == 'all' then return true end
  if have == nil or have == cjson.null then return false end
  if is_list(wanted) then
    for _, item in ipairs(wanted) do
      if is_list(have) then
        if not has(have, item) then return false end
      elseif tostring(have) ~= tostring(item) then return false end
    end
    return true
  end
  if type(wanted) == 'table' then
    for name, value in pairs(wanted) do
      if type(have) ~= 'table' or not satisfies(have[name], value) then return false end
    end
    return true
  end
  if is_list(have) then return has(have, wanted) end
  if type(wanted) == 'number' and tonumber(have) then return tonumber(have) >= wanted end
  return tostring(have) == tostring(wanted)
end

local function stem(name)
  local base = string.match(tostring(name), '[^/\\]+$') or tostring(name)
  return string.lower((string.gsub(base, '%.[%w]+$', '')))
end

local function has_model(known, wanted)
  for _, name in ipairs(known) do
    if name == wanted or stem(name) == stem(wanted) then return true end
  end
  return false
end

local function numbers_met(have, name, wanted)
  if wanted == 'all' then return true end
  local least = tonumber(wanted)
  if not least then error('requirement ' .. name .. ' is no number') end
  return (tonumber(have) or -1) >= least
end

local function one_met(caps, service, name, wanted)
  if HARDWARE[name] then return numbers_met((caps.hardware or {})[name], name, wanted) end
  if name == 'hardware' then
    if wanted == 'all' then return true end
    if type(wanted) ~= 'table' then error('requirement hardware is no object') end
    for key, value in pairs(wanted) do
      if HARDWARE[key] then
        if not numbers_met((caps.hardware or {})[key], key, value) then return false end
      elseif not satisfies((caps.hardware or {})[key], value) then return false end
    end
    return true
  end
  if name == 'models' then
    if wanted == 'all' then return true end
    local list = type(wanted) == 'table' and wanted or {wanted}
    local known = (caps.models or {})[service] or {}
    if #list == 0 and next(list) ~= nil then list = list[service] or {} end
    for _, model in ipairs(list) do
      if model ~= 'all' and not has_model(known, model) then return false end
    end
    return true
  end
  if name == 'customer_isolation' then
    return wanted ~= 'strict' or (caps.customer_access or {}).isolation == 'strict'
  end
  local have = path(caps, name)
  if have == nil and not CUSTOM[name] and not string.find(name, '.', 1, true) then return true end
  return satisfies(have, wanted)
end

local function each_requirement(requirements, found)
  for name, wanted in pairs(requirements) do
    if type(name) ~= 'string' then error('requirements are a list, not an object') end
    if not NOT_REQUIRED[name] and wanted ~= cjson.null and not found(name, wanted) then return false end
  end
  return true
end

local function requirements_met(caps, service, requirements)
  local positive = requirements.positive_requirements
  if positive == nil or positive == cjson.null then positive = requirements end
  if type(positive) ~= 'table' then error('positive_requirements is no object') end
  local met = each_requirement(positive, function(name, wanted)
    return one_met(caps, service, name, wanted)
  end)
  local negative = requirements.negative_requirements
  if negative == nil or negative == cjson.null then return met end
  if type(negative) ~= 'table' then error('negative_requirements is no object') end
  return met and each_requirement(negative, function(name, wanted)
    if name == 'models' then
      for _, model in ipairs(type(wanted) == 'table' and wanted or {wanted}) do
        if has_model((caps.models or {})[service] or {}, model) then return false end
      end
      return true
    end
    if HARDWARE[name] or name == 'hardware' or name == 'customer_isolation' then
      return not one_met(caps, service, name, wanted)
    end
    local have = path(caps, name)
    if have == nil then return true end
    if is_list(wanted) then
      for _, item in ipairs(wanted) do if satisfies(have, item) then return false end end
      return true
    end
    return not satisfies(have, wanted)
  end)
end

local function customer_allowed(caps, customer)
  local access = caps.customer_access or {}
  local denied = type(access.denied_customers) == 'table' and access.denied_customers or {}
  local allowed = type(access.allowed_customers) == 'table' and access.allowed_customers or {}
  if given(customer) and has(denied, customer) then return false end
  return #allowed == 0 or (given(customer) and has(allowed, customer))
end

-- The one place that decides whether a worker may run a job. Returns true, false, or nil and the
-- reason for which nobody ever can.
local function matches(caps, job, memo)
  if not given(job.service) then return nil, 'names no service_required' end
  if not memo.services[job.service] then return false end
  if given(caps.workflow_id) and caps.workflow_id ~= job.workflow then return false end
  if not customer_allowed(caps, job.customer) then return false end
  if not given(job.requirements) then return true end
  local key = job.service .. '\0' .. job.requirements
  local known = memo.answers[key]
  if known ~= nil then return known[1], known[2] end
  local verdict, reason
  local ok, requirements = pcall(cjson.decode, job.requirements)
  if not ok then
    reason = 'requirements are not JSON'
  elseif type(requirements) ~= 'table' then
    reason = 'requirements are no object'
  else
    local fine, met = pcall(requirements_met, caps, job.service, requirements)
    if fine then verdict = met
    else reason = tostring(type(met) == 'table' and met.err or met):gsub('^.-:%d+: ', '') end
  end
  memo.answers[key] = {verdict, reason}
  return verdict, reason
end

-- Claim ------------------------------------------------------------------------------------------

-- Jobs whose wait after a failure is over go back to the place they had. Returns when the next is due.
local function promote(at)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'jobs:delayed', '-inf', at, 'LIMIT', 0, 100)) do
    redis.call('ZREM', 'jobs:delayed', id)
    local seen = redis.call('HMGET', 'job:' .. id, 'queue_score', 'status', 'service_required')
    if seen[2] == 'pending' then
      redis.call('ZADD', 'jobs:pending', seen[1] or '0', id)
      wake(seen[3])
    end
  end
  local first = redis.call('ZRANGE', 'jobs:delayed', 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) - at or -1
end

local function take(id, score, worker, token, lease, at)
  redis.call('ZREM', 'jobs:pending', id)
  local key = 'job:' .. id
  local before = hash(key)
  redis.call('HSET', 'jobs:active:' .. worker, id, cjson.encode(before))
  redis.call('EXPIRE', 'jobs:active:' .. worker, ACTIVE_TTL)
  local fence = redis.call('HINCRBY', key, 'fence', 1)
  redis.call('HSET', key, 'status', 'assigned', 'worker_id', worker, 'assigned_at', iso(at),
    'queue_score', score, 'claim_token', token)
  redis.call('HDEL', key, 'cancel_requested', 'cancel_reason', 'started_at')
  redis.call('ZADD', 'jobs:leases', at + lease, id)
  redis.call('HSET', 'worker:' .. worker, 'status', 'busy', 'current_job_id', id,
    'last_status_change', iso(at))
  redis.call('EXPIRE', 'worker:' .. worker, 120)
  publish('job_claimed', {job_id = id, worker_id = worker, status = 'claimed',
    message = 'Job claimed by worker', claimed_at = iso(at), timestamp = at,
    service_required = before.service_required, customer_id = before.customer_id or '',
    workflow_id = before.workflow_id or '', step_number = before.current_step or '',
    total_steps = before.total_steps or ''})
  publish('update_job_progress', {job_id = id, worker_id = worker, progress = 0, timestamp = at})
  step(id, 'assigned', 0, at, worker)
  local _, flat = hash(key)
  return {'job', id, fence, flat}
end

local function claim(worker, capabilities, token, lease, cursor, offset)
  local at = now()
  local due = promote(at)
  -- A reply that was lost on its way: the same claim is answered again, not doubled.
  for _, id in ipairs(redis.call('HKEYS', 'jobs:active:' .. worker)) do
    local held = redis.call('HMGET', 'job:' .. id, 'claim_token', 'worker_id', 'fence')
    if held[1] == token and held[2] == worker then
      local _, flat = hash('job:' .. id)
      return {'job', id, tonumber(held[3]), flat}
    end
  end
  local caps = cjson.decode(capabilities)
  local memo = {services = {}, answers = {}}
  for _, service in ipairs(caps.job_service_required_map or {}) do memo.services[service] = true end
  local start = 0
  if cursor ~= '' then
    local rank = redis.call('ZREVRANK', 'jobs:pending', cursor)
    start = rank and rank + 1 or math.max(0, offset - CHUNK)
  end
  local found = redis.call('ZREVRANGE', 'jobs:pending', start, start + CHUNK - 1, 'WITHSCORES')
  local last = ''
  for i = 1, #found, 2 do
    local id, score = found[i], found[i + 1]
    local seen = redis.call('HMGET', 'job:' .. id, 'service_required', 'requirements',
      'customer_id', 'workflow_id', 'status', 'id')
    if not seen[1] and not seen[5] and not seen[6] then
      bury(id, 'the job has no record', at)
    else
      local verdict, reason = matches(caps, {service = seen[1], requirements = seen[2],
        customer = seen[3], workflow = seen[4]}, memo)
      if verdict then return take(id, score, worker, token, lease, at) end
      if reason then bury(id, reason, at) else last = id end
    end
  end
  if #found == CHUNK * 2 then return {'more', last, start + CHUNK} end
  return {'none', due}
end

-- Whether a job is still this worker's, in this run of it.
local function mine(id, worker, fence)
  local job = hash('job:' .. id)
  local running = job.status == 'assigned' or job.status == 'in_progress' or job.status == 'accepted'
  if running and job.worker_id == worker and job.fence == fence then return job end
  if job.worker_id ~= worker or not running then
    redis.call('HDEL', 'jobs:active:' .. worker, id)
  end
  return nil
end

local function requeue(id, job, at)
  redis.call('HSET', 'job:' .. id, 'status', 'pending', 'worker_id', '')
  redis.call('HDEL', 'job:' .. id, 'assigned_at', 'started_at', 'claim_token')
  redis.call('ZREM', 'jobs:leases', id)
  redis.call('ZADD', 'jobs:pending', job.queue_score or '0', id)
  step(id, 'pending', 0, at, '', 'back in the queue')
  wake(job.service_required)
end

local function end_cancelled(id, job, reason, at)
  redis.call('ZREM', 'jobs:pending', id)
  redis.call('ZREM', 'jobs:delayed', id)
  redis.call('HSET', 'job:' .. id, 'status', 'cancelled', 'error', reason, 'failed_at', iso(at))
  record('jobs:failed', id, {error = reason, failed_at = iso(at), cancelled = true,
    retry_count = tonumber(job.retry_count or '0') or 0}, at, RECORD_TTL)
  step(id, 'cancelled', 0, at, job.worker_id, reason)
  ended(id, 'cancelled')
  publish('jobs:ended', {job_id = id, status = 'cancelled', reason = reason, timestamp = at})
end

-- Take a job from a worker without using up an attempt. A crash counts, so that a job which kills
-- whatever runs it comes to an end.
local function hand_back(id, worker, job, crash, reason, at)
  redis.call('HDEL', 'jobs:active:' .. worker, id)
  if job.cancel_requested == '1' then
    end_cancelled(id, job, job.cancel_reason or 'cancelled', at)
    return 'cancelled'
  end
  if crash and redis.call('HINCRBY', 'job:' .. id, 'crashes', 1) >= MAX_CRASHES then
    bury(id, 'poison: ended ' .. MAX_CRASHES .. ' runs without a result, last: ' .. reason, at)
    return 'dead'
  end
  if reason ~= '' then redis.call('HSET', 'job:' .. id, 'release_reason', reason) end
  requeue(id, job, at)
  return 'released'
end

-- Jobs whose worker has not been heard of. Any worker's beat does it, without a lock.
local function reap(at)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'jobs:leases', '-inf', at, 'LIMIT', 0, 100)) do
    local job = hash('job:' .. id)
    redis.call('ZREM', 'jobs:leases', id)
    if job.status == 'assigned' or job.status == 'in_progress' then
      hand_back(id, job.worker_id or '', job, true, 'its worker was not heard of any more', at)
    end
  end
end

-- Functions --------------------------------------------------------------------------------------

-- id, score, message, fields…
local function ml1_submit(_, a)
  if redis.call('EXISTS', 'job:' .. a[1]) == 1 then return 'known' end
  redis.call('HSET', 'job:' .. a[1], 'queue_score', a[2], unpack(a, 4))
  redis.call('ZADD', 'jobs:pending', a[2], a[1])
  redis.call('PUBLISH', 'job_submitted', a[3])
  return 'ok'
end

-- worker, capabilities, token, lease ms, cursor, offset
local function ml1_claim(_, a)
  return claim(a[1], a[2], a[3], tonumber(a[4]), a[5], tonumber(a[6]))
end

-- worker, id, fence, percent, message, step, steps
local function ml1_progress(_, a)
  local worker, id = a[1], a[2]
  local job = mine(id, worker, a[3])
  if not job then return 'lost' end
  local at = now()
  if job.status ~= 'in_progress' then
    redis.call('HSET', 'job:' .. id, 'status', 'in_progress', 'started_at', iso(at))
  end
  redis.call('HSET', 'job:' .. id .. ':progress', 'progress', a[4], 'status', 'in_progress',
    'message', a[5], 'updated_at', iso(at), 'current_step', a[6], 'total_steps', a[7])
  redis.call('EXPIRE', 'job:' .. id .. ':progress', PROGRESS_TTL)
  step(id, 'in_progress', a[4], at, worker, a[5])
  publish('update_job_progress', {job_id = id, worker_id = worker, progress = tonumber(a[4]),
    status = 'in_progress', message = a[5], current_step = a[6], total_steps = tonumber(a[7]) or 0,
    estimated_completion = '', timestamp = at})
  return job.cancel_requested == '1' and 'cancel' or 'ok'
end

-- worker, id, fence, result JSON, attestation JSON, attestation key, claim? capabilities, token, lease
local function ml1_complete(_, a)
  local worker, id = a[1], a[2]
  local job = mine(id, worker, a[3])
  if not job then
    local seen = redis.call('HMGET', 'job:' .. id, 'status', 'fence')
    if seen[1] == 'completed' and seen[2] == a[3] then return {'ok'} end
    redis.call('SET', 'job:' .. id .. ':late:' .. a[3], a[4], 'EX', 3600)
    return {'lost'}
  end
  local at = now()
  local result = cjson.decode(a[4])
  local began = given(job.started_at) and job.started_at or job.assigned_at or iso(at)
  redis.call('HSET', 'job:' .. id, 'status', 'completed', 'completed_at', iso(at), 'started_at', began,
    'processing_time', tostring(result.processing_time_ms or 0))
  redis.call('HDEL', 'jobs:active:' .. worker, id)
  redis.call('SET', a[6], a[5], 'EX', RECORD_TTL)
  -- The worker's own text goes in as it is: decoding and encoding would turn [] into {}.
  local kept = '{"success":true,"data":' .. a[4] .. ',"completed_at":"' .. iso(at) .. '"}'
  record('jobs:completed', id, {}, at, TERMINAL_TTL.completed)
  redis.call('HSET', 'jobs:completed', id, kept)
  redis.call('HSET', 'job:' .. id .. ':progress', 'progress', '100', 'status', 'completed',
    'message', 'Job completed', 'updated_at', iso(at))
  step(id, 'completed', 100, at, worker)
  ended(id, 'completed')
  worker_is_idle(worker, at, 'total_jobs_completed')
  local message = cjson.encode(workflow_fields(job, {job_id = id, worker_id = worker,
    progress = 100, status = 'completed', message = 'Job completed successfully', timestamp = at}))
  redis.call('PUBLISH', 'complete_job', string.sub(message, 1, -2) .. ',"result":' .. a[4] .. '}')
  if a[7] ~= '' then return {'ok', claim(worker, a[7], a[8], tonumber(a[9]), '', 0)} end
  return {'ok'}
end

-- worker, id, fence, error text, error JSON, recoverable 1|0, wait ms, attestation JSON, job part of keys
local function ml1_fail(_, a)
  local worker, id = a[1], a[2]
  local job = mine(id, worker, a[3])
  if not job then
    redis.call('SET', 'job:' .. id .. ':late:' .. a[3], a[5], 'EX', 3600)
    return 'lost'
  end
  local at = now()
  redis.call('HDEL', 'jobs:active:' .. worker, id)
  redis.call('ZREM', 'jobs:leases', id)
  worker_is_idle(worker, at, 'total_jobs_failed')
  if job.cancel_requested == '1' then
    end_cancelled(id, job, job.cancel_reason or 'cancelled', at)
    return 'cancelled'
  end
  local retries = tonumber(job.retry_count or '0') or 0
  local most = tonumber(job.max_retries or '3') or 3
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
  if again then
    redis.call('HSET', 'job:' .. id, 'status', 'pending', 'retry_count', retries + 1, 'worker_id', '')
    redis.call('HDEL', 'job:' .. id, 'assigned_at', 'started_at', 'claim_token')
    step(id, 'pending', 0, at, worker, a[4])
    redis.call('ZADD', 'jobs:delayed', at + tonumber(a[7]), id)
    if promote(at) > 0 then wake(job.service_required, at + tonumber(a[7])) end
    publish('jobs:ended', {job_id = id, status = 'retrying', reason = a[4], timestamp = at})
    return 'retrying'
  end
  redis.call('SET', 'worker:completion:' .. a[9], proof, 'EX', RECORD_TTL)
  if given(job.workflow_id) then
    record_of.failed_job_id, record_of.workflow_status = id, 'failed'
    redis.call('SET', 'workflow:failure:' .. job.workflow_id .. ':permanent', cjson.encode(record_of),
      'EX', RECORD_TTL)
  end
  redis.call('HSET', 'job:' .. id, 'status', 'failed', 'failed_at', iso(at))
  record('jobs:failed', id, {error = a[4], failed_at = iso(at), retry_count = retries}, at, RECORD_TTL)
  step(id, 'failed', 0, at, worker, a[4])
  ended(id, 'failed')
  publish('job_failed', workflow_fields(job, {job_id = id, worker_id = worker, status = 'failed',
    error = a[4], failed_at = iso(at), retry_count = retries, can_retry = false, timestamp = at}))
  return 'failed'
end

-- worker, id, fence, crash 1|0, reason
local function ml1_release(_, a)
  local job = mine(a[2], a[1], a[3])
  if not job then return 'lost' end
  local at = now()
  worker_is_idle(a[1], at)
  return hand_back(a[2], a[1], job, a[4] == '1', a[5], at)
end

-- worker, id, fence: the running job ended because somebody asked for it
local function ml1_cancelled(_, a)
  local job = mine(a[2], a[1], a[3])
  if not job then return 'lost' end
  local at = now()
  redis.call('HDEL', 'jobs:active:' .. a[1], a[2])
  worker_is_idle(a[1], at)
  end_cancelled(a[2], job, job.cancel_reason or 'cancelled', at)
  return 'cancelled'
end

-- id, reason
local function ml1_cancel(_, a)
  local job = hash('job:' .. a[1])
  if not next(job) then return 'unknown' end
  local at = now()
  local message = {job_id = a[1], worker_id = job.worker_id or '', reason = a[2], timestamp = at}
  if job.status == 'pending' or job.status == 'queued' or job.status == 'unworkable' then
    end_cancelled(a[1], job, a[2], at)
    publish('cancel_job', message)
    return 'cancelled'
  end
  if job.status == 'assigned' or job.status == 'accepted' or job.status == 'in_progress' then
    redis.call('HSET', 'job:' .. a[1], 'cancel_requested', '1', 'cancel_reason', a[2])
    publish('cancel_job', message)
    return 'cancelling'
  end
  return 'ended ' .. (job.status or '')
end

-- id: run an ended job once more, in the place it had
local function ml1_retry(_, a)
  local job = hash('job:' .. a[1])
  if not next(job) then return 'unknown' end
  if job.status ~= 'failed' and job.status ~= 'cancelled' then return job.status or 'unknown' end
  redis.call('PERSIST', 'job:' .. a[1])
  redis.call('HSET', 'job:' .. a[1], 'retry_count', '0', 'crashes', '0')
  redis.call('HDEL', 'job:' .. a[1], 'error', 'error_details', 'failed_at', 'cancel_requested', 'cancel_reason')
  redis.call('HDEL', 'jobs:failed', a[1])
  redis.call('ZREM', 'jobs:failed:at', a[1])
  redis.call('ZREM', 'jobs:dead', a[1])
  redis.call('HDEL', 'jobs:dead:reasons', a[1])
  requeue(a[1], job, now())
  return 'ok'
end

-- worker, lease ms, jobs the worker runs…: heartbeat and leases. Returns lost and
-- cancelled ones, and whether the worker is still registered.
local function ml1_beat(_, a)
  local at = now()
  redis.call('SET', 'worker:' .. a[1] .. ':heartbeat', iso(at), 'EX', 60)
  local known = redis.call('HEXISTS', 'worker:' .. a[1], 'worker_id')
  redis.call('HSET', 'worker:' .. a[1], 'last_heartbeat', iso(at))
  redis.call('EXPIRE', 'worker:' .. a[1], 120)
  local lost, cancel = {}, {}
  for i = 3, #a, 2 do
    local job = mine(a[i], a[1], a[i + 1])
    if not job then lost[#lost + 1] = a[i]
    else
      redis.call('ZADD', 'jobs:leases', at + tonumber(a[2]), a[i])
      if job.cancel_requested == '1' then cancel[#cancel + 1] = a[i] end
    end
  end
  promote(at)
  reap(at)
  return {lost, cancel, known}
end

-- worker, reason: whatever a dead worker held goes back. Returns the ids.
local function ml1_recover(_, a)
  local at = now()
  local back = {}
  for _, id in ipairs(redis.call('HKEYS', 'jobs:active:' .. a[1])) do
    local job = hash('job:' .. id)
    if job.worker_id == a[1] and (job.status == 'assigned' or job.status == 'in_progress') then
      hand_back(id, a[1], job, true, a[2], at)
      back[#back + 1] = id
    else
      redis.call('HDEL', 'jobs:active:' .. a[1], id)
    end
  end
  return back
end

redis.register_function('ml1_submit', ml1_submit)
redis.register_function('ml1_claim', ml1_claim)
redis.register_function('ml1_progress', ml1_progress)
redis.register_function('ml1_complete', ml1_complete)
redis.register_function('ml1_fail', ml1_fail)
redis.register_function('ml1_release', ml1_release)
redis.register_function('ml1_cancelled', ml1_cancelled)
redis.register_function('ml1_cancel', ml1_cancel)
redis.register_function('ml1_retry', ml1_retry)
redis.register_function('ml1_beat', ml1_beat)
redis.register_function('ml1_recover', ml1_recover)
