-- Which buttons an object of vectorops.dev has now. One script for all kinds.

local actions = {}
local suspended = obj.spec ~= nil and obj.spec.suspend == true
actions["suspend"] = { ["disabled"] = suspended }
actions["resume"] = { ["disabled"] = not suspended }

local status = obj.status or {}
local ready, over = nil, false
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    ready = condition
  end
  if (condition.type == "Complete" or condition.type == "Failed") and condition.status == "True" then
    over = true
  end
end

if obj.kind == "VectorIndex" or obj.kind == "EmbeddingBackfill" then
  local waits = ready ~= nil and ready.reason == "WaitingForApproval" and status.plan ~= nil
  actions["approve"] = { ["disabled"] = not waits }
end
if obj.kind == "VectorIndex" then
  actions["rerun"] = { ["disabled"] = status.index == nil }
elseif obj.kind ~= "VectorStore" then
  actions["rerun"] = { ["disabled"] = not over }
end
return actions
