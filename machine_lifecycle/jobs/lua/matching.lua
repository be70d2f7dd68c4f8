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
  performance = true, location = true, cost = true, metadata = true, supported_components = true,
  node_packs = true, custom_nodes = true, node_classes = true}

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

local function numbers_met(have, wanted)
  return wanted == 'all' or (tonumber(have) or -1) >= tonumber(wanted)
end

local function hardware_met(caps, wanted)
  if wanted == 'all' then return true end
  local have = caps.hardware or {}
  for key, value in pairs(wanted) do
    if HARDWARE[key] then
      if not numbers_met(have[key], value) then return false end
    elseif not satisfies(have[key], value) then return false end
  end
  return true
end

-- The names that are asked for, and those that are there; either may be kept apart by service.
local function model_names(service, value)
  if type(value) == 'table' and #value == 0 and next(value) ~= nil then value = value[service] end
  if value == nil or value == cjson.null then return {} end
  return type(value) == 'table' and value or {value}
end

local function models_of(caps, service)
  local known = type(caps.models) == 'table' and caps.models[service] or nil
  return type(known) == 'table' and known or {known}
end

local function models_met(caps, service, wanted)
  if wanted == 'all' then return true end
  for _, model in ipairs(model_names(service, wanted)) do
    if model ~= 'all' and not has_model(models_of(caps, service), model) then return false end
  end
  return true
end

local function one_met(caps, service, name, wanted)
  if HARDWARE[name] then return numbers_met((caps.hardware or {})[name], wanted) end
  if name == 'hardware' then return hardware_met(caps, wanted) end
  if name == 'models' then return models_met(caps, service, wanted) end
  if name == 'customer_isolation' then
    return wanted ~= 'strict' or (caps.customer_access or {}).isolation == 'strict'
  end
  local have = path(caps, name)
  if have == nil and not CUSTOM[name] and not string.find(name, '.', 1, true) then return true end
  return satisfies(have, wanted)
end

local function one_avoided(caps, service, name, wanted)
  if name == 'models' then
    for _, model in ipairs(model_names(service, wanted)) do
      if has_model(models_of(caps, service), model) then return false end
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
end

local function customer_allowed(caps, customer)
  local access = caps.customer_access or {}
  local denied = type(access.denied_customers) == 'table' and access.denied_customers or {}
  local allowed = type(access.allowed_customers) == 'table' and access.allowed_customers or {}
  if given(customer) and has(denied, customer) then return false end
  return #allowed == 0 or (given(customer) and has(allowed, customer))
end

