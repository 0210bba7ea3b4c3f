-- Shows the contact protocol in Wireshark and tshark: hello, commands, answers, one line for each.
--
--   tshark -X lua_script:contacts.lua -r run.pcapng
--   tshark -X lua_script:contacts.lua -r run.pcapng -Y 'contacts.command == "Update"' -T fields -e contacts.user
--
-- In Wireshark: copy this file into the folder that Help > About > Folders calls "Personal Lua Plugins",
-- then Analyze > Reload Lua Plugins. A display filter of `contacts` leaves this protocol only.
--
-- A connection is recognised by its hello, on any port. The hello's first segment must hold the role and at
-- least three bytes of the name; fewer would claim connections of other protocols. Where that fails (a peer
-- that writes the role alone, a broken hello), or where another protocol owns the port, name the port:
--   tshark -o contacts.port:4747 …          or -d tcp.port==4747,contacts
--   Wireshark: Preferences > Protocols > Contacts, or Analyze > Decode As…
--
-- What a byte means depends on the bytes before it: an answer's records have no command byte, and 2 is ListAll
-- from a client but HeartBeat from a server. So the capture has to hold the beginning of the connection.
-- Segments that were lost, or that the capture shows in another order, need
--   -o tcp.reassemble_out_of_order:TRUE

local contacts = Proto("contacts", "Contact Protocol")

contacts.prefs.port = Pref.range("TCP ports", "",
    "Ports whose connections are the contact protocol, even if their hello is not recognised", 65535)

local ROLES = { [1] = "server", [2] = "client" }
local HEALTH = { [1] = "healthy", [2] = "degraded", [3] = "stopping" }

local HELLO_SIZE = 257
local COUNT_LIMIT = 2 ^ 24  -- a ContactLen below it begins with a zero byte, which is no command

-- Fields --------------------------------------------------------------------------------------------------

local f = {
    role = ProtoField.uint8("contacts.role", "Role", base.DEC, ROLES),
    name = ProtoField.string("contacts.name", "Name"),
    -- Text, not a number: the byte alone does not tell ListAll from HeartBeat.
    command = ProtoField.string("contacts.command", "Command"),
    clock = ProtoField.uint32("contacts.clock", "Clock"),
    health = ProtoField.uint8("contacts.health", "HealthStatus", base.DEC, HEALTH),
    count = ProtoField.uint32("contacts.count", "ContactLen"),
    user = ProtoField.string("contacts.user", "UserName"),
    contact = ProtoField.string("contacts.contact", "ContactName"),
    phone = ProtoField.string("contacts.phone", "PhoneNumber"),
    record = ProtoField.uint32("contacts.record", "Record number"),
    padding = ProtoField.bytes("contacts.padding", "Padding"),
    unknown = ProtoField.bytes("contacts.unknown", "Not understood"),
}
contacts.fields = f

local function expert_info(name, text, group, severity)
    return ProtoExpert.new("contacts.expert." .. name, text, group, severity)
end

local e = {
    role = expert_info("role", "The role is neither 1 (server) nor 2 (client)",
        expert.group.PROTOCOL, expert.severity.ERROR),
    health = expert_info("health", "The HealthStatus is not 1, 2 or 3",
        expert.group.PROTOCOL, expert.severity.WARN),
    count = expert_info("count", "The ContactLen is not below 2^24: no book is that large",
        expert.group.PROTOCOL, expert.severity.ERROR),
    empty = expert_info("empty", "The value is empty",
        expert.group.PROTOCOL, expert.severity.WARN),
    utf8 = expert_info("utf8", "The value is not UTF-8",
        expert.group.MALFORMED, expert.severity.ERROR),
    control = expert_info("control", "The value has a control character",
        expert.group.PROTOCOL, expert.severity.WARN),
    padding = expert_info("padding", "The padding is not zero; a reader ignores it",
        expert.group.PROTOCOL, expert.severity.NOTE),
    no_hello = expert_info("no_hello",
        "No hello here: the capture began too late, or this is another protocol",
        expert.group.PROTOCOL, expert.severity.WARN),
    no_command = expert_info("no_command",
        "No command begins with this byte; a server closes the connection",
        expert.group.MALFORMED, expert.severity.ERROR),
    cut = expert_info("cut",
        "The message is not whole, and cannot be: the capture cut it, or TCP reassembly is off",
        expert.group.MALFORMED, expert.severity.WARN),
    lost = expert_info("lost",
        "What came before was not understood, so these bytes have no meaning",
        expert.group.PROTOCOL, expert.severity.NOTE),
}
contacts.experts = e

