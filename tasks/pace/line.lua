-- The line before one provider: who may ask it, and when. All processes stand in it.
--
-- Requests and tokens are spaced by GCRA (ITU-T I.371), which gives each turn a moment of its own, in the future if
-- need be; what is used of the limits goes down and up by AIMD (Chiu and Jain, 1989).
--
-- KEYS[1], a hash:
--   free     when the next request may go             pushed   for how long the line stood still in all
--   whole    when the promised tokens are there again until    Redis' time at which the last pause ends
--   share    of the limits that is used, 1 unless set raised   Redis' time at which it was last changed
--   guess    requests a window, where no limit is set cut      when the share was last lowered
--   ticket   the last one that was given              again    refusals since, with no answer between them
--   worth    what part of their bounds requests really cost, on the average
-- KEYS[2] and KEYS[3], sorted sets: who holds or awaits a place, by ticket, and by the end of its life
-- KEYS[4] and KEYS[5], hashes: requests and tokens by slice of time
--
-- Times are microseconds. `free`, `whole`, `cut`, turns and slices are on the line's clock, which is Redis' clock
-- less `pushed`: a pause moves everybody by as much as it lasts, and all keep their order and distance.
--
-- ARGV: what is wanted, whose turn; requests, tokens, places (0: no limit set); a window, what is used of a limit, a
-- place's life; a cut, the least share, a rise; the least guess, its rise, when it is dropped (contract.py); and what
-- the function below takes.

local LIFE_S = 7200          -- of the keys after the last turn
local WAITING_US = 5000000   -- of somebody in line; asks again each half second
local SLACK_US = 50000       -- a pause that ends no later than this after the one that is known is the same
local SLICES = 120           -- of a window
local MARGIN = 1.1           -- of what a request is expected to cost
local LONGER = 4             -- than the provider says, at most, is waited where it refuses again and again

local wanted, id = ARGV[1], ARGV[2]
local rpm, tpm, places = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local window, used = tonumber(ARGV[6]), tonumber(ARGV[7])
local hold, cut_to, least, rise = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local least_guess, guess_rise, enough = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
local call = redis.call

local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local fields = {'free', 'whole', 'pushed', 'until', 'share', 'raised', 'guess', 'cut', 'again', 'worth'}
local known = call('HMGET', KEYS[1], unpack(fields))
for i, field in ipairs(fields) do known[i] = tonumber(known[i] or (field == 'share' and 1 or 0)) end
local free, whole, pushed, pause = known[1], known[2], known[3], known[4]
local share, raised, guess, cut, again, worth = known[5], known[6], known[7], known[8], known[9], known[10]
local slice = window / SLICES
local span = window / used

local function save(...)
  call('HSET', KEYS[1], ...)
  call('EXPIRE', KEYS[1], LIFE_S)
end

-- Between two requests; 0: none.
local function distance()
  local limit = rpm > 0 and rpm or guess
  return limit > 0 and span / (limit * share) or 0
end

local function most_tokens()
  return tpm * math.min(share, 1)
end

-- Slices that still count at a moment, oldest first, and their sum; older ones go.
local function recent(key, at)
  local found, counts, sum, old = {}, {}, 0, (now - pushed) - 2 * span
  local all = call('HGETALL', key)
  for i = 1, #all, 2 do
    local began, count = tonumber(all[i]) * slice, tonumber(all[i + 1])
    if began + slice + span > at then
      table.insert(found, began)
      counts[began] = count
      sum = sum + count
    elseif began < old then
      call('HDEL', key, all[i])
    end
  end
  table.sort(found)
  return found, counts, sum
end

local function slice_of(at)
  return string.format('%.0f', math.floor(at / slice))
end

local function note(key, at, count)
  if call('HINCRBY', key, slice_of(at), count) == count then
    recent(key, at)
    call('EXPIRE', key, LIFE_S)
  end
end

-- Requests in the last window, or what they would be at the pace of its last sixth, if that is more: who has just begun
-- is not to be taken for slow.
local function lately()
  local slices, counts, sum = recent(KEYS[4], now - pushed)
  local newest = 0
  for _, began in ipairs(slices) do
    if began > now - pushed - window / 6 then newest = newest + counts[began] end
  end
  return math.max(sum, newest * 6)
end

-- What a request will cost, at most its bound. Where the bounds are loose, requests that wait for their moments would
-- else hold free what none of them uses.
local function expected(bound)
  return worth > 0 and math.min(bound, math.ceil(bound * worth * MARGIN)) or bound
end

-- A minute's tokens count for as much as all that was before.
local function learn(bound, cost)
  local weight = worth > 0 and bound / (bound + tpm) or 1
  save('worth', worth + (math.min(1, cost / bound) - worth) * weight)
end

-- The first moment from `at` on at which so many tokens go into the window.
local function room(at, tokens)
  local slices, counts, sum = recent(KEYS[5], at)
  for _, began in ipairs(slices) do
    if sum + tokens <= most_tokens() then break end
    at = math.max(at, began + slice + span)
    sum = sum - counts[began]
  end
  return math.ceil(at)
end

local function hold_everybody(for_us)
  local ends = now + for_us
  if for_us > 0 and ends > pause + SLACK_US then
    pushed = pushed + ends - math.max(now, pause)
    pause = ends
    save('pushed', pushed, 'until', pause)
  end
end

