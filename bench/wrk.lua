-- Prints what wrk has measured as one line of JSON, with the CPU time that wrk itself has taken.
done = function(summary, latency)
  local stat = io.open("/proc/self/stat"):read("*a"):gsub("^.*%) ", "")
  local fields = {}
  for field in stat:gmatch("%S+") do fields[#fields + 1] = field end
  local errors = summary.errors
  print(string.format(
    '\n{"bytes":%d,"requests":%d,"seconds":%.6f,"clientCpuSeconds":%.2f,"p50Ms":%.3f,"p99Ms":%.3f,"errors":%d}',
    summary.bytes, summary.requests, summary.duration / 1e6, (fields[12] + fields[13]) / 100,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
