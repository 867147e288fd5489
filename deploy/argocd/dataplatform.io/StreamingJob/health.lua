-- What Argo CD shows of a StreamingJob, from its conditions. A status of an older generation says nothing about the
-- spec that is there now.
local health = {status = "Progressing", message = "the operator has not looked at it yet"}
if obj.status == nil or obj.status.conditions == nil then
  return health
end
if obj.status.observedGeneration ~= nil and obj.status.observedGeneration < obj.metadata.generation then
  health.message = "the operator has not looked at the change yet"
  return health
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end
local function holds(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end
local function says(name)
  local condition = conditions[name]
  if condition.message == nil or condition.message == "" then
    return condition.reason
  end
  return condition.reason .. ": " .. condition.message
end

if obj.spec ~= nil and obj.spec.suspend == true then
  return {status = "Suspended", message = "suspended; its state is kept"}
end
if holds("Stalled") then
  return {status = "Degraded", message = says("Stalled")}
end
if holds("Ready") then
  -- It works, even if somebody should look: a rollout is not held up by bad records.
  return {status = "Healthy", message = says("Ready")}
end
-- It does not work, and tries again: wrong, if not for good.
if holds("Degraded") then
  return {status = "Degraded", message = says("Degraded")}
end
if conditions["Ready"] ~= nil then
  health.message = says("Ready")
end
return health
