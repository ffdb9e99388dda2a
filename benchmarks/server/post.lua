-- POST bodies of 4 KiB, each of them new: 4,080 bytes that never change and a number that does.
local random = io.open("/dev/urandom", "rb")
local rest = random:read(4080)
local number = 0

wrk.method = "POST"

request = function()
    number = number + 1
    return wrk.format(nil, nil, nil, string.format("%016x", number) .. rest)
end
