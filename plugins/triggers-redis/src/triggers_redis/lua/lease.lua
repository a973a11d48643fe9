-- Take, renew or give back a named lease over the whole store.
--
-- KEYS 1 lease    ARGV 1 now ('' asks the server), 2 owner, 3 seconds ('' gives it back)

local time = redis.call('TIME')
local now = ARGV[1] ~= '' and tonumber(ARGV[1]) or time[1] + time[2] / 1000000
local until_, owner = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (.*)$')
if ARGV[3] == '' then
    if owner == ARGV[2] then redis.call('DEL', KEYS[1]) end
    return 1
end
until_ = tonumber(until_)
-- One that lasts longer than anybody would take it for was written by a wrong clock: it is free.
if owner and owner ~= ARGV[2] and until_ and until_ > now and until_ <= now + ARGV[3] then
    return 0
end
redis.call('SET', KEYS[1], string.format('%.17g', now + ARGV[3]) .. ' ' .. ARGV[2])
return 1
