-- The load of compare.sh: wrk -s wrk.lua URL -- HOST [KEYS]
--
-- With KEYS, that many different version keys go round, in every second request; the others have none. Prints one line for the
-- script: requests, microseconds, failed requests, 50th and 99th percentile of the latency in microseconds.

local requests, next = {}, 0

function init(args)
    wrk.headers["Host"] = args[1]
    for key = 1, tonumber(args[2] or 0) do
        requests[#requests + 1] = wrk.format("GET", "/")
        requests[#requests + 1] =
            wrk.format("GET", "/", { Host = args[1], ["Cloudflare-Workers-Version-Key"] = "user-" .. key })
    end
    if #requests == 0 then
        requests[1] = wrk.format("GET", "/")
    end
end

function request()
    next = next % #requests + 1
    return requests[next]
end

function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format("measured %d %d %d %d %d\n", summary.requests, summary.duration, failed,
        latency:percentile(50), latency:percentile(99)))
end