local function lacking(caps, class, all)
  local found = {}
  local function miss(words) found[#found + 1] = words end
  if not has(caps.job_service_required_map or {}, class.service) then
    miss('serves no ' .. class.service)
  elseif not customer_allowed(caps, class.customer) then
    miss('takes no jobs of customer ' .. (given(class.customer) and class.customer or '(none named)'))
  end
  if given(caps.workflow_id) and caps.workflow_id ~= class.workflow then
    miss('is kept for workflow ' .. caps.workflow_id)
  end
  if #found > 0 and not all then return found end
  for name, wanted in pairs(class.positive) do
    if not one_met(caps, class.service, name, wanted) then
      miss(name .. ' must be ' .. cjson.encode(wanted))
      if not all then return found end
    end
  end
  for name, wanted in pairs(class.negative) do
    if not one_avoided(caps, class.service, name, wanted) then
      miss(name .. ' must not be ' .. cjson.encode(wanted))
      if not all then return found end
    end
  end
  return found
end

-- The one decider: what of a class (service, positive, negative, customer) a worker with these
-- capabilities lacks, in words. Nothing lacks: it may run the class's jobs. With *all* everything
-- is named, else the first thing ends it. A class is held against all that workers advertise: what
-- of that can't be read, from either side, may cost nobody but the two.
local function lacks(caps, class, all)
  local done, found = pcall(lacking, caps, class, all)
  return done and found or {'can\'t be held against what is required: ' .. tostring(found)}
end

-- JSON with sorted keys: equal requirements read alike.
local function canonical(value)
  if type(value) ~= 'table' then return cjson.encode(value) end
  local parts = {}
  if #value > 0 then
    for i, item in ipairs(value) do parts[i] = canonical(item) end
    return '[' .. table.concat(parts, ',') .. ']'
  end
  local names = {}
  for name in pairs(value) do names[#names + 1] = tostring(name) end
  table.sort(names)
  for i, name in ipairs(names) do parts[i] = cjson.encode(name) .. ':' .. canonical(value[name]) end
  return '{' .. table.concat(parts, ',') .. '}'
end

local function number_wrong(name, wanted)
  if wanted ~= 'all' and not tonumber(wanted) then return 'requirement ' .. name .. ' is no number' end
end

local DEEPEST_REQUIREMENTS = 32 -- far below what cjson takes, which classes are written with

-- Why a value of a requirement is none that can be compared, or nil.
local function value_wrong(value, depth)
  if type(value) == 'number' and (value ~= value or value == math.huge or value == -math.huge) then
    return 'hold a number that is none'
  end
  if type(value) ~= 'table' then return nil end
  if depth > DEEPEST_REQUIREMENTS then return 'are nested deeper than ' .. DEEPEST_REQUIREMENTS end
  for _, item in pairs(value) do
    local wrong = value_wrong(item, depth + 1)
    if wrong then return wrong end
  end
end

local function names_wrong(value)
  if type(value) ~= 'table' then return type(value) ~= 'string' and type(value) ~= 'number' end
  for key, item in pairs(value) do
    if type(key) ~= 'number' or type(item) == 'table' or names_wrong(item) then return true end
  end
  return false
end

local function models_wrong(wanted)
  if not names_wrong(wanted) then return nil end
  local by_service = type(wanted) == 'table' and #wanted == 0
  for _, value in pairs(by_service and wanted or {}) do
    if value ~= cjson.null and names_wrong(value) then by_service = false end
  end
  if not by_service then return 'requirement models names no models' end
end

-- What matching looks at, without what it ignores; nil and the reason for what nobody can ever meet.
local function wanted_of(object, which)
  if object == nil or object == cjson.null then return {} end
  if type(object) ~= 'table' then return nil, which .. ' is no object' end
  local kept = {}
  for name, wanted in pairs(object) do
    if type(name) ~= 'string' then return nil, which .. ' is a list, not an object' end
    if not NOT_REQUIRED[name] and wanted ~= cjson.null then
      local wrong = HARDWARE[name] and number_wrong(name, wanted)
      if name == 'hardware' and wanted ~= 'all' then
        if type(wanted) ~= 'table' then return nil, 'requirement hardware is no object' end
        for key, value in pairs(wanted) do
          wrong = wrong or (HARDWARE[key] and number_wrong(key, value))
        end
      end
      wrong = wrong or (name == 'models' and models_wrong(wanted))
      if wrong then return nil, wrong end
      kept[name] = wanted
    end
  end
  return kept
end

local LONGEST_REQUIREMENTS = 65536

-- The class that a job belongs to; nil and the reason for a job that nobody can ever run.
local function class_of(service, requirements, customer)
  if not given(service) then return nil, 'it names no service_required' end
  local class = {service = service, customer = given(customer) and customer or '', positive = {},
    negative = {}}
  if not given(requirements) then return class end
  if #requirements > LONGEST_REQUIREMENTS then return nil, 'requirements are longer than 64 KiB' end
  local ok, object = pcall(cjson.decode, requirements)
  if not ok then return nil, 'requirements are not JSON' end
  if type(object) ~= 'table' then return nil, 'requirements are no object' end
  local wrong = value_wrong(object, 1)
  if wrong then return nil, 'requirements ' .. wrong end
  local positive = object.positive_requirements
  if positive == nil or positive == cjson.null then positive = object end
  local reason
  class.positive, reason = wanted_of(positive, 'requirements')
  if reason then return nil, reason end
  class.negative, reason = wanted_of(object.negative_requirements, 'negative_requirements')
  if reason then return nil, reason end
  return class
end