-- Messages ------------------------------------------------------------------------------------------------

local ROLE = { key = "role", size = 1, fault = function(value) return not ROLES[value] and e.role end }
local NAME = { key = "name", size = 256, text = true }
local COUNT = { key = "count", size = 4, fault = function(value) return value >= COUNT_LIMIT and e.count end }
local CLOCK = { key = "clock", size = 4 }
local HEALTH_STATUS = { key = "health", size = 1, fault = function(value) return not HEALTH[value] and e.health end }
local USER = { key = "user", size = 256, text = true }
local CONTACT = { key = "contact", size = 256, text = true }
local PHONE = { key = "phone", size = 20, text = true }

local function new_message(kind, parts)
    local size = 0
    for _, part in ipairs(parts) do size = size + part.size end
    return { kind = kind, parts = parts, size = size }
end

local function new_command(name, parts)
    local result = new_message(name, parts)
    result.is_command = true
    result.size = result.size + 1
    return result
end

local HELLO = new_message("hello", { ROLE, NAME })
local ANSWER = new_message("answer", { COUNT })
local RECORD = new_message("record", { USER, CONTACT, PHONE })
local CLOCKED_RECORD = new_message("record", { CLOCK, USER, CONTACT, PHONE })

-- What a direction of a connection may send next, by the first byte. "any" stands for every byte.
local expectations = {
    hello = { any = HELLO },
    client_commands = {
        [1] = new_command("Update", { USER, CONTACT, PHONE }),
        [2] = new_command("ListAll", {}),
    },
    client_answers = { any = ANSWER },
    client_records = { any = RECORD },
    server_messages = {
        [0] = ANSWER,
        [1] = new_command("Update", { CLOCK, USER, CONTACT, PHONE }),
        [2] = new_command("HeartBeat", { HEALTH_STATUS, CLOCK }),
        [3] = new_command("UpdateClock", { CLOCK }),
        [4] = new_command("AskForUpdate", {}),
    },
    server_records = { any = CLOCKED_RECORD },
    nothing = {},
}

-- By the role of the hello.
local from_dialler = { [1] = "server_messages", [2] = "client_commands" }
local from_accepter = { [1] = "server_messages", [2] = "client_answers" }
local records_after = { server_messages = "server_records", client_answers = "client_records" }

-- Text ----------------------------------------------------------------------------------------------------

-- The sequences of UTF-8 (RFC 3629, section 4): nothing overlong, no surrogates, nothing above U+10FFFF.
local UTF8_SEQUENCES = {
    "^[\1-\127]+",
    "^[\194-\223][\128-\191]",
    "^\224[\160-\191][\128-\191]",
    "^[\225-\236\238\239][\128-\191][\128-\191]",
    "^\237[\128-\159][\128-\191]",
    "^\240[\144-\191][\128-\191][\128-\191]",
    "^[\241-\243][\128-\191][\128-\191][\128-\191]",
    "^\244[\128-\143][\128-\191][\128-\191]",
}

