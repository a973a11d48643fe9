-- scheduled → running in one round trip: compare and set, and the session as it was before.
--
-- ARGV from 3: uid, instance, attempt, generation, token, seconds of the lease, schema, plugins
-- Answers 'C' (claimed) or '-', then the report.

local now, text = seconds(clock()), redis.call('GET', KEYS[1]) or ''
local before = report(now, text)
local layout, version, generation, config, schema, requires, ticket, claims =
    parse_version_line(text)
if
    layout and generation == ARGV[6] and #claims < 4096 and not is_live(ticket)
    and is_understood(schema, requires, ARGV[9], ARGV[10])
then
    local name = ARGV[4]
    local stored, from, to = find_instance(text, name)
    local attempt, taken, record = string.match(stored or '', '^s(%d+) ([%d,-]*)\t(.*)$')
    if attempt == ARGV[5] then
        local running = 'r' .. attempt .. ' ' .. taken .. ' ' .. now .. ' ' .. config
            .. ' ' .. ARGV[7]
        local task = string.match(name, '^(.*)#%d+$')
        local version_line = string.format('%s%d', layout, version + 1) .. '\t' .. generation
            .. '\t' .. config .. '\t' .. schema .. '\t' .. requires
            .. '\t\t' .. claims .. '\2' .. now .. ' ' .. task
        local line_end = string.find(text, '\n', 1, true)
        redis.call('ZADD', KEYS[5], 'XX', 0, '')  -- refused now, or not at all: see commit.lua
        if from then
            text = string.sub(text, line_end, from - 1) .. running .. '\t' .. record
                .. string.sub(text, to + 1)
        else
            redis.call('SET', KEYS[1], '', 'NX')
            redis.call('HSET', KEYS[3], name, running .. '\t' .. record)
            text = string.sub(text, line_end)
        end
        redis.call('SET', KEYS[1], version_line .. text)
        local lease = string.format('%.17g', now + ARGV[8])
        redis.call('ZADD', KEYS[5], lease, name .. '\t' .. ARGV[3])
        return 'C' .. before
    end
end
return '-' .. before
