-- Write a plan if the session still is as its decision saw it; else answer with how it is now.
--
-- ARGV from 3: expected version line ('' for none), new value but for its events, then '' or 'x',
--      which announces an extension:
--      offset of the events to keep behind that ('' none), events to put behind those,
--      ticket to take on a conflict ('' none),
--      configuration in KEYS[6] ('' none, '?' must be there, else its body);
--      then operations: three bytes (letter of the command, number of its key, number of its
--      arguments), then the arguments
--
-- Redis undoes nothing when a command in the middle is refused: for its user, for the type of its
-- key, or because the memory is full. So each is first done in a form that is checked alike and
-- changes nothing; what has no such form comes first of all writes.

local text, expected, now = redis.call('GET', KEYS[1]) or '', ARGV[3], nil
local extended = ARGV[5] ~= ''
local conflict = string.sub(text, 1, #expected) ~= expected or expected == '' and text ~= ''
-- What was decided on an older view counted the time since by itself, which a suspended machine
-- does not: it must not write times of long ago.
if string.find(ARGV[1], '^%d') then
    now = clock()
    if math.abs(string.match(now, '^%d+') - ARGV[1]) > 2 then conflict = true end
end
if conflict then
    local before, ticket, behind = string.match(text, '^([^\n]*\t)([^\t\n]*)(\t[^\t\n]*\n.*)$')
    if extended and ARGV[8] ~= '' and before and not is_live(ticket) then
        local time = redis.call('TIME')
        -- A twentieth of a second: some hundred times what a commit takes, and nobody notices it.
        local until_ = string.format('%.3f', time[1] + time[2] / 1000000 + 0.05)
        text = before .. until_ .. ' ' .. ARGV[8] .. behind
        redis.call('SET', KEYS[1], text, 'KEEPTTL')
    end
    return '!' .. report(now or clock(), text)
end
local value, at, last = ARGV[4], extended and 10 or 6, #ARGV
local stores_configuration = false
if extended and ARGV[9] ~= '' and redis.call('EXISTS', KEYS[6]) == 0 then
    if ARGV[9] == '?' then return '?' end
    stores_configuration = true
end
local commands = {
    r = 'RPUSH', h = 'HSET', z = 'ZADD', x = 'ZREM', e = 'PEXPIRE', p = 'PERSIST', c = 'ZADD',
    n = 'ZADD'
}
local first_operation, append = at, nil
if at <= last and (string.byte(value) == 83 or string.byte(ARGV[at]) ~= 122) then
    redis.call('SET', KEYS[1], '', text == '' and 'XX' or 'NX')
end
while at <= last do
    local letter = string.sub(ARGV[at], 1, 1)
    local _, number, count = string.byte(ARGV[at], 1, 3)
    local key = KEYS[number]
    if letter == 'z' or letter == 'c' or letter == 'n' then
        -- One that expired left its entries in the listings, which a new one must not inherit.
        if letter == 'n' and redis.call('ZSCORE', key, ARGV[at + 2]) then return 'L' end
        redis.call('ZADD', key, 'XX', 0, '')
    elseif letter == 'x' then
        redis.call('ZREM', key, '')
    elseif letter == 'h' then
        redis.call('HGET', key, '')
        local refused = redis.pcall('HSET', key, '', '', '')  -- a value is missing
        if not string.find(refused.err, 'wrong number of arg', 1, true) then return refused end
    elseif letter == 'm' then
        if redis.call('GET', key) ~= ARGV[at + 1] then return 'M' end
    elseif letter == 'r' then
        append = append or at
    elseif letter == 'e' then
        redis.call('PEXPIRE', key .. '\1', 1)
    else
        redis.call('PERSIST', key .. '\1')
    end
    at = at + count + 1
end
if stores_configuration then redis.call('SET', KEYS[6], ARGV[9]) end
local function run(from)
    local letter = string.sub(ARGV[from], 1, 1)
    local _, key, count = string.byte(ARGV[from], 1, 3)
    if letter == 'c' then
        local time = redis.call('TIME')
        local moment = time[1] .. '.' .. string.format('%06d', time[2])
        redis.call('ZADD', KEYS[key], moment, ARGV[from + 1])
    elseif letter ~= 'm' then
        redis.call(commands[letter], KEYS[key], unpack(ARGV, from + 1, from + count))
    end
    return from + count + 1
end
if append then run(append) end
if extended then
    if ARGV[6] ~= '' then value = value .. string.sub(text, ARGV[6] + 1) end
    value = value .. ARGV[7]
end
redis.call('SET', KEYS[1], value)
at = first_operation
while at <= last do
    if at == append then
        at = at + string.byte(ARGV[at], 3) + 1
    else
        at = run(at)
    end
end
return '+'
