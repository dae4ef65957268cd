-- Nothing new is begun until it is resumed; what is done stays.
obj.spec.suspend = true
return obj
