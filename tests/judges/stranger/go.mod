module stranger

go 1.27
