-- Write a plan if the session still is as its decision saw it; else answer with how it is now.
--
-- ARGV from 3: expected first line ('' for none), new head, then '' or 'x', which announces
--      offset of the events to keep behind the head ('' none), events to put behind those,
--      ticket to take on a conflict ('' none),
--      configuration in KEYS[6] ('' none, '?' must be there, else its body);
--      then operations: command, number of its key, number of its arguments, arguments

local text, expected, now = redis.call('GET', KEYS[1]) or '', ARGV[3], clock()
local more = ARGV[5] ~= ''
local moved = string.sub(text, 1, #expected) ~= expected or expected == '' and text ~= ''
-- A process that was suspended between its decision and now must not write times of long ago.
if string.byte(ARGV[1]) ~= 61 and math.abs(string.match(now, '^%d+') - ARGV[1]) > 2 then
    moved = true
end
if moved then
    local before, ticket, behind = string.match(text, '^([^\n]*\t)([^\t\n]*)(\t[^\t\n]*\n.*)$')
    if more and ARGV[8] ~= '' and before and not is_live(ticket) then
        local time = redis.call('TIME')
        -- A twentieth of a second: some hundred times what a commit takes, and nobody notices it.
        local until_ = string.format('%.3f', time[1] + time[2] / 1000000 + 0.05)
        text = before .. until_ .. ' ' .. ARGV[8] .. behind
        redis.call('SET', KEYS[1], text, 'KEEPTTL')
    end
    return '!' .. report(now, text)
end
local value, at, last = ARGV[4], 6, #ARGV
if more then
    if ARGV[9] ~= '' and redis.call('EXISTS', KEYS[6]) == 0 then
        if ARGV[9] == '?' then return '?' end
        redis.call('SET', KEYS[6], ARGV[9])
    end
    if ARGV[6] ~= '' then value = value .. string.sub(text, ARGV[6] + 1) end
    value, at = value .. ARGV[7], 10
end
redis.call('SET', KEYS[1], value)
while at < last do
    local stop = at + 2 + ARGV[at + 2]
    redis.call(ARGV[at], KEYS[tonumber(ARGV[at + 1])], unpack(ARGV, at + 3, stop))
    at = stop + 1
end
return '+'
