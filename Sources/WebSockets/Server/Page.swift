/// The page at `/`: a client in plain JavaScript. A browser's `WebSocket` does what the rest of this library does.
enum Page {
  /// Nothing but this page's own script and style, and WebSockets.
  static let fields: [HTTPHead.Field] = [
    .init(
      "Content-Security-Policy",
      "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src ws: wss:; "
        + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    .init("Referrer-Policy", "no-referrer"),
  ]

  static func text(of server: String) -> String {
    let name = server.map { ["&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;"][$0] ?? String($0) }
      .joined()
    return template.replacing("SERVER", with: name)
  }

  private static let template = #"""
    <!DOCTYPE html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <link rel="icon" href="data:,">
    <title>SERVER: WebSocket</title>
    <style>
      :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
      body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
      form { display: flex; flex-wrap: wrap; gap: .5rem; }
      #text { flex: 1 1 16rem; }
      input, button { font: inherit; padding: .3rem .6rem; }
      #log { list-style: none; padding: 0; font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
      #log li { white-space: pre-wrap; border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent); padding: .2rem 0; }
      #log .note { opacity: .7; }
    </style>
    <h1>SERVER</h1>
    <p>State: <strong id="state">not connected</strong></p>
    <form id="form">
      <input id="text" placeholder="a message" autocomplete="off" aria-label="message">
      <button id="one">To the server</button>
      <button id="all">To all</button>
      <button id="close" type="button">Close</button>
      <button id="open" type="button">Open</button>
    </form>
    <ul id="log" aria-live="polite"></ul>
    <script>
      'use strict';
      const element = id => document.getElementById(id);
      let socket = null;

      function log(text, kind) {
        const item = document.createElement('li');
        item.textContent = text;
        if (kind) item.className = kind;
        element('log').prepend(item);
        while (element('log').childElementCount > 500) element('log').lastChild.remove();
      }

      function show(state) {
        element('state').textContent = state;
        const isOpen = socket !== null && socket.readyState === WebSocket.OPEN;
        for (const id of ['one', 'all', 'close']) element(id).disabled = !isOpen;
        element('open').disabled = socket !== null && socket.readyState < WebSocket.CLOSING;
      }

      function open() {
        const scheme = location.protocol === 'https:' ? 'wss://' : 'ws://';
        const opened = socket = new WebSocket(scheme + location.host + '/ws', 'named.socketsteps');
        socket.binaryType = 'arraybuffer';
        show('connecting');
        socket.onopen = () => { show('open'); log('open', 'note'); };
        socket.onmessage = event => {
          if (typeof event.data !== 'string') return log('← ' + event.data.byteLength + ' bytes');
          // One for all has its sender before it: "/all B 127.0.0.1:5000", a line end, the text.
          const end = event.data.indexOf('\n');
          if (event.data.startsWith('/all ') && end > 0) {
            log('← ' + event.data.slice(end + 1) + '   (for all, from ' + event.data.slice(5, end) + ')');
          } else {
            log('← ' + event.data);
          }
        };
        socket.onclose = event => {
          if (socket !== opened) return;
          show('closed');
          log('closed: ' + event.code + (event.reason ? ' ' + event.reason : ''), 'note');
        };
      }

      function send(mark) {
        const text = element('text').value;
        if (text === '' || socket === null || socket.readyState !== WebSocket.OPEN) return;
        if (mark === '' && text.startsWith('/all ')) {
          return log('a message that begins with "/all " is one for all: leave that out, and press "To all"', 'note');
        }
        socket.send(mark + text);
        log('→ ' + text + (mark ? '   (for all)' : ''));
        element('text').value = '';
        element('text').focus();
      }

      element('form').onsubmit = event => {
        event.preventDefault();
        send(event.submitter === element('all') ? '/all ' : '');
      };
      element('close').onclick = () => socket.close(1000, 'the page says goodbye');
      element('open').onclick = open;
      open();
    </script>
    </html>
    """#
}
