"""The scripts; one writes: what was read is still so, or nothing happens."""

RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end return 0"
"""Takes out a claim, if it is still the one that was made."""

WRITE = """\
local at = 1
local function take() at = at + 1; return ARGV[at - 1] end
if redis.call('HGET', KEYS[1], 'instance') ~= take() then return 'lost' end
for i = 2, #KEYS do
  local expected = take()
  if expected ~= '*' and (redis.call('HGET', KEYS[i], 'rev') or '') ~= expected then return 'moved' end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #KEYS do
  local dropped, deadline, lives = take(), take(), take()
  if dropped == '1' then redis.call('UNLINK', KEYS[i]) end
  local sets = tonumber(take())
  for _ = 1, sets do
    local field, value = take(), take()
    redis.call('HSET', KEYS[i], field, value)
  end
  for _ = 1, tonumber(take()) do redis.call('HDEL', KEYS[i], take()) end
  if lives == 'on' then
    redis.call('PERSIST', KEYS[i])
    redis.call('HDEL', KEYS[2], deadline)
  elseif lives ~= '' then
    local ends = string.format('%.0f', now + tonumber(lives))
    redis.call('PEXPIREAT', KEYS[i], ends)
    redis.call('HSET', KEYS[2], deadline, ends)
  end
end
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('HSET', KEYS[i], 'fields', 0)
    redis.call('HSET', KEYS[i], 'fields', redis.call('HLEN', KEYS[i]))
  end
end
return 'done'
"""
"""KEYS: the directory, an owner, sessions of that owner.

ARGV: the instance; for each key but the first the mark it must have ("" for a hash that must not be there, "*" for
any); then for each key whether it is dropped, under which field of the owner its end is noted, how many milliseconds
it lives from now ("on": without end, "": as it is), its new fields, and the fields that go. The first write of all sets
a field or drops a hash: if the server is out of memory, that one is refused and nothing was written.
"""
