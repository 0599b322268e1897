-- Asks Session Gateway about a request (`http-request lua.ask_gateway` in haproxy.cfg).
--
-- Exactly 200 with all six identity headers is an allow: it sets txn.gateway to "allow", and their
-- values. A refusal with the gateway's reason goes to the client as it is. Anything else (no answer,
-- an answer of somebody else, an error in here) leaves txn.gateway unset, and haproxy.cfg refuses.

local WHERE = "abns@session-gateway" -- `listen gateway` in haproxy.cfg
local URL = "http://gateway/check/forward_auth"
local TIMEOUT_MS = 2000 -- longer than the timeouts of `listen gateway`

-- What the gateway gets to see of the client's headers, besides what HAProxy itself says.
local COPIED = {
    "accept", "accept-encoding", "accept-language", "authorization", "cookie", "sec-fetch-mode",
    "user-agent", "x-requested-with",
    "origin", "access-control-request-method",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", -- haproxy.cfg has just set them
}
local IDENTITY = { "user", "email", "name", "roles", "session", "device" }
local SIGNED = "x-auth-jwt-assertion" -- only where assertions are configured
-- HAProxy writes its own.
local OURS = { ["content-length"] = true, ["transfer-encoding"] = true, ["connection"] = true,
               ["keep-alive"] = true }

-- HAProxy counts the values of a header from 0, Lua and the HTTP client from 1. Their order is kept.
local function in_order(values)
    local found = {}
    for index = 0, #values do
        if values[index] ~= nil then
            found[#found + 1] = values[index]
        end
    end
    return found
end

local function question(txn)
    local client = txn.http:req_get_headers()
    local headers = {
        ["x-forwarded-method"] = { txn.sf:method() },
        ["x-forwarded-uri"] = { txn.sf:pathq() }, -- as the application gets it
    }
    for _, name in ipairs(COPIED) do
        if client[name] ~= nil then
            headers[name] = in_order(client[name])
        end
    end
    return headers
end

local function refuse(txn, answer)
    local headers = {}
    for name, values in pairs(answer.headers) do
        if not OURS[name:lower()] then
            headers[name] = in_order(values)
        end
    end
    txn:done(txn:reply({
        status = answer.status, reason = answer.reason, headers = headers, body = answer.body,
    }))
end

local function allow(txn, answer)
    local values = {}
    for _, name in ipairs(IDENTITY) do
        local sent = answer.headers["x-auth-" .. name]
        if sent == nil then
            return
        end
        values[name] = in_order(sent)[1]
    end
    local signed = answer.headers[SIGNED]
    if signed ~= nil then
        txn:set_var("txn.gateway_signed", in_order(signed)[1])
    end
    for name, value in pairs(values) do
        txn:set_var("txn.gateway_" .. name, value)
    end
    txn:set_var("txn.gateway", "allow")
end

core.register_action("ask_gateway", { "http-req" }, function(txn)
    local answer = core.httpclient():get({
        url = URL, dst = WHERE, timeout = TIMEOUT_MS, headers = question(txn),
    })
    if answer.status == 200 then
        allow(txn, answer)
    elseif answer.headers ~= nil and answer.headers["x-auth-reason"] ~= nil then
        refuse(txn, answer)
    end
end, 0)
