-- Approve the plan that the status shows now, by its hash: any other plan stays unapproved.
if obj.status == nil or obj.status.plan == nil then
  error("there is no plan to approve")
end
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["vectorops.dev/approve"] = obj.status.plan.hash
return obj