-- Wireshark wants UTF-8, so each byte that is none becomes U+FFFD. (TvbRange:string would do it, but Wireshark 4.0
-- cuts what it returns to the range's number of bytes.)
local function with_replacements(bytes)
    local result = {}
    local position = 1
    while position <= #bytes do
        local first, last
        for _, sequence in ipairs(UTF8_SEQUENCES) do
            first, last = bytes:find(sequence, position)
            if first then break end
        end
        table.insert(result, first and bytes:sub(first, last) or "\239\191\189")
        position = (last or position) + 1
    end
    return table.concat(result)
end

local function is_utf8(bytes)
    return with_replacements(bytes) == bytes
end

-- The control characters of Unicode: U+0000 to U+001F, U+007F, and U+0080 to U+009F.
local CONTROL_CHARACTERS = { "[\0-\31\127]", "\194[\128-\159]" }

local function has_control_character(bytes)
    for _, pattern in ipairs(CONTROL_CHARACTERS) do
        if bytes:find(pattern) then return true end
    end
    return false
end

-- A column and a title are one line.
local function on_one_line(text)
    for _, pattern in ipairs(CONTROL_CHARACTERS) do
        text = text:gsub(pattern, "?")
    end
    return text
end

local function text_fault(bytes)
    if bytes == "" then return e.empty end
    if not is_utf8(bytes) then return e.utf8 end
    if has_control_character(bytes) then return e.control end
end

local function value_and_padding(field)
    local value = field:match("^[^\0]*")
    return value, field:sub(#value + 1)
end

-- State ---------------------------------------------------------------------------------------------------

-- Wireshark dissects the frames in order once, and later single ones in any order. So `connections`, which
-- moves along with the bytes, is used on that first pass only. What it said at the beginning of each piece
-- of a frame is kept in `remembered`.
local connections
local remembered

function contacts.init()
    connections = {}
    remembered = {}
end

local function endpoints(pinfo)
    return pinfo.src_port .. " " .. tostring(pinfo.src), pinfo.dst_port .. " " .. tostring(pinfo.dst)
end

local function connection_key(pinfo)
    local source, destination = endpoints(pinfo)
    if source < destination then return source .. " " .. destination end
    return destination .. " " .. source
end

local function begin_connection(pinfo)
    connections[connection_key(pinfo)] = { directions = {} }
    -- From here on, TCP hands over both directions without a look at ports or heuristics.
    pinfo.conversation = contacts
end

-- Is this called for a port, and not for the conversation? TCP asks its table of ports only while a conversation
-- has no dissector: at its beginning, also when the same two ports are used once more.
local function is_called_by_port(pinfo)
    return pinfo.match == pinfo.src_port or pinfo.match == pinfo.dst_port
end

-- A segment may end inside a hello, but then as much of it as there is must fit. `minimum` is how many bytes
-- it takes to believe that.
local function begins_hello(tvb, minimum)
    if tvb:len() < minimum then return false end
    local bytes = tvb:raw(0, math.min(tvb:len(), HELLO_SIZE))
    local name, padding = value_and_padding(bytes:sub(2))
    if not ROLES[bytes:byte(1)] or padding:find("[^\0]") or has_control_character(name) then return false end
    if #bytes < HELLO_SIZE then
        if #padding == 0 then name = name:gsub("[\192-\244][\128-\191]*$", "") end  -- a character may be cut
        return is_utf8(name) and (name ~= "" or #bytes == 1)
    end
    if name == "" or not is_utf8(name) then return false end
    -- A client's Update begins like the hello of a server. But then no command follows, but a ContactName.
    return tvb:len() == HELLO_SIZE or expectations[from_dialler[bytes:byte(1)]][tvb(HELLO_SIZE, 1):uint()] ~= nil
end

local function first_expectation(connection, tvb)
    if connection.role then return from_accepter[connection.role] or "nothing" end
    -- 257 bytes and no more are a hello even if it is a bad one: then its fields say what is wrong.
    if tvb:len() == HELLO_SIZE or begins_hello(tvb, 1) then return "hello" end
    return "nothing"
end

local function copy(state)
    local result = {}
    for key, value in pairs(state) do result[key] = value end
    return result
end

-- The state at the first byte of `tvb`: what is expected, and in an answer how many records there are and
-- have been. `connection` is nil if this is not the first pass. Both are nil for a piece that did not come by on
-- the first pass, as the connection was not recognised yet.
local function state_of(tvb, pinfo)
    local source = endpoints(pinfo)
    -- TCP calls twice for a frame that ends one message and holds more: first with the reassembled message,
    -- whose offset is 0, then with the rest of the segment, which stands behind its headers.
    local piece = pinfo.number .. " " .. source .. " " .. tvb:offset()
    if pinfo.visited then return remembered[piece] and copy(remembered[piece]) end
    if not connections[connection_key(pinfo)] then begin_connection(pinfo) end
    local connection = connections[connection_key(pinfo)]
    local state = connection.directions[source]
    if not state then
        state = { expected = first_expectation(connection, tvb) }
        state.no_hello = state.expected == "nothing" or nil
        connection.directions[source] = state
    end
    state.follows = connection.last_frame == pinfo.number  -- the second call for this frame
    connection.last_frame = pinfo.number
    remembered[piece] = copy(state)
    return state, connection
end

local function advance(state, connection, message, values)
    if message == HELLO then
        state.expected = from_dialler[values.role] or "nothing"
        if connection then connection.role = values.role end
    elseif message == ANSWER then
        if values.count >= COUNT_LIMIT then
            state.expected = "nothing"
        elseif values.count > 0 then
            state.after_records = state.expected
            state.expected = records_after[state.expected]
            state.count, state.record = values.count, 0
        end
    elseif message.kind == "record" then
        state.record = state.record + 1
        if state.record == state.count then state.expected = state.after_records end
    end
end

-- The tree and the Info column ----------------------------------------------------------------------------

local function add_text(tree, part, tvb, offset)
    local value, padding = value_and_padding(tvb:raw(offset, part.size))
    -- An empty value has no bytes that could be marked in the hex view, so its padding is.
    local text = with_replacements(value)
    local item = tree:add(f[part.key], tvb(offset, #value > 0 and #value or part.size), text)
    local fault = text_fault(value)
    if fault then item:add_proto_expert_info(fault) end
    if #padding > 0 then
        local padding_item = tree:add(f.padding, tvb(offset + #value, #padding))
        padding_item:set_text("Padding: " .. #padding .. " bytes")
        if padding:find("[^\0]") then padding_item:add_proto_expert_info(e.padding) end
    end
    return on_one_line(text)
end

local function add_number(tree, part, tvb, offset)
    local range = tvb(offset, part.size)
    local value = range:uint()
    local item = tree:add(f[part.key], range)
    local fault = part.fault and part.fault(value)
    if fault then item:add_proto_expert_info(fault) end
    return value
end

local function add_parts(tree, message, tvb, offset)
    local values = {}
    if message.is_command then
        tree:add(f.command, tvb(offset, 1), message.kind):append_text(" (" .. tvb(offset, 1):uint() .. ")")
        offset = offset + 1
    end
    for _, part in ipairs(message.parts) do
        local add = part.text and add_text or add_number
        values[part.key] = add(tree, part, tvb, offset)
        offset = offset + part.size
    end
    return values
end

local function counted(number, noun)
    return ("%d %s%s"):format(number, noun, number == 1 and "" or "s")
end

local function summary(message, values)
    if message == HELLO then
        return ("hello %s '%s'"):format(ROLES[values.role] or "role " .. values.role, values.name)
    elseif message == ANSWER then
        return "answer: " .. counted(values.count, "contact")
    end
    local words = { message.kind }
    if values.health then table.insert(words, HEALTH[values.health] or "health " .. values.health) end
    if values.clock then table.insert(words, ("clock %d"):format(values.clock)) end
    if values.user then
        table.insert(words, ("%s/%s = %s"):format(values.user, values.contact, values.phone))
    end
    return table.concat(words, " ")
end

local MOST_IN_A_ROW = 3
local MOST_IN_INFO = 8

-- Joins the summaries of a frame. Many of one kind in a row become one ("Update x 40").
local function joined(summaries)
    local shown = {}
    local first = 1
    while first <= #summaries do
        local last = first
        while summaries[last + 1] and summaries[last + 1].kind == summaries[first].kind do last = last + 1 end
        if #shown >= MOST_IN_INFO then
            table.insert(shown, "and " .. #summaries - first + 1 .. " more")
            break
        end
        if last - first + 1 > MOST_IN_A_ROW then
            table.insert(shown, summaries[first].kind .. " x " .. last - first + 1)
        else
            for index = first, last do table.insert(shown, summaries[index].text) end
        end
        first = last + 1
    end
    return table.concat(shown, ", ")
end

-- The dissector -------------------------------------------------------------------------------------------

-- What the frame that is being dissected shows so far. For the Info column, as TCP may call twice for a frame.
local frame_summaries

-- What a piece shows. Its tree is made when there is a message to put into it: a segment that only brings bytes
-- of a message to come shall not match the filter `contacts`.
local function new_view(tvb, root)
    return { tvb = tvb, root = root, summaries = {} }
end

local function tree_of(view)
    view.tree = view.tree or view.root:add(contacts, view.tvb())
    return view.tree
end

local function add_summary(view, kind, text)
    table.insert(view.summaries, { kind = kind, text = text })
    table.insert(frame_summaries, { kind = kind, text = text })
end

local function add_message(view, offset, message, state, connection)
    local branch = tree_of(view):add(view.tvb(offset, message.size), message.kind)
    local values = add_parts(branch, message, view.tvb, offset)
    local text = summary(message, values)
    advance(state, connection, message, values)
    if message.kind == "record" then
        branch:add(f.record, state.record):set_generated()
        branch:set_text(("%s (%d of %d)"):format(text, state.record, state.count))
    else
        branch:set_text(text)
    end
    add_summary(view, message.kind, text)
end

local function add_unknown(view, offset, reason, state)
    local range = view.tvb(offset)
    tree_of(view):add(f.unknown, range):add_proto_expert_info(reason)
    add_summary(view, "unknown", counted(range:len(), "byte") .. " not understood")
    -- Where the next message begins is not known, and a guess would be shown as if it were the truth.
    state.expected, state.no_hello = "nothing", nil
end

local function why_nothing_fits(state)
    if state.no_hello then return e.no_hello end
    return state.expected == "nothing" and e.lost or e.no_command
end

-- Adds all whole messages. Of one that is not whole, TCP is asked for what is missing and calls again when it
-- is there. It is always asked for one message and never for a whole answer, which would be gathered, copied
-- and shown in a single frame.
local function add_messages(view, pinfo, state, connection)
    local tvb = view.tvb
    local offset = 0
    while offset < tvb:len() do
        local expected = expectations[state.expected]
        local message = expected[tvb(offset, 1):uint()] or expected.any
        if not message then return add_unknown(view, offset, why_nothing_fits(state), state) end
        local missing = message.size - (tvb:len() - offset)
        if missing > 0 then
            if pinfo.can_desegment == 0 then return add_unknown(view, offset, e.cut, state) end
            pinfo.desegment_offset = offset
            pinfo.desegment_len = missing
            return
        end
        add_message(view, offset, message, state, connection)
        offset = offset + message.size
    end
end

local function dissect(tvb, pinfo, root)
    if not pinfo.visited and is_called_by_port(pinfo) then begin_connection(pinfo) end
    local state, connection = state_of(tvb, pinfo)
    if not state then return 0 end  -- TCP shows the bytes, as it did on the first pass
    if not (state.follows and frame_summaries) then frame_summaries = {} end
    local view = new_view(tvb, root)
    add_messages(view, pinfo, state, connection)
    if view.tree then
        view.tree:append_text(": " .. joined(view.summaries))
        pinfo.cols.protocol = "Contacts"
        if state.follows then pinfo.cols.info:clear_fence() end  -- TCP protects what the first call wrote
        pinfo.cols.info = joined(frame_summaries)
    end
    return tvb:len()
end

contacts.dissector = dissect

-- Registration --------------------------------------------------------------------------------------------

local HEURISTIC_MINIMUM = 4  -- the role and three bytes of the name

contacts:register_heuristic("tcp", function(tvb, pinfo, root)
    if not begins_hello(tvb, HEURISTIC_MINIMUM) then return false end
    if not pinfo.visited then begin_connection(pinfo) end
    dissect(tvb, pinfo, root)  -- not contacts.dissector: Wireshark lets that one no longer ask for more bytes
    return true
end)

local tcp_ports = DissectorTable.get("tcp.port")
tcp_ports:add_for_decode_as(contacts)

local ports = ""
function contacts.prefs_changed()
    if ports ~= "" then tcp_ports:remove(ports, contacts) end
    ports = contacts.prefs.port
    if ports ~= "" then tcp_ports:add(ports, contacts) end
end
