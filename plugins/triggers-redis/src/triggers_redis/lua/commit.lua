-- Write a plan if the session still is as its decision saw it; else answer with how it is now.
--
-- ARGV from 3: expected first line ('' for none), new head, then '' or 'x', which announces
--      offset of the events to keep behind the head ('' none), events to put behind those,
--      ticket to take on a conflict ('' none),
--      configuration in KEYS[6] ('' none, '?' must be there, else its body);
--      then operations: three bytes (letter of the command, number of its key, number of its
--      arguments), then the arguments

local text, expected, now = redis.call('GET', KEYS[1]) or '', ARGV[3], nil
local more = ARGV[5] ~= ''
local moved = string.sub(text, 1, #expected) ~= expected or expected == '' and text ~= ''
-- What was decided on an older view counted the time since by itself, which a suspended machine
-- does not: it must not write times of long ago.
if string.find(ARGV[1], '^%d') then
    now = clock()
    if math.abs(string.match(now, '^%d+') - ARGV[1]) > 2 then moved = true end
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
    return '!' .. report(now or clock(), text)
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
local commands = {
    r = 'RPUSH', h = 'HSET', z = 'ZADD', x = 'ZREM', e = 'PEXPIRE', p = 'PERSIST'
}
while at <= last do
    local _, key, count = string.byte(ARGV[at], 1, 3)
    redis.call(commands[string.sub(ARGV[at], 1, 1)], KEYS[key], unpack(ARGV, at + 1, at + count))
    at = at + count + 1
end
return '+'
