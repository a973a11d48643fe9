-- Report a session, or a part of it. Writes nothing.

return report(clock(), redis.call('GET', KEYS[1]) or '')
