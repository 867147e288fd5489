-- Runs the health scripts of one kind on fixtures that are already Lua tables: lua check.lua health.lua fixtures.lua
-- fixtures.lua returns a list of {name =, object =, status =, message =}. Prints one line for each; ends with 1 if one is
-- not as expected. A script sees what Argo CD gives it: the object as `obj`, and the base library.
local script, fixtures = arg[1], arg[2]
local failed = false
for _, fixture in ipairs(dofile(fixtures)) do
  local environment = {obj = fixture.object, ipairs = ipairs, pairs = pairs, tostring = tostring, string = string}
  local health = assert(loadfile(script, "t", environment))()
  local fine = health.status == fixture.status and health.message == fixture.message
  print((fine and "ok   " or "WRONG") .. " " .. fixture.name .. ": " .. health.status .. ", " .. tostring(health.message))
  failed = failed or not fine
end
os.exit(not failed)
