-- Renew a lease, which is in the due index alone: no version changes, nobody conflicts.
--
-- ARGV from 3: uid, instance, token, seconds of the lease, schema, plugins

local now, text = seconds(clock()), redis.call('GET', KEYS[1]) or ''
local answer = report(now, text)
local layout, _, _, _, schema, requires = parse_version_line(text)
if layout and is_understood(schema, requires, ARGV[7], ARGV[8]) then
    local stored = find_instance(text, ARGV[4]) or ''
    local token = string.match(stored, '^r%d+ [%d,-]* %S+ %d+ ([^\t]*)\t')
    if token == ARGV[5] then
        local lease = string.format('%.17g', now + ARGV[6])
        redis.call('ZADD', KEYS[5], 'XX', lease, ARGV[4] .. '\t' .. ARGV[3])
    end
end
return '-' .. answer
