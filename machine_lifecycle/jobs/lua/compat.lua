
-- For workers that know only the hub's own function -----------------------------------------------
--
-- Loaded where the hub has loaded none, under the name of the hub's library: when the hub loads its
-- own, that takes the place of this one.

local function best_of_classes(caps)
  local best_h, best_place
  for _, h in ipairs(redis.call('HKEYS', 'jobs:classes')) do
    local head = redis.call('ZREVRANGE', 'jobs:class:' .. h, 0, 0, 'WITHSCORES')
    local place = tonumber(head[2])
    if place and (not best_place or place > best_place) then
      local class = cjson.decode(redis.call('HGET', 'jobs:classes', h))
      if #lacks(caps, class) == 0 then best_h, best_place = h, place end
    end
  end
  return best_h
end

-- capabilities JSON, how many to look at (which the index makes needless). Returns the job as JSON,
-- as it was before, or nothing. Such a worker renews no lease, so that it gets none.
local function find_matching_job(_, a)
  local caps, at = cjson.decode(a[1]), now()
  promote(at)
  if given(caps.machine_id) and drained(caps.machine_id) then return nil end
  for _ = 1, LOOKS do
    local h = best_of_classes(caps)
    if not h then
      if unfiled() <= 0 or not search(at, CHUNK) then return nil end
    else
      local found, jobs = first_of(h, caps.worker_id or '', nil, at, 1, 0), {}
      take_all(found, h, caps.worker_id or '', caps.machine_id or '', nil, at, jobs)
      if jobs[1] then
        worker_now(caps.worker_id or '', seen_of(caps.worker_id or ''), at, jobs[1][1], 0, 0)
        return '{"jobId":' .. cjson.encode(jobs[1][1]) .. ',"job":' .. jobs[1][3] .. '}'
      end
    end
  end
  return nil
end

redis.register_function{function_name = 'findMatchingJob', callback = find_matching_job,
  flags = {'allow-oom'}}
