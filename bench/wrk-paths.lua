-- As wrk.lua, asking in turn for each path of a file, whose name is the only argument.
dofile((debug.getinfo(1, "S").source:sub(2):gsub("[^/]*$", "")) .. "wrk.lua")

local paths, next = {}, 0

init = function(args)
  for path in io.lines(args[1]) do paths[#paths + 1] = path end
end

request = function()
  next = next % #paths + 1
  return wrk.format("GET", paths[next])
end
