-- Health of every kind of vectorops.dev, as Argo CD asks for it. One script for all kinds: they share their conditions.
--
-- Healthy      Ready, or Complete. A VectorIndex that serves stays Healthy while a rebuild waits for an approval.
-- Suspended    a person's word or a clock is waited for: approval, budget, window, suspend
-- Degraded     Stalled: no waiting heals it, or what others should bring has not come within the progress deadline
-- Progressing  everything else: not looked at yet, at work, or waiting for what others may still bring

local hs = { status = "Progressing", message = "Waiting for the operator to look at it" }
local status = obj.status
if status == nil or status.conditions == nil then
  return hs
end
local generation = obj.metadata.generation
if status.observedGeneration ~= nil and generation ~= nil and status.observedGeneration ~= generation then
  hs.message = "Waiting for the operator to look at generation " .. tostring(generation)
  return hs
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end

local function is(type)
  return found[type] ~= nil and found[type].status == "True"
end

local function told(type)
  local condition = found[type]
  local reason, message = condition.reason or "", condition.message or ""
  if message == "" then
    return reason
  end
  return reason .. ": " .. message
end

if is("Stalled") or is("Failed") then
  hs.status = "Degraded"
  hs.message = told(is("Stalled") and "Stalled" or "Failed")
elseif is("Ready") then
  hs.status = is("Reconciling") and "Progressing" or "Healthy"
  hs.message = told((is("Blocked") and "Blocked") or (is("Suspended") and "Suspended") or "Ready")
elseif is("Suspended") then
  hs.status = "Suspended"
  hs.message = told("Suspended")
elseif found["Ready"] ~= nil then
  hs.message = told("Ready")
end
return hs
