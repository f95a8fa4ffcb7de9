"""What the server does in one step: scripts in Redis' Lua."""

from __future__ import annotations

#: Adds a flush to the sums, unless a flush of its number came before; returns the sums that are asked for.
#: KEYS: the sums, by key; the replica's last number. ARGV: number, seconds to remember it, era's half-lives, count
#: of pairs, pairs of key and sums; then the keys asked for. Sums: the era, then values, little-endian doubles.
EXCHANGE = """
local number, remember, half_lives, pairs_ = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
if pairs_ > 0 and last < number then
  for p = 0, pairs_ - 1 do
    local key, more = ARGV[5 + 2 * p], ARGV[6 + 2 * p]
    local old = redis.call('HGET', KEYS[1], key)
    if old and #old == #more then
      local era_old, era_more = struct.unpack('<d', old), struct.unpack('<d', more)
      local era = math.max(era_old, era_more)
      local by_old, by_more = 2 ^ (-half_lives * (era - era_old)), 2 ^ (-half_lives * (era - era_more))
      local parts, at, count = {struct.pack('<d', era)}, 9, #more / 8 - 1
      while count > 0 do
        local n = math.min(count, 128)
        local format = '<' .. string.rep('d', n)
        local a, b = {struct.unpack(format, old, at)}, {struct.unpack(format, more, at)}
        for i = 1, n do a[i] = a[i] * by_old + b[i] * by_more end
        parts[#parts + 1] = struct.pack(format, unpack(a, 1, n))
        at, count = at + 8 * n, count - n
      end
      more = table.concat(parts)
    end
    redis.call('HSET', KEYS[1], key, more)
  end
end
if pairs_ > 0 then redis.call('SET', KEYS[2], math.max(last, number), 'EX', remember) end
local first = 5 + 2 * pairs_
if #ARGV < first then return {} end
return redis.call('HMGET', KEYS[1], unpack(ARGV, first, #ARGV))
"""

#: Gives a decision out once: to whoever comes first, or comes again with the same token because no answer came.
#: KEYS: the request's decisions; who claimed which row. ARGV: row, token, seconds to remember it.
CLAIM = """
local kept = redis.call('GET', KEYS[1])
if not kept or tonumber(ARGV[1]) >= struct.unpack('<I4', kept) then return false end
local by = redis.call('HGET', KEYS[2], ARGV[1])
if by and by ~= ARGV[2] then return '' end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return kept
"""
