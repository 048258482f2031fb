-- wrk: each request posts the next line of a file of ready-made bodies; each thread has its share.
local counter = 0
function setup(thread)
  thread:set("share", counter)
  counter = counter + 1
end
function init(args)
  bodies = {}
  local number = 0
  for line in io.lines(args[1]) do
    if number % tonumber(args[3]) == share then bodies[#bodies + 1] = line end
    number = number + 1
  end
  next_body = 0
  wrk.method = "POST"
  wrk.headers["Authorization"] = "Bearer " .. args[2]
  wrk.headers["Content-Type"] = "application/json"
end
function request()
  next_body = next_body + 1
  if next_body > #bodies then wrk.thread:stop() return wrk.format("GET", "/healthz") end
  return wrk.format(nil, "/v1/captures", nil, bodies[next_body])
end
function response(status, headers, body)
  if status ~= 200 then refused = (refused or 0) + 1 end
end
