-- Run a request again, or rebuild an index once beside itself: a new runToken is what asks for it.
obj.spec.runToken = os.date("!argocd-%Y%m%dT%H%M%SZ")
return obj