-- Leave, and call the one who has a place now.
local function leave()
  if places == 0 or call('ZREM', KEYS[2], id) == 0 then return end
  call('ZREM', KEYS[3], id)
  local next = call('ZRANGE', KEYS[2], places - 1, places - 1)[1]
  if next then
    call('LPUSH', KEYS[1] .. ':call:' .. next, 1)
    call('EXPIRE', KEYS[1] .. ':call:' .. next, 10)
  end
end

-- Whether we have a place; else we stand in line for one. Whoever was killed in a place or in line is gone in the
-- end.
local function in_place()
  if places == 0 then return true end
  for _, dead in ipairs(call('ZRANGEBYSCORE', KEYS[3], '-inf', now)) do
    call('ZREM', KEYS[2], dead)
    call('ZREM', KEYS[3], dead)
  end
  if not call('ZSCORE', KEYS[2], id) then
    call('ZADD', KEYS[2], call('HINCRBY', KEYS[1], 'ticket', 1), id)
  end
  call('ZADD', KEYS[3], now + WAITING_US, id)
  for _, key in ipairs({KEYS[1], KEYS[2], KEYS[3]}) do call('EXPIRE', key, LIFE_S) end
  return call('ZRANK', KEYS[2], id) < places
end

local function stay(at)
  if places > 0 then call('ZADD', KEYS[3], math.max(now, at + pushed) + hold, id) end
end

-- An answer to a request that was sent after the last cut.
local function raise()
  if again > 0 then save('again', 0) end
  if now <= raised or (share == 1 and guess == 0) then return end
  share = share + (guess > 0 and guess_rise * share or rise) * math.min(now - raised, window) / window
  if guess > 0 and share >= enough then
    call('HDEL', KEYS[1], 'share', 'guess')
  elseif guess == 0 and share >= 1 then
    call('HDEL', KEYS[1], 'share')
  else
    save('share', share, 'raised', now)
  end
end

local wants = {}

-- A turn for so many tokens within a patience; a pause that the asker knows of, and how many requests it has sent
-- lately if no limit is set. What came of it (1: a turn, 0: a place has to be waited for, -1: it would take too
-- long), the time to wait, when the turn is, `free` after it, the tokens that are kept for it, what is left of the
-- pause, and whether the line wants to hear of an answer.
function wants.turn()
  local tokens, patience, sent = expected(tonumber(ARGV[15])), tonumber(ARGV[16]), tonumber(ARGV[18])
  hold_everybody(tonumber(ARGV[17]))
  if sent > 0 then note(KEYS[4], now - pushed, sent) end
  local left = math.max(0, pause - now)
  if not in_place() then
    if patience > 0 then return {0, 0, 0, 0, 0, left, 0} end
    leave()
    return {-1, 1000000, 0, 0, 0, left, 0}
  end
  local apart, at = distance(), math.max(now, pause) - pushed
  if apart > 0 then at = math.max(at, free) end
  if tpm > 0 then at = room(math.max(at, whole), tokens) end
  local wait = at + pushed - now
  if wait > math.max(0, patience) then
    leave()
    return {-1, wait, 0, 0, 0, left, 0}
  end
  if apart > 0 then
    free = math.ceil(at + apart)
    save('free', free)
  end
  if tpm > 0 then
    save('whole', math.ceil(at + tokens * span / most_tokens()))
    note(KEYS[5], at, tokens)
  end
  stay(at)
  return {1, wait, at, free, tokens, left, (share ~= 1 or guess > 0) and 1 or 0}
end

-- How long it is still until a turn: a pause may have come meanwhile.
function wants.look()
  local at = tonumber(ARGV[15])
  stay(at)
  return {at + pushed - now, math.max(0, pause - now)}
end

-- The end of a turn: its bound, the tokens that were kept for it, what it cost, whether it was answered, and, if
-- nothing was sent, `free` as it was after it.
function wants.over()
  local at, bound, kept, cost = tonumber(ARGV[15]), tonumber(ARGV[16]), tonumber(ARGV[17]), tonumber(ARGV[18])
  local answered, mine = ARGV[19] == '1', tonumber(ARGV[20])
  leave()
  if tpm > 0 and kept ~= cost and call('HEXISTS', KEYS[5], slice_of(at)) == 1 then
    save('whole', math.floor(whole - (kept - cost) * span / most_tokens()))
    note(KEYS[5], at, cost - kept)
  end
  if tpm > 0 and answered and bound > 0 then learn(bound, cost) end
  if mine > 0 and mine == free then save('free', at) end
  if answered and at > cut then raise() end
end

-- The provider refused, and said when to come again. The share is lowered once, not for the requests that were under
-- way meanwhile. Who is refused again after that found the provider's window still full: then we wait for
-- longer.
function wants.refused()
  local at, for_us, sent = tonumber(ARGV[15]), tonumber(ARGV[16]), tonumber(ARGV[17])
  leave()
  if sent > 0 then note(KEYS[4], now - pushed, sent) end
  if at <= cut then return hold_everybody(for_us) end
  if again > 0 then
    for_us = for_us * math.min(2 ^ again, LONGER)
  else
    if rpm == 0 and guess == 0 then
      save('guess', math.max(least_guess, lately()))
    end
    save('share', math.max(least, share * cut_to))
  end
  save('again', again + 1, 'raised', now + for_us, 'cut', now - pushed)
  hold_everybody(for_us)
end

return wants[wanted]()
